"""Progress of a run, from its output folder alone. Safe while the run works, and after."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from batchseg.egress import redact_errors
from batchseg.errors import InputError
from batchseg.ledger.keys import ChunkKey, Story, TaskKey
from batchseg.ledger.ledger import Ledger
from batchseg.ledger.records import Record
from batchseg.ledger.segments import SEGMENT_RECORDS, list_segment_keys
from batchseg.ledger.sessions import Session, count_wall_s, read_holder
from batchseg.paths import LEASE_KEY, RECORDS_FOLDER
from batchseg.reports.fold import fold_measures
from batchseg.reports.metrics import Measures
from batchseg.reports.write import sum_spent_usd
from batchseg.resolve.output_folder import open_output
from batchseg.resolve.plan_file import read_plan
from batchseg.runs.exit_status import ExitStatus, read_exit_status
from batchseg.runs.log import read_log
from batchseg.runs.workers_status import WORKER_EVENTS, WorkersStatus, fold_workers
from batchseg.store import Store
from batchseg.tasks.table import read_quarantine

GONE_AFTER_S = 15.0
"""The time without a heartbeat after which a driver counts as gone; a living driver writes one every 5 s."""

MAX_ADDED_UP = 100_000
"""Number of committed chunks up to which their records are read, some seconds of work on a disk. Beyond it the ground
and its classes stay unknown, and the speed is that of the newest records."""

DriverState = Literal["running", "stopped", "gone"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SceneStatus:
    """Progress of one scene."""

    name: str
    num_chunks: int
    num_committed: int
    """Chunks that are done."""
    num_sheets: int
    """Sheets whose GeoTIFFs are published."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DriverStatus:
    """The process that drives the run, or drove it last."""

    state: DriverState
    """running: it writes heartbeats. stopped: it ended in order. gone: it ended without a word."""
    pid: int
    host: str
    silent_s: float
    """Seconds since the last heartbeat."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """Speed of the committed chunks."""

    mpx_per_s: float | None
    """Millions of valid pixels per second: in this session while the driver runs, else over all sessions."""
    left_s: float | None
    """Expected seconds until the last chunk; None unless the driver runs and has committed a chunk."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStatus:
    """Progress of a run."""

    output: str
    scenes: tuple[SceneStatus, ...]
    measures: Measures | None
    """Measures of the committed chunks, with the ground per class; None where they are too many to add up."""
    speed: Speed
    workers: WorkersStatus
    num_damaged_lines: int
    """Lines of the log that nobody can read, so that the workers were counted without them."""
    given_up: dict[TaskKey, Story]
    """Tasks in quarantine, each with what happened to it, in order."""
    lost_scenes: dict[str, Story]
    """Scenes that the last start gave up because it could not read them any more, each with what happened."""
    cost_usd: float
    """Dollars paid up to the last heartbeats."""
    driver: DriverStatus
    exit: ExitStatus | None
    """End of the run; None while its driver runs, and after a driver that ended without a word."""


