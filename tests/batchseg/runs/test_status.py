"""`batchseg.status`: a value that says how far a run is."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from batchseg import status
from batchseg.errors import InputError
from batchseg.ledger.keys import ChunkKey
from batchseg.ledger.ledger import Ledger
from batchseg.reports.metrics import read_metrics
from batchseg.runs.exit_status import ExitStatus
from batchseg.runs.log import LogEntry, read_log
from batchseg.runs.status import SceneStatus, Speed, measure_running_speed
from batchseg.runs.workers_status import WorkersStatus, fold_workers
from batchseg.store import LocalStore
from tests.batchseg.ledger.ledger_records import attempt_of, record_of, session_of
from tests.runs import Workplace, noise
from tests.sealed_files import change_sealed


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workplace:
    monkeypatch.setattr("batchseg.ledger.lease.SETTLE_S", 0.0)
    place = Workplace.of(tmp_path, noise(40, 70), noise(20, 20, seed=1))
    assert place.run().exit_status == 0
    return place


def change_driver(place: Workplace, **changes: Any) -> None:
    change_sealed(place.output, "run/driver.json", **changes)


def test_a_finished_run(place: Workplace) -> None:
    run_status = status(place.output)
    assert run_status.scenes == (
        SceneStatus(name="scene0", num_chunks=6, num_committed=6, num_sheets=1),
        SceneStatus(name="scene1", num_chunks=1, num_committed=1, num_sheets=1),
    )
    assert run_status.given_up == {}
    assert run_status.cost_usd > 0
    assert run_status.driver.state == "stopped"


@pytest.mark.parametrize(("silent_s", "state"), [(0.0, "running"), (60.0, "gone")])
def test_a_driver_that_did_not_say_that_it_ended(place: Workplace, silent_s: float, state: str) -> None:
    change_driver(place, ended=False, beat_unix_s=time.time() - silent_s)
    driver = status(place.output).driver
    assert driver.state == state
    assert driver.silent_s == pytest.approx(silent_s, abs=5.0)


def test_tasks_that_were_given_up_come_with_their_story(place: Workplace) -> None:
    task = ChunkKey("scene0", 0, 1)
    Ledger(LocalStore(place.output)).quarantine(task, ("the first attempt failed", "the second failed too"))
    assert status(place.output).given_up == {task: ("the first attempt failed", "the second failed too")}


def test_the_ground_of_a_finished_run_is_that_of_its_metrics(place: Workplace) -> None:
    run_status, metrics = status(place.output), read_metrics(LocalStore(place.output))
    assert run_status.measures is not None
    assert run_status.measures.class_area_km2 == metrics.class_area_km2
    assert run_status.measures.valid_px == metrics.valid_px
    assert run_status.speed == Speed(mpx_per_s=pytest.approx(metrics.mpx_per_s, rel=0.05), left_s=None)
    assert run_status.exit == ExitStatus(exit_status=0, why="complete")


def test_a_driver_that_is_gone_has_no_exit_status_and_no_workers(place: Workplace) -> None:
    (place.output / "run" / "exit.json").unlink()
    change_driver(place, ended=False, beat_unix_s=time.time() - 60)
    run_status = status(place.output)
    assert run_status.exit is None
    assert run_status.workers.num_working == 0


def test_of_too_many_chunks_only_the_newest_are_read(place: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = Ledger(LocalStore(place.output))
    ledger.compact(list(ledger.read_records())[:4])
    change_driver(place, ended=False, beat_unix_s=time.time())
    whole = status(place.output)
    monkeypatch.setattr("batchseg.runs.status.MAX_ADDED_UP", 999)
    part = status(place.output)
    assert part.scenes == whole.scenes
    assert whole.measures is not None
    assert part.measures is None
    assert part.speed.mpx_per_s is not None
    assert part.speed.left_s == 0.0


@pytest.mark.parametrize(
    ("ended_s", "now_s", "num_left", "expected"),
    [
        ([], 10.0, 5, Speed(mpx_per_s=None, left_s=None)),
        ([-1.0], 10.0, 5, Speed(mpx_per_s=None, left_s=None)),  # of an earlier session
        ([4.0, 6.0], 8.0, 6, Speed(mpx_per_s=2 * 0.16 / 6, left_s=18.0)),
        ([-1.0, 4.0, 6.0], 8.0, 0, Speed(mpx_per_s=2 * 0.16 / 6, left_s=0.0)),
    ],
)
def test_the_speed_is_that_of_this_session(ended_s: list[float], now_s: float, num_left: int, expected: Speed) -> None:
    holder, records = session_of("s", 0.0, now_s), []
    for number, end_s in enumerate(ended_s):
        attempt = attempt_of("w", end_s, {})
        attempt = replace(attempt, started_unix_s=attempt.ended_unix_s - 2)
        records.append(record_of(ChunkKey("scene", number, 0), attempt, valid_px=160_000))
    speed = measure_running_speed(records, holder, holder.begun_unix_s + now_s, num_left=num_left)
    assert speed.left_s == expected.left_s
    assert speed.mpx_per_s == (None if expected.mpx_per_s is None else pytest.approx(expected.mpx_per_s))


def entry(event: str, **facts: Any) -> LogEntry:
    return LogEntry(unix_s=0.0, event=event, facts=facts)


NOBODY = {"num_starting": 0, "num_leaving": 0, "num_lost": 0, "num_preempted": 0, "num_failed_attempts": 0}


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        ([], {"num_working": 0}),
        ([entry("begun"), entry("worker_placed", worker="a"), entry("worker_placed", worker="b")], {"num_starting": 2}),
        ([entry("worker_placed", worker="a"), entry("worker_ready", worker="a")], {"num_working": 1}),
        (
            [entry("worker_ready", worker="a"), entry("worker_lost", worker="a", what="preemption")],
            {"num_lost": 1, "num_preempted": 1},
        ),
        ([entry("worker_ready", worker="a"), entry("worker_lost", worker="a", what="failure")], {"num_lost": 1}),
        ([entry("worker_ready", worker="a"), entry("worker_retired", worker="a")], {}),
        (
            [entry("worker_ready", worker="a"), entry("worker_draining", worker="a")],
            {"num_working": 1, "num_leaving": 1},
        ),
        ([entry("worker_ready", worker="a"), entry("begun")], {}),
        (
            [entry("task_failed", worker="a"), entry("begun"), entry("task_failed", worker="b")],
            {"num_failed_attempts": 2},
        ),
        ([entry("unplaced", why="2 workers wait for 1 GPU")], {"message": "2 workers wait for 1 GPU"}),
        ([entry("unplaced", why="no room"), entry("worker_ready", worker="a")], {"num_working": 1}),
    ],
)
def test_workers_are_counted_from_the_log(entries: list[LogEntry], expected: dict[str, Any]) -> None:
    all_facts = {"num_working": 0, "message": None, **NOBODY} | expected
    assert fold_workers(entries, is_running=True) == WorkersStatus(**all_facts)
    stopped = fold_workers(entries, is_running=False)
    assert (stopped.num_working, stopped.num_starting, stopped.message) == (0, 0, None)
    assert stopped.num_lost == all_facts["num_lost"]


def test_lines_of_other_kinds_are_not_read(place: Workplace) -> None:
    store = LocalStore(place.output)
    assert {one.event for one in read_log(store, events=("begun", "ended"))} == {"begun", "ended"}
    assert len(list(read_log(store))) > 8


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not the output of a run"):
        status(tmp_path)
