"""How far a run is, from its output folder alone. Safe while the run works, and after."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from batchseg.errors import InputError
from batchseg.ledger.keys import Story, TaskKey
from batchseg.ledger.ledger import Ledger
from batchseg.ledger.sessions import Session, read_holder
from batchseg.paths import LEASE_KEY
from batchseg.reports.write import sum_spent_usd
from batchseg.resolve.output_folder import open_output
from batchseg.resolve.plan_file import read_plan
from batchseg.tasks.table import read_quarantine

GONE_AFTER_S = 15.0
"""The time without a heartbeat after which a driver counts as gone; a living driver writes one every 5 s."""

DriverState = Literal["running", "stopped", "gone"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SceneStatus:
    """How far one scene is."""

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
class RunStatus:
    """How far a run is."""

    output: str
    scenes: tuple[SceneStatus, ...]
    given_up: dict[TaskKey, Story]
    """Tasks in quarantine, each with what happened to it, in order."""
    lost_scenes: dict[str, Story]
    """Scenes that the last start gave up because it could not read them any more, each with what happened."""
    cost_usd: float
    """Dollars paid up to the last heartbeats."""
    driver: DriverStatus


def status(output: str | Path) -> RunStatus:
    """Say how far a run is.

        from batchseg import status

        run_status = status("out/demo")
        print(run_status.driver.state, run_status.cost_usd)

    Args:
        output: The output folder or URL of a run. The run may be working, from this process or another.

    Returns:
        Committed chunks and published sheets per scene, tasks that were given up, cost so far, and the driver.

    Raises:
        InputError: No run has begun there.
        DamagedError: A file of the run cannot be read.
    """
    store = open_output(output)
    plan, ledger = read_plan(store), Ledger(store)
    chunks = Counter(key.scene for key in ledger.read_briefs())
    sheets = Counter(record.key.scene for record in ledger.read_sheets())
    holder = read_holder(store)
    if holder is None:
        raise InputError("no driver has held this output", where=str(output), expected=f"a folder with {LEASE_KEY}")
    return RunStatus(
        output=str(output),
        scenes=tuple(
            SceneStatus(
                name=scene, num_chunks=len(plan.grid(scene)), num_committed=chunks[scene], num_sheets=sheets[scene]
            )
            for scene in plan.scenes
        ),
        given_up=read_quarantine(store),
        lost_scenes=ledger.read_given_up_scenes(),
        cost_usd=sum_spent_usd(store, head_usd_per_hour=plan.head_usd_per_hour),
        driver=_judge_driver(holder, time.time()),
    )


def _judge_driver(holder: Session, now_unix_s: float) -> DriverStatus:
    silent_s = now_unix_s - holder.beat_unix_s
    state: DriverState = "stopped" if holder.ended else "gone" if silent_s > GONE_AFTER_S else "running"
    return DriverStatus(state=state, pid=holder.pid, host=holder.host, silent_s=silent_s)