@redact_errors
def status(output: str | Path) -> RunStatus:
    """Say how far a run is.

        from batchseg import status

        run_status = status("out/demo")
        print(run_status.driver.state, run_status.cost_usd)

    Args:
        output: The output folder or URL of a run. The run may be working, from this process or another.

    Returns:
        Committed chunks and published sheets per scene, the ground per class, speed and time left, workers and losses,
        tasks that were given up, cost so far, the driver, and the exit status.

    Raises:
        InputError: No run has begun there.
        DamagedError: A file of the run cannot be read.
    """
    store = open_output(output)
    plan, ledger, now_unix_s = read_plan(store), Ledger(store), time.time()
    holder = read_holder(store)
    if holder is None:
        raise InputError("no driver has held this output", where=str(output), expected=f"a folder with {LEASE_KEY}")
    driver, given_up, sheets = _judge_driver(holder, now_unix_s), read_quarantine(store), list(ledger.read_sheets())
    is_running = driver.state == "running"
    committed = _read_committed(store, ledger)
    chunks, sheets_made = Counter(key.scene for key in committed.keys), Counter(record.key.scene for record in sheets)
    lost_scenes = ledger.read_given_up_scenes()
    stories: dict[TaskKey | str, Story] = dict([*lost_scenes.items(), *given_up.items()])
    measures = (
        fold_measures(plan, tuple(plan.scenes), committed.records, sheets, stories) if committed.is_whole else None
    )
    log = read_log(store, events=WORKER_EVENTS)
    workers = fold_workers(log, is_running=is_running)
    num_left = sum(len(plan.grid(name)) - chunks[name] for name in plan.scenes if name not in lost_scenes)
    num_left -= sum(isinstance(task, ChunkKey) and task.scene not in lost_scenes for task in given_up)
    return RunStatus(
        output=str(output),
        scenes=tuple(
            SceneStatus(
                name=scene, num_chunks=len(plan.grid(scene)), num_committed=chunks[scene], num_sheets=sheets_made[scene]
            )
            for scene in plan.scenes
        ),
        measures=measures,
        speed=measure_running_speed(committed.records, holder, now_unix_s, num_left=num_left)
        if is_running
        else _measure_whole_speed(store, measures),
        workers=workers,
        num_damaged_lines=log.num_damaged,
        given_up=given_up,
        lost_scenes=lost_scenes,
        cost_usd=sum_spent_usd(store, head_usd_per_hour=plan.head_usd_per_hour),
        driver=driver,
        exit=None if is_running else read_exit_status(store),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Committed:
    """Committed chunks, and their records as far as they were read."""

    keys: Sequence[ChunkKey]
    records: Sequence[Record]
    is_whole: bool
    """True if `records` has all chunks; else it has those that are in no segment yet, which are the newest."""


def _read_committed(store: Store, ledger: Ledger) -> _Committed:
    if len(list_segment_keys(store)) * SEGMENT_RECORDS <= MAX_ADDED_UP:
        records = list(ledger.read_records())
        return _Committed(keys=[record.key for record in records], records=records, is_whole=True)
    newest = list(ledger.read_all(Record, RECORDS_FOLDER))
    return _Committed(keys=list(ledger.read_briefs()), records=newest, is_whole=False)


def measure_running_speed(records: Sequence[Record], holder: Session, now_unix_s: float, *, num_left: int) -> Speed:
    """Measure the speed of the session that runs, from the beginning of its first known chunk until now.

    Args:
        records: Records of the run; those of earlier sessions are left out.
        holder: The session.
        now_unix_s: The time.
        num_left: Number of chunks that are neither committed nor given up.
    """
    attempts = [record.attempt for record in records if record.attempt.ended_unix_s >= holder.begun_unix_s]
    if not attempts:
        return Speed(mpx_per_s=None, left_s=None)
    begun_unix_s = max(holder.begun_unix_s, min(attempt.started_unix_s for attempt in attempts))
    seconds = max(now_unix_s - begun_unix_s, 1e-3)
    valid_px = sum(r.measured.valid_px for r in records if r.attempt.ended_unix_s >= holder.begun_unix_s)
    return Speed(mpx_per_s=valid_px / 1e6 / seconds, left_s=seconds / len(attempts) * num_left)


def _measure_whole_speed(store: Store, measures: Measures | None) -> Speed:
    wall_s = count_wall_s(store)
    return Speed(mpx_per_s=None if measures is None or not wall_s else measures.valid_px / 1e6 / wall_s, left_s=None)


def _judge_driver(holder: Session, now_unix_s: float) -> DriverStatus:
    silent_s = now_unix_s - holder.beat_unix_s
    state: DriverState = "stopped" if holder.ended else "gone" if silent_s > GONE_AFTER_S else "running"
    return DriverStatus(state=state, pid=holder.pid, host=holder.host, silent_s=silent_s)
