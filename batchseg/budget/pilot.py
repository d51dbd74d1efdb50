"""A pilot: a sample of tiles before a run and, for a budget in dollars, a forecast of what the run will cost."""

from __future__ import annotations

from dataclasses import dataclass

from batchseg.budget.crew import Crew, count_crew
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
    work = PilotWork(
        job=job,
        spec=spec,
        num_tiles=num_tiles,
        is_timed=is_timed,
        runs_both=runs_both,
        starts_warm=placement.one_machine,
    )
    measured = placement.send_pilot(work, first, models) if placement.send_pilot else measure_pilot(work, models)
    if measured.pace is None:
        return PilotResult(pilot=measured.pilot, forecast=None, stint=measured.stint)
    crew = count_crew(resolved, fleet, placement, device)
    workload, prices = _make_workload(job, measured.pilot), _make_prices(crew, fleet, measured.stint)
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


def _make_prices(crew: Crew, fleet: Fleet, stint: Stint) -> Prices:
    return Prices(
        num_workers=crew.num_workers,
        workers_usd_per_hour=crew.usd_per_hour,
        head_usd_per_hour=fleet.head_usd_per_hour,
        crowding=crew.slowdown,
        spent_usd=stint.start_s * stint.usd_per_hour / 3600,
    )
