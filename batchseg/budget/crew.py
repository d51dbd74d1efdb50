"""The workers that a run asks for, and how they share the cores of one machine.

The models of one worker use as many threads as `model tune` found best, which usually are all cores. A second worker on
the same machine then halves the speed of the first, and each is paid for. In a cluster each worker has its own cores.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from batchseg.budget.placement import Placement
from batchseg.recipe import Fleet
from batchseg.resolve.resolve import Resolved
from batchseg.tiers import DeviceKind


@dataclass(frozen=True, slots=True, kw_only=True)
class Crew:
    """The workers of a run at its begin."""

    num_workers: int
    usd_per_hour: float
    """Price of all workers together."""
    shared_threads: int = 0
    """Number of threads of one worker on cores that all workers share; 0 if each worker has its own cores or a GPU."""
    num_cores: int = 1
    """Number of cores of this machine."""

    @property
    def slowdown(self) -> float:
        """Factor by which a worker is slower because the other workers use the same cores."""
        return max(1.0, self.num_workers * self.shared_threads / self.num_cores) if self.num_workers > 1 else 1.0

    @property
    def speed(self) -> float:
        """Speed of all workers together, in multiples of one worker that has the machine to itself."""
        return self.num_workers / self.slowdown

    @property
    def warning(self) -> str | None:
        """Advice for the user where workers have too few cores; None where they have enough."""
        if self.slowdown == 1.0:
            return None
        most = max(1, self.num_cores // self.shared_threads)
        return (
            f"{self.num_workers} workers share the {self.num_cores} cores of this machine, and the models of one "
            f"worker use {self.shared_threads}: more than {most} here gain no speed and take more memory, so set "
            f"`workers: {most}` (or --workers {most})"
        )


def count_crew(resolved: Resolved, fleet: Fleet, placement: Placement, device: DeviceKind) -> Crew:
    """Count the workers that a run asks for. It asks for no more than it has chunks; the first pools come first."""
    num_chunks = sum(len(resolved.job.chunk_grid(scene)) for scene in resolved.job.scenes.values())
    usd_per_hour = [pool.usd_per_hour for pool in fleet.pools for _ in range(pool.workers)]
    usd_per_hour = usd_per_hour[: 1 if placement.in_process else max(1, num_chunks)]
    threads = 0
    if placement.one_machine and device == "cpu":
        threads = max(bundle.contract.find_numerics("cpu").threads for bundle in resolved.bundles.values())
    return Crew(
        num_workers=len(usd_per_hour),
        usd_per_hour=sum(usd_per_hour),
        shared_threads=threads,
        num_cores=len(os.sched_getaffinity(0)),
    )
