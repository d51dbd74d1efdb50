"""The lines of run/log.jsonl: their kinds and keys are what scripts and people search for."""

from __future__ import annotations

import json
from typing import Any, get_args

import pytest

from batchseg.ledger.keys import ChunkKey, SheetKey
from batchseg.workers.happenings import (
    AttemptFailed,
    FileRemade,
    Happening,
    NodataSuspected,
    OutputLost,
    RecordForgotten,
    RunBegun,
    RunEnded,
    RunStopping,
    SceneAbsent,
    SceneBadlyLaidOut,
    SceneGivenUp,
    SceneReturned,
    SpotNoticed,
    SpotWatcherLost,
    TaskCommitted,
    TaskQuarantined,
    WorkerGone,
    WorkerLate,
    WorkerLeaving,
    WorkerOpened,
    WorkerPlaced,
    WorkerSentHome,
    WorkersUnplaced,
    make_log_entry,
)
from tests.batchseg.ledger.ledger_records import attempt_of, record_of

CHUNK, SHEET = ChunkKey("a", 0, 1), SheetKey("a", 0, 0)
ENTRIES: list[tuple[Happening, dict[str, Any]]] = [
    (
        SceneAbsent(scene="a", num_looks=1, why="w"),
        {"event": "scene_absent", "scene": "a", "num_looks": 1, "why": "w"},
    ),
    (SceneReturned(scene="a"), {"event": "scene_returned", "scene": "a"}),
    (
        SceneGivenUp(scene="a", story=("x", "y"), num_tasks=9),
        {"event": "scene_given_up", "scene": "a", "story": ["x", "y"], "num_tasks": 9},
    ),
    (
        RunBegun(driver="d", took_over=None, fingerprint="f"),
        {"event": "begun", "driver": "d", "took_over": None, "fingerprint": "f"},
    ),
    (RunStopping(why="SIGINT"), {"event": "stopping", "why": "SIGINT"}),
    (RunEnded(exit_status=3, why="w"), {"event": "ended", "exit_status": 3, "why": "w"}),
    (OutputLost(num=2, tasks=(CHUNK, SHEET)), {"event": "lost", "num": 2, "tasks": ["a/0_1", "a/sheet_0_0"]}),
    (
        FileRemade(file="run/records/a/0_1.json", why="w", remedy="its chunk is computed again"),
        {
            "event": "file_remade",
            "file": "run/records/a/0_1.json",
            "why": "w",
            "remedy": "its chunk is computed again",
        },
    ),
    (SceneBadlyLaidOut(scene="a", why="w"), {"event": "badly_laid_out", "scene": "a", "why": "w"}),
    (NodataSuspected(scene="a", why="w"), {"event": "nodata_suspected", "scene": "a", "why": "w"}),
    (
        TaskCommitted(record=record_of(CHUNK, attempt_of("w1", 1.5, {}))),
        {"event": "chunk_committed", "task": "a/0_1", "worker": "w1", "attempt": 1, "seconds": 1.5},
    ),
    (
        AttemptFailed(task=CHUNK, worker="w1", error="e", kind="out_of_memory"),
        {"event": "task_failed", "task": "a/0_1", "worker": "w1", "error": "e", "what": "out_of_memory"},
    ),
    (
        TaskQuarantined(task=SHEET, story=("x", "y")),
        {"event": "quarantined", "task": "a/sheet_0_0", "story": ["x", "y"]},
    ),
    (RecordForgotten(task=CHUNK), {"event": "forgotten", "task": "a/0_1"}),
    (
        WorkerPlaced(worker="w1", node="n", usd_per_hour=0.5),
        {"event": "worker_placed", "worker": "w1", "node": "n", "usd_per_hour": 0.5},
    ),
    (WorkerOpened(worker="w1", usd_per_hour=0.0), {"event": "worker_ready", "worker": "w1", "usd_per_hour": 0.0}),
    (WorkerLeaving(worker="w1", why="w"), {"event": "worker_draining", "worker": "w1", "why": "w"}),
    (WorkerSentHome(worker="w1", why="w"), {"event": "worker_retired", "worker": "w1", "why": "w"}),
    (
        WorkerLate(worker="w1", task=CHUNK, why="w"),
        {"event": "worker_late", "worker": "w1", "task": "a/0_1", "why": "w"},
    ),
    (
        WorkerGone(worker="w1", why="w", kind="preemption"),
        {"event": "worker_lost", "worker": "w1", "why": "w", "what": "preemption", "held": []},
    ),
    (
        WorkerGone(worker="w1", why="w", kind="failure", held=(CHUNK, SHEET), blamed=CHUNK),
        {
            "event": "worker_lost",
            "worker": "w1",
            "why": "w",
            "what": "failure",
            "held": ["a/0_1", "a/sheet_0_0"],
            "blamed": "a/0_1",
        },
    ),
    (WorkersUnplaced(why="w"), {"event": "unplaced", "why": "w"}),
    (SpotNoticed(node="n", why="w"), {"event": "spot_notice", "node": "n", "why": "w"}),
    (SpotWatcherLost(node="n", why="w"), {"event": "watcher_lost", "node": "n", "why": "w"}),
]


@pytest.mark.parametrize(("happening", "entry"), ENTRIES, ids=lambda value: type(value).__name__)
def test_a_line_of_the_log_has_its_kind_and_its_facts(happening: Happening, entry: dict[str, Any]) -> None:
    assert json.loads(json.dumps(make_log_entry(happening))) == entry


def test_no_kind_is_left_out() -> None:
    assert {type(happening) for happening, _ in ENTRIES} == set(get_args(Happening))
