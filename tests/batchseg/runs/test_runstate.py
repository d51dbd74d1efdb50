"""Stories of single tasks, told step by step; test_runstate_chaos has all of them at once."""

from __future__ import annotations

import pytest

from batchseg.ledger.keys import SheetKey, TaskKey
from batchseg.runs.runstate import RunState
from batchseg.workers.events import (
    Assign,
    Finish,
    Quarantine,
    StopFeeding,
    TaskDone,
    TaskFailed,
    WorkerLost,
    WorkerReady,
)
from tests.batchseg.runs.task_stories import COMMITTED, SHEET, chunk, failed, state_of, tasks

OTHER = SheetKey("s", 0, 1)


def test_nothing_to_do_ends_with_the_first_event() -> None:
    assert state_of(0).handle(WorkerReady("a")) == [Finish(0, None)]


def test_tasks_are_done_in_order_and_then_it_ends() -> None:
    state = state_of(2)
    assert state.handle(WorkerReady("a")) == [Assign("a", chunk(0), 1)]
    assert state.handle(TaskDone("a", chunk(0))) == [Assign("a", chunk(1), 1)]
    assert state.handle(TaskDone("a", chunk(1))) == [Finish(0, None)]
    assert state.handle(TaskDone("a", chunk(1))) == [], "it ends once"


def test_few_tasks_are_spread_before_anyone_gets_two() -> None:
    state = state_of(5, depth=2)
    assert tasks(state.handle(WorkerReady("a"))) == [chunk(0), chunk(1)]
    assert tasks(state.handle(WorkerReady("b"))) == [chunk(2), chunk(3)]
    state.handle(TaskDone("b", chunk(2)))
    state.handle(TaskDone("b", chunk(3)))
    assert state.held == {"a": [chunk(0), chunk(1)], "b": [chunk(4)]}
    state.handle(WorkerReady("c"))
    state.handle(WorkerLost("a", "spot"))
    assert {worker: len(held) for worker, held in state.held.items()} == {"b": 2, "c": 1}


def test_a_failed_task_goes_to_the_back_and_then_to_quarantine_with_its_story() -> None:
    state = state_of(2, failures=2)
    state.handle(WorkerReady("a"))
    assert state.handle(failed("a", chunk(0))) == [Assign("a", chunk(1), 1)]
    assert state.handle(TaskDone("a", chunk(1))) == [Assign("a", chunk(0), 2)]
    assert state.handle(failed("a", chunk(0))) == [
        Quarantine(chunk(0), ("a: broke", "a: broke")),
        Finish(1, None),
    ]


def test_what_can_never_work_is_not_tried_again() -> None:
    state = state_of(1)
    state.handle(WorkerReady("a"))
    assert state.handle(failed("a", chunk(0), retryable=False)) == [
        Quarantine(chunk(0), ("a: broke",)),
        Finish(1, None),
    ]


def test_failures_and_losses_are_counted_apart() -> None:
    """Two failures and three losses are five attempts, but neither limit is reached."""
    state = state_of(1, failures=3, preemptions=4)
    state.handle(WorkerReady("a"))
    for attempt, event in enumerate([failed("a", chunk(0)), WorkerLost("a", "spot")] * 2, start=2):
        got = [*state.handle(event), *state.handle(WorkerReady("a"))]
        assert got == [Assign("a", chunk(0), attempt)]
    got = [*state.handle(WorkerLost("a", "spot")), *state.handle(WorkerReady("a"))]
    assert got == [Assign("a", chunk(0), 6)]
    (last, _) = state.handle(WorkerLost("a", "spot"))
    story = ("a: broke", "a was lost: spot") * 2 + ("a was lost: spot",) * 2
    assert last == Quarantine(chunk(0), story)


def test_running_out_of_memory_counts_as_a_failure_with_a_name() -> None:
    state = state_of(1, failures=2)
    state.handle(WorkerReady("a"))
    assert tasks(state.handle(failed("a", chunk(0), kind="out_of_memory"))) == [chunk(0)]
    history = state.histories[chunk(0)]
    assert (history.failures, history.out_of_memory, history.preemptions) == (0, 1, 0)
    assert state.handle(failed("a", chunk(0)))[-1] == Finish(1, None)


def test_stopping_ends_what_is_held_and_nothing_more() -> None:
    state = state_of(3)
    state.handle(WorkerReady("a"))
    assert state.handle(StopFeeding("budget")) == []
    assert state.handle(StopFeeding("ctrl-c")) == [], "the first reason stays"
    assert state.handle(WorkerReady("b")) == []
    assert state.handle(TaskDone("a", chunk(0))) == [Finish(0, "budget")]


def test_stopping_while_nobody_works_ends_at_once() -> None:
    assert state_of(3).handle(StopFeeding("ctrl-c")) == [Finish(0, "ctrl-c")]


def test_stopping_before_the_last_task_ends_is_not_stopping() -> None:
    state = state_of(1)
    state.handle(WorkerReady("a"))
    state.handle(StopFeeding("budget"))
    assert state.handle(TaskDone("a", chunk(0))) == [Finish(0, None)]


