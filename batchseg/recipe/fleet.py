"""The fleet: workers, prices, retries. Nothing here changes a byte of output, so a resume may change it."""

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
    workers: int = setting(1, doc="how many workers at most; fewer are asked for when fewer tasks are left")
    min_workers: int = setting(0, doc="workers that stay even without work, so that their nodes do too")
    only: Literal["bulk", "heavy"] | None = setting(
        None, doc="take only chunks that are known beforehand to need no other tier than this"
    )
    device: Literal["auto", "cpu", "cuda"] = setting(
        "auto", doc="auto: CUDA where a worker gets a GPU (on Ray: `gpus` above 0), else CPU"
    )
    usd_per_hour: float = setting(0.34, doc="price of one worker; the default is that of a 8-core cloud machine")
    cpus: float = setting(1.0, doc="Ray: CPUs that one worker asks for")
    gpus: float = setting(0.0, doc="Ray: GPUs that one worker asks for; fractions share one")
    resources: dict[str, float] = setting(dict, doc="Ray: further resources, like {spot: 1}")

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise RecipeError("a pool has at least one worker", where=f"pools: {self.name}", got=str(self.workers))
        if not 0 <= self.min_workers <= self.workers:
            raise RecipeError(
                "the least number of workers is more than the most",
                where=f"pools: {self.name}: min_workers",
                expected=f"0 to {self.workers}",
                got=str(self.min_workers),
            )
        if not re.fullmatch(r"\w[\w.-]*", self.name):
            raise RecipeError(
                "a pool's name is part of file names",
                where="pools: name",
                expected="letters, digits, `-`, `_` and `.`",
                got=repr(self.name),
            )
        amounts = {"usd_per_hour": self.usd_per_hour, "cpus": self.cpus, "gpus": self.gpus, **self.resources}
        for key, amount in amounts.items():
            _check_amount(amount, f"pools: {self.name}: {key}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Retries:
    failures: int = setting(3, doc="attempts that may fail before a chunk is quarantined")
    preemptions: int = setting(20, doc="workers that a chunk may lose before it is quarantined")

    def __post_init__(self) -> None:
        if min(self.failures, self.preemptions) < 1:
            raise RecipeError(
                "a chunk needs at least one attempt",
                where="retries",
                got=f"failures {self.failures}, preemptions {self.preemptions}",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """When a worker that does not come back with its task is ended, and the task given to another one."""

    times_median: float = setting(10.0, doc="so many times as long as its pool's median for tasks of this kind")
    least_s: float = setting(120.0, doc="but never before so many seconds")
    most_s: float | None = setting(None, doc="a deadline for any task, median or not")
    start_s: float = setting(
        900.0, doc="how long a run waits for a first worker, and for the models of a worker to open"
    )

    def __post_init__(self) -> None:
        if not 1 < self.times_median < math.inf:
            raise RecipeError("this ends half of all workers", where="patience: times_median", expected="more than 1")
        for key, amount in (("least_s", self.least_s), ("most_s", self.most_s), ("start_s", self.start_s)):
            if amount is not None and not 0 < amount < math.inf:
                raise RecipeError("this is no time to wait", where=f"patience: {key}", got=str(amount))


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    pools: tuple[PoolSpec, ...] = setting(lambda: (PoolSpec(),), doc="pools of workers")
    head_usd_per_hour: float = setting(0.0, doc="price of the machine that drives the run")
    retries: Retries = setting(Retries, doc="when to give a chunk up")
    patience: Patience = setting(Patience, doc="when a worker is ended because it does not come back")
    ec2_notice: str | None = setting(
        None, doc="watch EC2's spot notices on every node, at this address: http://169.254.169.254"
    )
    max_usd: float | None = setting(None, doc="stop feeding when the run has cost this much; exit status 4, resumable")

    def __post_init__(self) -> None:
        if not self.pools:
            raise RecipeError("a fleet has at least one pool", where="pools")
        names = [pool.name for pool in self.pools]
        if len(set(names)) < len(names):
            raise RecipeError("pools need different names", where="pools", got=", ".join(names))
        _check_amount(self.head_usd_per_hour, "head_usd_per_hour")
        if self.ec2_notice is not None and not re.match(r"https?://.", self.ec2_notice):
            raise RecipeError("this is no address", where="ec2_notice", expected="http://…", got=repr(self.ec2_notice))
        if self.max_usd is not None and not self.max_usd > 0:
            raise RecipeError("a budget has to be more than nothing", where="max_usd", got=str(self.max_usd))


def _check_amount(amount: float, where: str) -> None:
    if not 0 <= amount < math.inf:
        raise RecipeError("this cannot be an amount", where=where, expected="0 or more", got=str(amount))
