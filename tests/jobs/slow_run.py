"""The command line with fake models that take their time: a child process for tests to interrupt.

python -m tests.jobs.slow_run SECONDS_A_BATCH run RECIPE …
"""

from __future__ import annotations

import sys
import time
from functools import partial
from typing import Any

import jobs.runner
from batchseg.engine.segment import Model
from batchseg.recipe import Fleet
from batchseg.resolve.job import Job
from batchseg.runs.local_pool import OpenPool
from batchseg.runs.session import run
from batchseg.store import LocalStore
from batchseg.tiers import Tier
from batchseg.workers.pool import DEPTH, LocalPool, Pool
from batchseg.workers.worker import Worker, WorkerSpec
from jobs.cli import main
from tests.runs import fake_models


class SlowSegmenter:
    def __init__(self, inner: Any, seconds: float) -> None:
        self._inner, self._seconds, self.batch = inner, seconds, inner.batch

    def __call__(self, x_NBHW: Any, /) -> Any:
        time.sleep(self._seconds)
        return self._inner(x_NBHW)


def slow_pool(seconds: float) -> OpenPool:
    """One worker in this process, whatever the fleet says but for its price."""

    def models(job: Job, spec: WorkerSpec) -> tuple[dict[Tier, Model], dict[str, str]]:
        quick, environment = fake_models(job, spec)
        return {
            tier: Model(SlowSegmenter(m.segmenter, seconds), m.halo_px, m.class_ids) for tier, m in quick.items()
        }, environment

    def open_pool(job: Job, store: LocalStore, fleet: Fleet) -> Pool:
        first = fleet.pools[0]
        spec = WorkerSpec.new(pool=first.name, device="cpu", usd_per_hour=first.usd_per_hour)
        return LocalPool(lambda: Worker(spec, job, store, models).open(), depth=DEPTH)

    return open_pool


def use_pool(open_pool: OpenPool) -> None:
    """From now on every `run` of this process gets this pool."""

    def choose(*_: Any, **__: Any) -> Any:
        return partial(run, open_pool=open_pool)

    jobs.runner.choose_runner = choose


if __name__ == "__main__":
    use_pool(slow_pool(float(sys.argv[1])))
    sys.exit(main(sys.argv[2:]))
