"""How long a worker may keep a task."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from batchseg.errors import RecipeError
from batchseg.ledger.keys import ChunkKey
from batchseg.recipe import Patience
from batchseg.runs.absent_scenes import LOOKS
from batchseg.runs.patience import Waits


@dataclass
class Clock:
    s: float = 0.0

    def __call__(self) -> float:
        return self.s


def chunk(number: int) -> ChunkKey:
    return ChunkKey("s", 0, number)


def waits_of(clock: Clock, **patience: float) -> Waits:
    return Waits(Patience(**patience), lambda worker, _: worker[0], clock)


def done(waits: Waits, clock: Clock, worker: str, took_s: float, num: int = 5) -> None:
    for number in range(num):
        waits.begin(worker, chunk(100 + number))
        clock.s += took_s
        waits.end(worker, chunk(100 + number), done=True)


def test_late_is_a_multiple_of_what_peers_need() -> None:
    clock = Clock()
    waits = waits_of(clock, times_median=3.0, least_s=1.0)
    done(waits, clock, "a1", 2.0)
    waits.begin("a2", chunk(1))
    clock.s += 5.9
    assert waits.find_late() == []
    clock.s += 1.2
    (late,) = waits.find_late()
    assert (late.worker, late.task) == ("a2", chunk(1))
    assert late.why == "it had s/0_1 for 7 s, where its peers need 2.0 s"


def test_peers_are_of_the_same_kind() -> None:
    clock = Clock()
    waits = waits_of(clock, times_median=3.0, least_s=1.0)
    done(waits, clock, "a1", 0.1)
    waits.begin("b1", chunk(1))
    clock.s += 1000.0
    assert waits.find_late() == [], "nothing is known of workers of kind b"


def test_nobody_is_late_before_the_least_time_or_without_a_median() -> None:
    clock = Clock()
    waits = waits_of(clock, times_median=3.0, least_s=60.0)
    done(waits, clock, "a1", 1.0, num=4)
    waits.begin("a2", chunk(1))
    clock.s += 61.0
    assert waits.find_late() == []
    done(waits, clock, "a1", 1.0, num=1)
    clock.s += 1.0
    assert [late.worker for late in waits.find_late()] == ["a2"]


def test_a_deadline_needs_no_peers_and_the_oldest_task_is_blamed() -> None:
    clock = Clock()
    waits = waits_of(clock, most_s=10.0)
    waits.begin("a1", chunk(1))
    clock.s += 5.0
    waits.begin("a1", chunk(2))
    clock.s += 6.0
    (late,) = waits.find_late()
    assert late.task == chunk(1)
    waits.drop_worker("a1")
    clock.s += 60.0
    assert waits.find_late() == []


def test_pauses_before_looks_for_a_scene_grow_and_add_up_to_the_time_of_the_fleet() -> None:
    clock = Clock()
    waits, waited_s = waits_of(clock, scene_s=100.0), []
    for look in range(LOOKS):
        waits.await_scene("a", look)
        assert waits.limit_wait_s(1.0) == 1.0
        begun_s = clock.s
        while not waits.take_due_scenes():
            clock.s += 1.0
        waited_s.append(clock.s - begun_s)
    assert waited_s == [10.0, 30.0, 60.0]
    waits.await_scene("a", 0)
    clock.s += 9.5
    assert waits.limit_wait_s(1.0) == 0.5
    waits.forget_scene("a")
    clock.s += 100.0
    assert waits.take_due_scenes() == []


def test_failures_say_nothing_of_how_long_a_task_takes() -> None:
    clock = Clock()
    waits = waits_of(clock, times_median=2.0, least_s=1.0)
    for number in range(9):
        waits.begin("a1", chunk(number))
        clock.s += 0.01
        waits.end("a1", chunk(number), done=False)
    waits.begin("a1", chunk(99))
    clock.s += 100.0
    assert waits.find_late() == []


@pytest.mark.parametrize(
    "values", [{"times_median": 1.0}, {"least_s": 0.0}, {"most_s": -1.0}, {"start_s": 0.0}, {"scene_s": 0.0}]
)
def test_patience_that_cannot_be_meant_is_refused(values: dict[str, float]) -> None:
    with pytest.raises(RecipeError, match="patience"):
        Patience(**values)
