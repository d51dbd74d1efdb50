"""A pilot: a sample of tiles before a run and, for a budget in dollars, a forecast of what the run will cost."""

from __future__ import annotations

import os
from dataclasses import dataclass

from batchseg.budget.forecast import Forecast, Prices, Workload
from batchseg.budget.placement import PilotWork, Placement, measure_pilot
from batchseg.budget.sample import Pilot
from batchseg.errors import RecipeError
from batchseg.ledger.records import Stint
from batchseg.recipe import Fleet
from batchseg.resolve.job import Job
from batchseg.resolve.resolve import Resolved
from batchseg.scene.area import measure_gross_area_km2
from batchseg.workers.models import choose_pool_device
from batchseg.workers.worker import OpenModels, WorkerSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class PilotResult:
    """The findings of a pilot."""

    pilot: Pilot
    forecast: Forecast | None
    """Forecast of the cost; None if the pilot was not timed."""
    stint: Stint
    """The pilot's own time, which is paid for too."""


def run_pilot(
    resolved: Resolved,
    fleet: Fleet,
    placement: Placement,
    *,
    models: OpenModels,
    num_tiles: int,
    is_timed: bool,
    runs_both: bool = False,
) -> PilotResult:
    """Run a pilot on the device of the fleet's first pool.

    Args:
        resolved: The recipe.
        fleet: The workers and their prices.
        placement: Where the workers live.
        models: Opens the models.
        num_tiles: Number of valid tiles that the sample should have.
        is_timed: Whether to rehearse some chunks against the clock, and forecast the cost.
        runs_both: Whether to run both tiers on each tile.

    Raises:
        RecipeError: The scenes have no valid pixel, or the pilot would be timed on another device than the workers.
    """
    job, first = resolved.job, fleet.pools[0]
    worker_device = choose_pool_device(first, job, in_process=placement.in_process)
    device = worker_device if placement.send_pilot else choose_pool_device(first, job, in_process=True)
    if is_timed:
        _refuse_other_device(device, worker_device, first.name)
    spec = WorkerSpec.new(pool="pilot", device=device, usd_per_hour=first.usd_per_hour)
    work = PilotWork(job=job, spec=spec, num_tiles=num_tiles, is_timed=is_timed, runs_both=runs_both)
    measured = placement.send_pilot(work, first, models) if placement.send_pilot else measure_pilot(work, models)
    if measured.pace is None:
        return PilotResult(pilot=measured.pilot, forecast=None, stint=measured.stint)
    workload, prices = _make_workload(job, measured.pilot), _make_prices(resolved, fleet, placement, measured.stint)
    forecast = Forecast(pace=measured.pace, workload=workload, prices=prices)
    return PilotResult(pilot=measured.pilot, forecast=forecast, stint=measured.stint)


def _refuse_other_device(device: str, worker_device: str, pool: str) -> None:
    if device != worker_device:
        raise RecipeError(
            "a budget in dollars times the models in this process, so the device must be that of the workers",
            where=f"budget, pools: {pool}",
            expected=worker_device,
            got=device,
            todo="run this on the cluster (RAY_ADDRESS, `ray job submit`), or give `heavy_share`, which needs no clock",
        )


def _make_workload(job: Job, pilot: Pilot) -> Workload:
    lattices = [job.lattice(scene) for scene in job.scenes.values()]
    num_tiles = pilot.valid_share * sum(len(lattice) for lattice in lattices)
    num_chunks = sum(len(job.chunk_grid(scene)) for scene in job.scenes.values())
    areas_km2 = [measure_gross_area_km2(scene.grid) for scene in job.scenes.values()]
    known_km2 = [area_km2 for area_km2 in areas_km2 if area_km2 is not None]
    return Workload(
        num_tiles=num_tiles,
        tiles_per_chunk=num_tiles / num_chunks,
        priority_share=pilot.priority_share,
        bulk_share=pilot.bulk_share,
        mpx=sum(rows * cols for rows, cols in (scene.shape_px for scene in job.scenes.values())) / 1e6,
        num_sheets=sum(len(job.list_sheets(scene)) for scene in job.scenes.values()),
        area_km2=sum(known_km2) * pilot.valid_px_share if len(known_km2) == len(areas_km2) else None,
    )


def _make_prices(resolved: Resolved, fleet: Fleet, placement: Placement, stint: Stint) -> Prices:
    """A run with fewer chunks than the fleet has workers asks for fewer workers; the first pools come first."""
    num_chunks = sum(len(resolved.job.chunk_grid(scene)) for scene in resolved.job.scenes.values())
    usd_per_hour = [pool.usd_per_hour for pool in fleet.pools for _ in range(pool.workers)]
    usd_per_hour = usd_per_hour[: 1 if placement.in_process else max(1, num_chunks)]
    threads = 0
    if placement.one_machine and stint.device == "cpu":
        threads = max(bundle.contract.find_numerics("cpu").threads for bundle in resolved.bundles.values())
    num_workers = len(usd_per_hour)
    return Prices(
        num_workers=num_workers,
        workers_usd_per_hour=sum(usd_per_hour),
        head_usd_per_hour=fleet.head_usd_per_hour,
        crowding=max(1.0, num_workers * threads / len(os.sched_getaffinity(0))) if num_workers > 1 else 1.0,
        spent_usd=stint.start_s * stint.usd_per_hour / 3600,
    )
