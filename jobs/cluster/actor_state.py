"""A pool's knowledge of one of its actors, and its words for losses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import OutOfMemoryError, RayError

from batchseg.recipe import PoolSpec
from batchseg.workers.events import LossKind
from batchseg.workers.happenings import Happening, SpotNoticed, SpotWatcherLost
from batchseg.workers.pool import PoolEvent
from batchseg.workers.worker import WorkerSpec


@dataclass(slots=True)
class ActorState:
    """The pool's knowledge of one actor."""

    handle: Any
    """Ray's handle of the actor."""
    spec: WorkerSpec
    pool: PoolSpec
    asked_s: float
    """The time when the pool asked Ray for it."""
    node: str | None = None
    """The node that it runs on; None before Ray has placed it."""
    placed_s: float = 0.0
    is_ready: bool = False
    is_draining: bool = False
    num_held: int = 0
    idle_since_s: float = 0.0

    @property
    def name(self) -> str:
        return self.spec.name


def make_notice_reader(node: str) -> Callable[[Any], list[PoolEvent | Happening]]:
    """A function that reads the answer of a node's NoticeWatcher."""

    def take(ref: Any) -> list[PoolEvent | Happening]:
        try:
            return [SpotNoticed(node=node, why=ray.get(ref))]
        except RayError as error:
            return [SpotWatcherLost(node=node, why=describe_loss(error))]

    return take


def describe_loss(error: RayError) -> str:
    """The first line of the reason for a loss."""
    return str(getattr(error, "cause", None) or error).splitlines()[0]


def classify_loss(error: RayError) -> LossKind:
    """Out of memory: when a node's memory is nearly full, Ray's memory monitor kills the actor that uses most of it."""
    short_of_memory = isinstance(error, OutOfMemoryError) or "low on memory" in str(error)
    return "out_of_memory" if short_of_memory else "preemption"
