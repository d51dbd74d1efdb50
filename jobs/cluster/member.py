"""One actor of a pool as its pool knows it, and the words for what became of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import OutOfMemoryError, RayError

from batchseg.recipe import PoolSpec
from batchseg.workers.events import LossKind
from batchseg.workers.happenings import Happening, SpotNoticed, SpotWatcherLost
from batchseg.workers.pool import PoolEvent
from batchseg.workers.worker import WorkerSpec
from jobs.cluster.connection import describe_resources, fits_on_a_node, list_demand


@dataclass(slots=True)
class Member:
    """One actor of the pool, as its pool knows it."""

    handle: Any
    spec: WorkerSpec
    pool: PoolSpec
    asked_s: float
    node: str | None = None
    placed_s: float = 0.0
    is_ready: bool = False
    is_draining: bool = False
    num_held: int = 0
    idle_since_s: float = 0.0

    @property
    def name(self) -> str:
        return self.spec.name


def describe_unplaced(nowhere: Iterable[Member]) -> list[str]:
    pools = {actor.pool.name: actor.pool for actor in nowhere}
    names = [actor.pool.name for actor in nowhere]
    texts = []
    for name, pool in pools.items():
        wants = list_demand(pool)
        where = "is full" if fits_on_a_node(wants) else "has no node for it"
        texts.append(
            f"{names.count(name)} of pool {name} wait for {describe_resources(wants)}, and the cluster {where}"
        )
    return texts


def make_notice_reader(node: str) -> Callable[[Any], list[PoolEvent | Happening]]:
    def take(ref: Any) -> list[PoolEvent | Happening]:
        try:
            return [SpotNoticed(node=node, why=ray.get(ref))]
        except RayError as error:
            return [SpotWatcherLost(node=node, why=describe_loss(error))]

    return take


def describe_loss(error: RayError) -> str:
    return str(getattr(error, "cause", None) or error).splitlines()[0]


def classify_loss(error: RayError) -> LossKind:
    """Ray's memory monitor kills the actor of the most memory when its node is nearly full."""
    short_of_memory = isinstance(error, OutOfMemoryError) or "low on memory" in str(error)
    return "out_of_memory" if short_of_memory else "preemption"