def test_a_worker_lost_while_stopping_leaves_its_task_undone() -> None:
    state = state_of(1)
    state.handle(WorkerReady("a"))
    state.handle(StopFeeding("budget"))
    assert state.handle(WorkerLost("a", "spot")) == [Finish(0, "budget")]


def test_a_sheet_waits_for_the_last_of_its_chunks_even_if_that_is_given_up() -> None:
    state = state_of(2, sheet=True)
    state.handle(WorkerReady("a"))
    state.handle(WorkerReady("b"))
    assert state.handle(TaskDone("a", chunk(0))) == []
    assert state.handle(failed("b", chunk(1), retryable=False)) == [
        Quarantine(chunk(1), ("b: broke",)),
        Assign("a", SHEET, 1),
    ]
    assert state.handle(TaskDone("a", SHEET)) == [Finish(1, None)]


def test_a_sheet_whose_chunks_are_all_committed_is_made_at_once() -> None:
    state = RunState.start([SHEET], {SHEET: set()}, max_failures=3, max_preemptions=3, depth=1)
    assert state.handle(WorkerReady("a")) == [Assign("a", SHEET, 1)]


def test_damaged_chunks_are_made_again_and_then_their_sheet() -> None:
    """One of this run, one of an earlier run, and named twice: each is assigned once."""
    state = state_of(1, sheet=True, depth=2)
    state.handle(WorkerReady("a"))
    state.handle(WorkerReady("b"))
    assert state.handle(TaskDone("a", chunk(0))) == [Assign("a", SHEET, 1)]
    found = TaskFailed("a", SHEET, "digests differ", retryable=True, undone=(chunk(0), COMMITTED, chunk(0)))
    assert state.handle(found) == [Assign("a", chunk(0), 1), Assign("b", COMMITTED, 1)]
    assert state.handle(TaskDone("b", COMMITTED)) == []
    assert state.handle(TaskDone("a", chunk(0))) == [Assign("a", SHEET, 2)]
    assert state.handle(TaskDone("a", SHEET)) == [Finish(0, None)]
    assert state.histories[SHEET].story == ["a: digests differ"]
    assert state.histories[COMMITTED].story == ["its stored objects were found damaged"]


def test_a_sheet_that_finds_damage_for_ever_is_given_up() -> None:
    state = state_of(1, sheet=True, failures=3)
    state.handle(WorkerReady("a"))
    found = TaskFailed("a", SHEET, "digests differ", retryable=True, undone=(chunk(0),))
    for attempt in (1, 2, 3):
        assert state.handle(TaskDone("a", chunk(0))) == [Assign("a", SHEET, attempt)]
        last = state.handle(found)
    assert last == [Quarantine(SHEET, ("a: digests differ",) * 3), Finish(1, None)]


@pytest.mark.parametrize(
    ("tasks", "waits", "problem"),
    [
        ([chunk(0), chunk(0)], {}, "listed once"),
        ([chunk(0)], {SHEET: {chunk(0)}}, "listed once"),
        ([chunk(0), SHEET], {SHEET: {chunk(0), chunk(1)}}, "must stand after"),
        ([SHEET, chunk(0)], {SHEET: {chunk(0)}}, "must stand after"),
        ([chunk(0), SHEET], {SHEET: {SHEET}}, "must stand after"),
        ([chunk(0), SHEET], {SHEET: {chunk(0)}, chunk(0): {SHEET}}, "must stand after"),
    ],
)
def test_a_plan_that_could_never_end_is_refused(
    tasks: list[TaskKey], waits: dict[TaskKey, set[TaskKey]], problem: str
) -> None:
    with pytest.raises(ValueError, match=problem):
        RunState.start(tasks, waits, max_failures=1, max_preemptions=1, depth=1)


def state_of_two_sheets() -> RunState:
    """Two sheets wait for one chunk, and one of them for the other too."""
    waits: dict[TaskKey, set[TaskKey]] = {SHEET: {chunk(0)}, OTHER: {chunk(0), SHEET}}
    return RunState.start([chunk(0), SHEET, OTHER], waits, max_failures=3, max_preemptions=3, depth=1)


def test_several_tasks_may_wait_for_one_and_for_each_other() -> None:
    state = state_of_two_sheets()
    state.handle(WorkerReady("a"))
    state.handle(WorkerReady("b"))
    assert state.handle(TaskDone("a", chunk(0))) == [Assign("a", SHEET, 1)], "the other sheet waits for this one"
    assert state.handle(TaskDone("a", SHEET)) == [Assign("a", OTHER, 1)]
    assert state.handle(TaskDone("a", OTHER)) == [Finish(0, None)]


def test_what_two_tasks_find_damaged_is_done_again_once() -> None:
    waits: dict[TaskKey, set[TaskKey]] = {}
    state = RunState.start([SHEET, OTHER], waits, max_failures=3, max_preemptions=3, depth=1)
    state.handle(WorkerReady("a"))
    state.handle(WorkerReady("b"))
    damage = ("digests differ", True, "failure", (COMMITTED,))
    assert state.handle(TaskFailed("a", SHEET, *damage)) == [Assign("a", COMMITTED, 1)]
    assert state.handle(TaskFailed("b", OTHER, *damage)) == []
    assert tasks(state.handle(TaskDone("a", COMMITTED))) == [SHEET, OTHER]
