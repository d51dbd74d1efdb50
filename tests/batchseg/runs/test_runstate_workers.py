"""Stories of single workers: who is fed, and what becomes of what a lost, sick or limited one held."""

from __future__ import annotations

import pytest

from batchseg.ledger.keys import TaskKey
from batchseg.runs.runstate import RunState
from batchseg.tiers import Need
from batchseg.workers.events import (
    Assign,
    Dismiss,
    Finish,
    Quarantine,
    TaskDone,
    TaskFailed,
    WorkerDraining,
    WorkerLost,
    WorkerReady,
    WorkerRetired,
)
from tests.batchseg.runs.task_stories import COMMITTED, SHEET, chunk, failed, state_of, tasks


def test_a_chunk_that_kills_every_worker_ends_and_takes_nobody_along() -> None:
    """Two tasks a worker, one worker: the innocent one must not share the killer's end."""
    killer, innocent = chunk(0), chunk(1)
    state = state_of(2, preemptions=4, depth=2)
    given_up: list[TaskKey] = []
    for life in range(20):
        worker = f"w{life}"
        held = tasks(state.handle(WorkerReady(worker)))
        if held == [innocent]:
            held = tasks(state.handle(TaskDone(worker, innocent)))
        if killer in held:
            given_up += [i.task for i in state.handle(WorkerLost(worker, "killed")) if isinstance(i, Quarantine)]
        if state.finished:
            break
    assert state.finished
    assert given_up == [killer]
    assert state.quarantined == {killer}


@pytest.mark.parametrize("kind", ["out_of_memory", "lost twice"])
def test_a_suspect_is_held_alone(kind: str) -> None:
    state = state_of(3, depth=2)
    if kind == "lost twice":
        for _ in range(2):
            state.handle(WorkerReady("a"))
            state.handle(WorkerLost("a", "spot"))
        suspects = [chunk(0)]
    else:
        state.handle(WorkerReady("a"))
        state.handle(failed("a", chunk(0), kind="out_of_memory"))
        state.handle(TaskDone("a", chunk(1)))
        suspects = [chunk(0)]
    while not state.finished:
        for held in state.held.values():
            assert len(held) == 1 or not set(held) & set(suspects)
        state.handle(TaskDone("a", state.held["a"][0]) if state.held.get("a") else WorkerReady("a"))


@pytest.mark.parametrize("late", [TaskDone("a", chunk(0)), failed("a", chunk(0), retryable=False)])
def test_a_report_of_a_worker_that_no_longer_holds_the_task_is_ignored(late: TaskDone | TaskFailed) -> None:
    state = state_of(1)
    state.handle(WorkerReady("a"))
    state.handle(WorkerReady("b"))
    assert state.handle(WorkerLost("a", "hung")) == [Assign("b", chunk(0), 2)]
    assert state.handle(late) == []
    assert state.held == {"b": [chunk(0)]}
    assert state.handle(TaskDone("b", chunk(0))) == [Finish(0, None)]


def test_a_draining_worker_ends_what_it_holds_and_gets_nothing_more() -> None:
    state = state_of(3, depth=2)
    state.handle(WorkerReady("a"))
    assert state.handle(WorkerDraining("a")) == []
    assert state.handle(TaskDone("a", chunk(0))) == []
    assert state.handle(TaskDone("a", chunk(1))) == []
    assert state.handle(WorkerLost("a", "drained")) == []
    assert state.handle(WorkerReady("a")) == [Assign("a", chunk(2), 1)], "a new life under the old name"


def test_a_notice_may_come_before_its_worker_is_ready() -> None:
    state = state_of(1)
    state.handle(WorkerDraining("a"))
    assert state.handle(WorkerReady("a")) == []
    assert state.handle(WorkerReady("b")) == [Assign("b", chunk(0), 1)]


def test_the_cheapest_worker_is_fed_first() -> None:
    """Three wait for a sheet's last chunk; then damage makes two chunks pending again."""
    state = state_of(1, sheet=True)
    state.handle(WorkerReady("dear", 3.0))
    state.handle(WorkerReady("cheap", 1.0))
    state.handle(WorkerReady("middle", 2.0))
    assert state.handle(TaskDone("dear", chunk(0))) == [Assign("cheap", SHEET, 1)]
    found = TaskFailed("cheap", SHEET, "digests differ", retryable=True, undone=(chunk(0), COMMITTED))
    assert state.handle(found) == [Assign("cheap", chunk(0), 1), Assign("middle", COMMITTED, 1)]


