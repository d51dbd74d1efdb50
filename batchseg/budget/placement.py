"""The work of a pilot, and where it is done.

A pilot must time the models where the workers live. On one machine that is this process. In a cluster it is another
machine than the driver's, so the work can be sent there: see `PilotRunner`.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable
from dataclasses import dataclass

from batchseg.budget.rehearsal import Pace, rehearse
from batchseg.budget.sample import Pilot, take_sample
from batchseg.clock import Moment
from batchseg.ledger.records import Stint
from batchseg.model.cache import time_filling
from batchseg.recipe import PoolSpec
from batchseg.resolve.job import Job
from batchseg.workers.pool import DEPTH
from batchseg.workers.worker import OpenModels, WorkerSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class PilotWork:
    """The task of a pilot; it can be pickled."""

    job: Job
    spec: WorkerSpec
    num_tiles: int
    """Number of valid tiles that the sample should have."""
    is_timed: bool
    """True if some chunks are rehearsed against the clock too."""
    runs_both: bool
    """True if both tiers run on each tile of the sample."""
    starts_warm: bool = False
    """True if the workers find the graphs that the pilot has converted, since they live on the same machine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PilotMeasurement:
    """Measurements of a pilot."""

    pilot: Pilot
    pace: Pace | None
    """Pace of one worker; None if the work was not timed."""
    stint: Stint
    """The pilot's own time, which is paid for too."""


PilotRunner = Callable[[PilotWork, PoolSpec, OpenModels], PilotMeasurement]
"""Does the work of a pilot where a worker of this pool would live."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Place of a run's workers."""

    in_process: bool = True
    """True if the run has one worker, in this process."""
    one_machine: bool = True
    """True if all workers share the cores of this machine."""
    send_pilot: PilotRunner | None = None
    """Runs a pilot where the workers live; None runs it in this process."""


def measure_pilot(work: PilotWork, models: OpenModels) -> PilotMeasurement:
    """Do the work of a pilot in this process."""
    begun, begun_s = Moment.now(), time.perf_counter()
    with time_filling() as filling:
        opened, _ = models(work.job, work.spec)
    start_s = time.perf_counter() - begun_s - (filling.seconds if work.starts_warm else 0.0)
    pilot = take_sample(work.job, opened, num_tiles=work.num_tiles, runs_both=work.runs_both)
    pace = rehearse(work.job, opened, work.spec, start_s=start_s, depth=DEPTH) if work.is_timed else None
    return PilotMeasurement(pilot=pilot, pace=pace, stint=_make_stint(work.spec, begun))


def _make_stint(spec: WorkerSpec, begun: Moment) -> Stint:
    """A pilot is paid for like a worker that spends its whole life starting."""
    lived_s = begun.measure_age_s()
    return Stint(
        worker=spec.name,
        pool=spec.pool,
        host=platform.node(),
        device=spec.device,
        usd_per_hour=spec.usd_per_hour,
        begun_unix_s=begun.unix_s,
        beat_unix_s=begun.unix_s + lived_s,
        lived_s=lived_s,
        ended=True,
        start_s=lived_s,
        idle_s=0.0,
        waste_s=0.0,
        in_hand_s={},
    )
