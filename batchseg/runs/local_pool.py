"""The pools of a run: whether they can do its tasks, and the default pool in this process."""

from __future__ import annotations

from collections.abc import Callable

from batchseg.errors import RecipeError
from batchseg.recipe import Fleet
from batchseg.resolve.job import Job
from batchseg.store import Store
from batchseg.workers.models import choose_pool_device, open_models
from batchseg.workers.pool import DEPTH, LocalPool, Pool
from batchseg.workers.worker import Worker, WorkerSpec

OpenPool = Callable[[Job, Store, Fleet], Pool]
"""Opens the workers of a fleet for a job that writes to a store."""


def check_fleet(fleet: Fleet, job: Job, *, in_process: bool) -> None:
    """Raise RecipeError or BundleError where no pool can do some task of the job."""
    for pool in fleet.pools:
        choose_pool_device(pool, job, in_process=in_process)
        if pool.only is not None and pool.only not in job.models:
            raise RecipeError(
                "a pool is limited to a tier that this recipe has no model for",
                where=f"pools: {pool.name}: only",
                expected=" or ".join(job.models),
                got=pool.only,
            )
    if len(job.models) > 1 and all(pool.only is not None for pool in fleet.pools):
        raise RecipeError(
            "no pool takes chunks with tiles of both tiers",
            where="pools",
            todo="leave `only` out for at least one of them",
        )


def open_local_pool(job: Job, store: Store, fleet: Fleet) -> Pool:
    """One worker in this process, at the price of the fleet's first pool."""
    first = fleet.pools[0]
    device = choose_pool_device(first, job, in_process=True)
    spec = WorkerSpec.new(pool=first.name, device=device, usd_per_hour=first.usd_per_hour, read_s=fleet.patience.read_s)
    return LocalPool(lambda: Worker(spec, job, store, open_models).begin(), depth=DEPTH)