def limited_state() -> RunState:
    needs: dict[TaskKey, Need] = {chunk(0): "both", chunk(1): "bulk", chunk(2): "heavy", chunk(3): "bulk"}
    return RunState.start(
        [chunk(i) for i in range(4)], {}, max_failures=3, max_preemptions=3, depth=1, find_need=needs.__getitem__
    )


def test_a_limited_worker_gets_only_what_is_known_to_need_its_tier() -> None:
    state = limited_state()
    assert tasks(state.handle(WorkerReady("b", only="bulk"))) == [chunk(1)]
    assert tasks(state.handle(TaskDone("b", chunk(1)))) == [chunk(3)]
    assert tasks(state.handle(TaskDone("b", chunk(3)))) == []
    assert tasks(state.handle(WorkerReady("any"))) == [chunk(0)]
    assert tasks(state.handle(TaskDone("any", chunk(0)))) == [chunk(2)]
    assert state.handle(TaskDone("any", chunk(2))) == [Finish(0, None)]


def test_a_worker_without_limits_takes_first_what_only_it_can_do() -> None:
    state = limited_state()
    order = tasks(state.handle(WorkerReady("any")))
    while not state.finished:
        order += tasks(state.handle(TaskDone("any", state.held["any"][0])))
    assert order == [chunk(0), chunk(2), chunk(1), chunk(3)]


def test_a_failed_task_goes_to_another_worker_while_there_is_one() -> None:
    state = state_of(1)
    state.handle(WorkerReady("a"))
    assert tasks(state.handle(failed("a", chunk(0)))) == [chunk(0)], "nobody else is there"
    state.handle(WorkerReady("b"))
    assert state.handle(failed("a", chunk(0))) == [Assign("b", chunk(0), 3)]


def test_a_sick_worker_is_dismissed_before_it_uses_up_everybodys_attempts() -> None:
    state = state_of(40, failures=3)
    state.handle(WorkerReady("sick"))
    state.handle(WorkerReady("well"))
    dismissed: list[str] = []
    while not state.finished:
        for worker in ("sick", "well"):
            for task in list(state.held.get(worker, [])):
                event = failed(worker, task) if worker == "sick" else TaskDone(worker, task)
                out = state.handle(event)
                for dismiss in (i for i in out if isinstance(i, Dismiss)):
                    dismissed.append(dismiss.worker)
                    state.handle(WorkerLost(dismiss.worker, dismiss.why))
    assert dismissed == ["sick"]
    assert state.quarantined == set()


def test_where_every_worker_fails_nobody_is_sick() -> None:
    state = state_of(6, failures=2)
    for worker in ("a", "b"):
        state.handle(WorkerReady(worker))
    while not state.finished:
        for worker, held in list(state.held.items()):
            for task in list(held):
                assert not any(isinstance(i, Dismiss) for i in state.handle(failed(worker, task)))
    assert len(state.quarantined) == 6


def test_a_worker_ended_for_hanging_counts_against_the_task_it_had_first() -> None:
    state = state_of(2, failures=2, depth=2)
    state.handle(WorkerReady("a"))
    state.handle(WorkerLost("a", "hung", "failure", chunk(0)))
    first, second = state.histories[chunk(0)], state.histories[chunk(1)]
    assert (first.failures, first.preemptions) == (1, 0)
    assert (second.failures, second.preemptions) == (0, 1)
    state.handle(WorkerReady("b"))
    (given_up, *_) = state.handle(WorkerLost("b", "hung", "failure", chunk(0)))
    assert given_up == Quarantine(chunk(0), ("a was lost: hung", "b was lost: hung"))


def test_a_worker_killed_for_memory_makes_suspects_of_what_it_held() -> None:
    state = state_of(2, depth=2)
    state.handle(WorkerReady("a"))
    state.handle(WorkerLost("a", "low on memory", "out_of_memory"))
    assert {history.out_of_memory for history in state.histories.values()} == {1}
    assert len(tasks(state.handle(WorkerReady("b")))) == 1


def test_a_worker_sent_home_leaves_nothing_behind() -> None:
    state = state_of(1, depth=2)
    state.handle(WorkerReady("a"))
    state.handle(WorkerReady("b"))
    assert state.handle(WorkerRetired("b", "no work")) == []
    assert list(state.held) == ["a"]
    assert state.num_open == 1
    assert state.handle(TaskDone("a", chunk(0))) == [Finish(0, None)]
