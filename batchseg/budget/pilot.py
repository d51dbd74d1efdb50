"""Runs a pilot: opens the models, computes the sample, rehearses if dollars are asked for, and sets prices.

What is timed must be timed where the workers live. In a cluster that is not the driver's machine, so the work of a
pilot can be sent (`PilotRunner`); on one machine it is done in this process.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass

from batchseg.budget.forecast import Forecast, Prices, Workload
from batchseg.budget.rehearsal import Pace, rehearse
from batchseg.budget.sample import Pilot, take_sample
from batchseg.errors import RecipeError
from batchseg.ledger.records import Stint
from batchseg.recipe import Fleet, PoolSpec
from batchseg.resolve.job import Job
from batchseg.resolve.resolve import Resolved
from batchseg.scene.area import gross_area_km2
from batchseg.workers.models import device_of
from batchseg.workers.pool import DEPTH
from batchseg.workers.worker import OpenModels, WorkerSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class PilotWork:
    job: Job
    spec: WorkerSpec
    num_tiles: int
    timed: bool
    """Also rehearse against the clock."""
    both: bool
    """Run both tiers on each tile."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PilotMeasurement:
    pilot: Pilot
    pace: Pace | None
    stint: Stint
    """The pilot's own time, which is paid for too."""


PilotRunner = Callable[[PilotWork, PoolSpec, OpenModels], PilotMeasurement]
"""Does the work of a pilot where a worker of this pool would be."""


def measure_pilot(work: PilotWork, models: OpenModels) -> PilotMeasurement:
    """Here."""
    begun_unix_s, begun_s = time.time(), time.perf_counter()
    opened, _ = models(work.job, work.spec)
    start_s = time.perf_counter() - begun_s
    pilot = take_sample(work.job, opened, num_tiles=work.num_tiles, both=work.both)
    pace = rehearse(work.job, opened, work.spec, start_s=start_s, depth=DEPTH) if work.timed else None
    return PilotMeasurement(pilot=pilot, pace=pace, stint=_stint(work.spec, begun_unix_s))


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Where the workers of a run live."""

    in_process: bool = True
    """One worker, in this process."""
    one_machine: bool = True
    """All of them share this machine's cores."""
    send_pilot: PilotRunner | None = None
    """Does a pilot there; None does it in this process."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PilotResult:
    """What a pilot found."""

    pilot: Pilot
    forecast: Forecast | None
    """None where nothing had to be timed."""
    stint: Stint
    """The pilot's own time, which is paid for too."""


def run_pilot(
    resolved: Resolved,
    fleet: Fleet,
    where: Placement,
    *,
    models: OpenModels,
    num_tiles: int,
    timed: bool,
    both: bool = False,
) -> PilotResult:
    """On the device of the fleet's first pool."""
    job, first = resolved.job, fleet.pools[0]
    there = device_of(first, job, in_process=where.in_process)
    here = there if where.send_pilot else device_of(first, job, in_process=True)
    if timed:
        _refuse_other_device(here, there, first.name)
    spec = WorkerSpec.new(pool="pilot", device=here, usd_per_hour=first.usd_per_hour)
    work = PilotWork(job=job, spec=spec, num_tiles=num_tiles, timed=timed, both=both)
    done = where.send_pilot(work, first, models) if where.send_pilot else measure_pilot(work, models)
    if done.pace is None:
        return PilotResult(pilot=done.pilot, forecast=None, stint=done.stint)
    prices = _prices(resolved, fleet, where, done.stint)
    forecast = Forecast(pace=done.pace, workload=_make_workload(job, done.pilot), prices=prices)
    return PilotResult(pilot=done.pilot, forecast=forecast, stint=done.stint)


def _refuse_other_device(here: str, there: str, pool: str) -> None:
    if here != there:
        raise RecipeError(
            "dollars are found by timing the models in this process, which is on another device than the workers",
            where=f"budget, pools: {pool}",
            expected=there,
            got=here,
            todo="run this on the cluster (RAY_ADDRESS, `ray job submit`), or give `heavy_share`, which needs no clock",
        )


def _make_workload(job: Job, pilot: Pilot) -> Workload:
    lattices = [job.lattice(scene) for scene in job.scenes.values()]
    num_tiles = pilot.valid_share * sum(len(lattice) for lattice in lattices)
    chunks = sum(len(job.chunk_grid(scene)) for scene in job.scenes.values())
    areas = [gross_area_km2(scene.header.georef) for scene in job.scenes.values()]
    known = [area for area in areas if area is not None]
    return Workload(
        num_tiles=num_tiles,
        tiles_a_chunk=num_tiles / chunks,
        priority_share=pilot.priority_share,
        bulk_share=pilot.bulk_share,
        mpx=sum(rows * cols for rows, cols in (scene.shape_px for scene in job.scenes.values())) / 1e6,
        num_sheets=sum(len(job.list_sheets(scene)) for scene in job.scenes.values()),
        area_km2=sum(known) * pilot.valid_px_share if len(known) == len(areas) else None,
    )


def _prices(resolved: Resolved, fleet: Fleet, where: Placement, stint: Stint) -> Prices:
    """Fewer workers are asked for than a fleet has where there are fewer chunks; the first pools come first."""
    num_chunks = sum(len(resolved.job.chunk_grid(scene)) for scene in resolved.job.scenes.values())
    prices = [pool.usd_per_hour for pool in fleet.pools for _ in range(pool.workers)]
    prices = prices[: 1 if where.in_process else max(1, num_chunks)]
    threads = 0
    if where.one_machine and stint.device == "cpu":
        threads = max(bundle.contract.numerics_on("cpu").threads for bundle in resolved.bundles.values())
    return Prices(
        num_workers=len(prices),
        workers_usd_per_hour=sum(prices),
        head_usd_per_hour=fleet.head_usd_per_hour,
        crowding=max(1.0, len(prices) * threads / len(os.sched_getaffinity(0))) if len(prices) > 1 else 1.0,
        spent_usd=stint.start_s * stint.usd_per_hour / 3600,
    )


def _stint(spec: WorkerSpec, begun_unix_s: float) -> Stint:
    """A pilot is paid for like a worker that only ever starts."""
    now_unix_s = time.time()
    return Stint(
        worker=spec.name,
        pool=spec.pool,
        host=platform.node(),
        device=spec.device,
        usd_per_hour=spec.usd_per_hour,
        begun_unix_s=begun_unix_s,
        beat_unix_s=now_unix_s,
        ended=True,
        start_s=now_unix_s - begun_unix_s,
        idle_s=0.0,
        waste_s=0.0,
        in_hand_s={},
    )
