"""The fleet: workers, prices, retries. Nothing here changes a byte of output, so a resume may change it."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Literal

from batchseg.errors import RecipeError
from batchseg.recipe.build import setting


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolSpec:
    """Workers of one kind."""

    name: str = setting("local", doc="name of the pool in logs and reports")
    workers: int = setting(1, doc="how many workers")
    device: Literal["auto", "cpu", "cuda"] = setting("auto", doc="auto: CUDA where there is one, else CPU")
    usd_per_hour: float = setting(0.34, doc="price of one worker; the default is that of a 8-core cloud machine")
    cpus: float = setting(1.0, doc="Ray: CPUs that one worker asks for")
    gpus: float = setting(0.0, doc="Ray: GPUs that one worker asks for; fractions share one")
    resources: dict[str, float] = setting(dict, doc="Ray: further resources, like {spot: 1}")

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise RecipeError("a pool has at least one worker", where=f"pools: {self.name}", got=str(self.workers))
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
class Fleet:
    pools: tuple[PoolSpec, ...] = setting(lambda: (PoolSpec(),), doc="pools of workers")
    head_usd_per_hour: float = setting(0.0, doc="price of the machine that drives the run")
    retries: Retries = setting(Retries, doc="when to give a chunk up")
    max_usd: float | None = setting(None, doc="stop feeding when the run has cost this much; exit status 4, resumable")

    def __post_init__(self) -> None:
        if not self.pools:
            raise RecipeError("a fleet has at least one pool", where="pools")
        names = [pool.name for pool in self.pools]
        if len(set(names)) < len(names):
            raise RecipeError("pools need different names", where="pools", got=", ".join(names))
        _check_amount(self.head_usd_per_hour, "head_usd_per_hour")
        if self.max_usd is not None and not self.max_usd > 0:
            raise RecipeError("a budget has to be more than nothing", where="max_usd", got=str(self.max_usd))


def _check_amount(amount: float, where: str) -> None:
    if not 0 <= amount < math.inf:
        raise RecipeError("this cannot be an amount", where=where, expected="0 or more", got=str(amount))
