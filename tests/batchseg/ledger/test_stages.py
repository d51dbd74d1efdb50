"""Every second of a worker is given to exactly one stage."""

from __future__ import annotations

import threading
from collections import defaultdict
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchseg.ledger.stages import STAGES, Stage, StageClock, sum_paid_s
from tests.strategies import thorough


@dataclass(slots=True)
class Time:
    """Whole seconds, so that sums are exact."""

    seconds: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self) -> float:
        return self.seconds

    def passes(self, seconds: int) -> None:
        with self._lock:
            self.seconds += seconds


def test_what_hides_behind_compute_costs_nothing() -> None:
    time = Time()
    clock = StageClock(now=time)
    with clock.stage("read", "next"):
        time.passes(2)
        with clock.stage("compute_bulk", "this"):
            time.passes(10)
        time.passes(1)
    assert clock.take("this") == {"compute_bulk": 10, "busy_compute_bulk": 10}
    assert clock.take("next") == {"read": 3, "busy_read": 13}
    assert clock.idle_s == 0


def test_the_stage_that_stands_first_is_paid() -> None:
    time = Time()
    clock = StageClock(now=time)
    opened = [clock.stage(stage, stage) for stage in reversed(STAGES)]
    for stage in opened:
        stage.__enter__()
        time.passes(1)
    for stage in reversed(opened):
        stage.__exit__(None, None, None)
        time.passes(1)
    paid = {stage: clock.take(stage)[stage] for stage in STAGES}
    assert paid == {"compute_heavy": 1, "compute_bulk": 2, "audit": 2, "read": 2, "write": 2, "start": 2}
    assert clock.idle_s == 1


def test_idle_is_what_nobody_takes_up_to_now() -> None:
    time = Time()
    clock = StageClock(now=time)
    time.passes(4)
    assert clock.idle_s == 4
    with clock.stage("write", "x"):
        time.passes(3)
        assert clock.idle_s == 4
    time.passes(2)
    assert clock.idle_s == 6


def test_seconds_are_taken_once_and_in_hand_until_then() -> None:
    time = Time()
    clock = StageClock(now=time)
    with clock.stage("read", "x"):
        time.passes(3)
        assert clock.in_hand_s() == {"x": 3}
        assert clock.take("x") == {"read": 3}
        time.passes(1)
    assert clock.in_hand_s() == {"x": 1}
    assert clock.take("x") == {"read": 1, "busy_read": 4}
    assert clock.take("x") == {}
    assert clock.in_hand_s() == {}


def test_a_stage_that_raises_is_closed() -> None:
    time = Time()
    clock = StageClock(now=time)

    def fail() -> None:
        with clock.stage("write", "x"):
            time.passes(5)
            raise OSError("disk")

    with pytest.raises(OSError, match="disk"):
        fail()
    time.passes(7)
    assert clock.take("x") == {"write": 5, "busy_write": 5}
    assert clock.idle_s == 7


def test_paid_seconds_leave_the_busy_ones_out() -> None:
    assert sum_paid_s({"read": 2.0, "busy_read": 9.0, "compute_heavy": 3.0}) == 5.0
    assert sum_paid_s({}) == 0


steps = st.lists(
    st.tuples(st.integers(0, 3), st.sampled_from(STAGES), st.sampled_from("xyz"), st.booleans(), st.integers(0, 9)),
    max_size=30,
)


@thorough
@given(steps)
def test_overlapping_stages_add_up_to_what_passed(events: list[tuple[int, Stage, str, bool, int]]) -> None:
    """Several threads as an order of calls: each closes its stage, if it has one open, or opens another."""
    time = Time()
    clock = StageClock(now=time)
    open_in: dict[int, tuple[Stage, str, AbstractContextManager[None]]] = {}
    paid: defaultdict[str, int] = defaultdict(int)
    taken = 0.0
    for thread, stage, task, take, seconds in events:
        if thread in open_in:
            open_in.pop(thread)[2].__exit__(None, None, None)
        else:
            entered = clock.stage(stage, task)
            entered.__enter__()
            open_in[thread] = (stage, task, entered)
        time.passes(seconds)
        first = min(((STAGES.index(s), t) for s, t, _ in open_in.values()), default=None)
        paid["idle" if first is None else STAGES[first[0]]] += seconds
        if take:
            taken += sum_paid_s(clock.take(task))
    left = [clock.take(task) for task in "xyz"]
    assert taken + sum(map(sum_paid_s, left)) + clock.idle_s == time.seconds == sum(paid.values())
    assert clock.idle_s == paid["idle"]


def test_real_threads_lose_no_second() -> None:
    time = Time()
    clock = StageClock(now=time)

    def work(name: str) -> None:
        for _ in range(200):
            for stage in STAGES:
                with clock.stage(stage, name):
                    time.passes(1)

    threads = [threading.Thread(target=work, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    paid = sum(sum_paid_s(clock.take(name)) for name in "abcd")
    assert time.seconds == 4 * 200 * len(STAGES)
    assert paid + clock.idle_s == time.seconds
