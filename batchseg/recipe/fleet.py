"""The fleet: workers, prices and retries. Nothing here changes an output byte, so a resume may change all of it."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Literal

from batchseg.errors import RecipeError
from batchseg.schema import setting


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolSpec:
    """Workers of one kind."""

    name: str = setting("local", doc="name of the pool in logs and reports")
    workers: int = setting(1, doc="largest number of workers; a run asks for fewer when fewer tasks are left")
    min_workers: int = setting(0, doc="number of workers that stay without work, so that their nodes stay too")
    only: Literal["bulk", "heavy"] | None = setting(
        None,
        doc="tier that the pool is limited to; it takes only chunks that are known to need no other tier",
    )
    device: Literal["auto", "cpu", "cuda"] = setting(
        "auto", doc="device of the workers; auto: CUDA where a worker gets a GPU (on Ray: `gpus` above 0), else CPU"
    )
    usd_per_hour: float = setting(0.34, doc="price of one worker in $ per hour; default: an 8-core cloud machine")
    cpus: float = setting(1.0, doc="CPUs that one worker asks of Ray")
    gpus: float = setting(0.0, doc="GPUs that one worker asks of Ray; workers with fractions share one")
    resources: dict[str, float] = setting(dict, doc="further resources that one worker asks of Ray, like {spot: 1}")

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise RecipeError(
                "a pool must have at least one worker", where=f"pools: {self.name}", got=str(self.workers)
            )
        if not 0 <= self.min_workers <= self.workers:
            raise RecipeError(
                "min_workers must not be more than workers",
                where=f"pools: {self.name}: min_workers",
                expected=f"0 to {self.workers}",
                got=str(self.min_workers),
            )
        if not re.fullmatch(r"\w[\w.-]*", self.name):
            raise RecipeError(
                "the name of a pool must be usable in file names",
                where="pools: name",
                expected="letters, digits, `-`, `_` and `.`",
                got=repr(self.name),
            )
        amounts = {"usd_per_hour": self.usd_per_hour, "cpus": self.cpus, "gpus": self.gpus, **self.resources}
        for key, amount in amounts.items():
            _check_amount(amount, f"pools: {self.name}: {key}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Retries:
    """Limits after which a chunk is given up."""

    failures: int = setting(3, doc="number of failed attempts after which a chunk is quarantined")
    preemptions: int = setting(20, doc="number of lost workers after which a chunk is quarantined")

    def __post_init__(self) -> None:
        if min(self.failures, self.preemptions) < 1:
            raise RecipeError(
                "a chunk must have at least one attempt",
                where="retries",
                got=f"failures {self.failures}, preemptions {self.preemptions}",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """Times that a run waits for a worker, a task, a read and a scene before it goes on without."""

    times_median: float = setting(10.0, doc="limit for a task, in multiples of the median of its kind in the same pool")
    least_s: float = setting(120.0, doc="shortest time before a worker is ended, in seconds")
    most_s: float | None = setting(
        7200.0,
        doc="deadline for every task, in seconds, whatever the median; raise it for longer chunks; null: none",
    )
    read_s: float = setting(
        300.0, doc="time limit for one read of a scene, in seconds; a scene whose reads hang counts as absent"
    )
    stop_s: float = setting(
        30.0, doc="time that a run which is told to stop by a signal waits for the tasks in hand, in seconds"
    )
    start_s: float = setting(
        900.0, doc="time that a run waits for its first worker, and for the models of a worker to open, in seconds"
    )
    scene_s: float = setting(
        60.0,
        doc="time over which a run looks three times for a scene that it cannot read any more, in seconds; the scene's "
        "chunks are tried last",
    )

    def __post_init__(self) -> None:
        if not 1 < self.times_median < math.inf:
            raise RecipeError(
                "times_median must be more than 1, or half of all workers are ended", where="patience: times_median"
            )
        for key in ("least_s", "most_s", "read_s", "stop_s", "start_s", "scene_s"):
            amount = getattr(self, key)
            if amount is not None and not 0 < amount < math.inf:
                raise RecipeError("a time to wait must be positive", where=f"patience: {key}", got=str(amount))


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """The workers of a run, their prices, and when the run gives up."""

    pools: tuple[PoolSpec, ...] = setting(lambda: (PoolSpec(),), doc="pools of workers")
    head_usd_per_hour: float = setting(0.0, doc="price of the machine that drives the run, in $ per hour")
    retries: Retries = setting(Retries, doc="when a chunk is given up")
    patience: Patience = setting(Patience, doc="how long a run waits before it goes on without")
    ec2_notice: str | None = setting(
        None, doc="address of EC2's spot notices, which every node then watches: http://169.254.169.254"
    )
    max_usd: float | None = setting(None, doc="dollars at which the run starts no more tasks; exit status 4, resumable")

    def __post_init__(self) -> None:
        if not self.pools:
            raise RecipeError("a fleet must have at least one pool", where="pools")
        names = [pool.name for pool in self.pools]
        if len(set(names)) < len(names):
            raise RecipeError("the names of pools must differ", where="pools", got=", ".join(names))
        _check_amount(self.head_usd_per_hour, "head_usd_per_hour")
        if self.ec2_notice is not None and not re.match(r"https?://.", self.ec2_notice):
            raise RecipeError(
                "ec2_notice must be an address", where="ec2_notice", expected="http://…", got=repr(self.ec2_notice)
            )
        if self.max_usd is not None and not self.max_usd > 0:
            raise RecipeError("max_usd must be positive", where="max_usd", got=str(self.max_usd))


def _check_amount(amount: float, where: str) -> None:
    if not 0 <= amount < math.inf:
        raise RecipeError(
            "an amount must not be negative or infinite", where=where, expected="0 or more", got=str(amount)
        )
