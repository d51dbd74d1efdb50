"""Money adds up to what was paid: whatever overlaps, fails, or is in hand when a worker dies."""

from __future__ import annotations

import itertools
import json
import time
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchseg.json_values import put_value
from batchseg.ledger.keys import ChunkKey
from batchseg.ledger.ledger import Ledger
from batchseg.ledger.records import Record, Stint
from batchseg.ledger.sessions import count_wall_s, read_sessions
from batchseg.ledger.stages import STAGES, Stage, StageClock
from batchseg.paths import session_key
from batchseg.recipe import Fleet
from batchseg.reports.money import price_head, split_cost, sum_paid_usd
from batchseg.reports.write import report, sum_spent_usd
from batchseg.store import LocalStore
from tests.batchseg.ledger.ledger_records import BEGUN_UNIX_S, attempt_of, record_of, session_of, stint_of
from tests.runs import Workplace, noise
from tests.sealed_files import read_sealed
from tests.strategies import quick


@dataclass
class Life:
    """A worker on a clock of our own, which keeps its books as the real one does: with a StageClock."""

    name: str
    usd_per_hour: float
    now_s: float = 0.0
    records: list[Record] = field(default_factory=list)
    stint: Stint | None = None
    _open: dict[int, AbstractContextManager[None]] = field(default_factory=dict)
    _waste_s: float = 0.0

    def __post_init__(self) -> None:
        self.clock = StageClock(now=lambda: self.now_s)
        self.beat()

    def act(self, act: str, chunk: int, stage: Stage) -> None:
        task = str(self.key(chunk))
        if act == "beat":
            self.beat()
        elif chunk not in self._open:
            self._open[chunk] = self.clock.stage(stage, task)
            self._open[chunk].__enter__()
        else:
            self._open.pop(chunk).__exit__(None, None, None)
            if act == "commit":
                seconds = self.clock.take(task)
                self.records.append(
                    record_of(self.key(chunk), attempt_of(self.name, self.now_s, seconds, self.usd_per_hour))
                )
            if act == "fail":
                self._waste_s += sum(s for stage, s in self.clock.take(task).items() if stage in STAGES)

    def key(self, chunk: int) -> ChunkKey:
        return ChunkKey(self.name, 0, chunk)

    def beat(self) -> None:
        self.stint = stint_of(
            self.name,
            self.now_s,
            usd_per_hour=self.usd_per_hour,
            idle_s=self.clock.idle_s,
            waste_s=self._waste_s,
            in_hand_s=self.clock.in_hand_s(),
        )

    @property
    def paid_usd(self) -> float:
        """A life ends with the last sign of it."""
        assert self.stint is not None
        signs = [self.stint.beat_unix_s, *(record.attempt.ended_unix_s for record in self.records)]
        return (max(signs) - BEGUN_UNIX_S) * self.usd_per_hour / 3600


acts = st.tuples(
    st.floats(0.0, 100.0),
    st.sampled_from(["beat", "close", "commit", "fail"]),
    st.integers(0, 2),
    st.sampled_from(STAGES[:4]),
)
lives = st.tuples(st.floats(0.01, 50.0), st.lists(acts, max_size=25))


@quick
@given(st.lists(lives, min_size=1, max_size=4), st.floats(0, 1e4), st.floats(0, 2.0))
def test_the_parts_of_the_cost_add_up_to_what_was_paid(
    drawn: list[tuple[float, list[tuple[float, str, int, Stage]]]], wall: float, head_usd_per_hour: float
) -> None:
    """Whatever overlaps, fails, is in hand at the end, or is committed after the last beat of a worker that dies."""
    found = [Life(f"worker{i}", usd_per_hour) for i, (usd_per_hour, _) in enumerate(drawn)]
    for life, (_, events) in zip(found, drawn, strict=True):
        for after_s, act, chunk, stage in events:
            life.now_s += after_s
            life.act(act, chunk, stage)
    # The ledger holds the last record of each chunk.
    records = {record.key: record for life in found for record in life.records}
    stints = [life.stint for life in found if life.stint is not None]
    head_usd = wall * head_usd_per_hour / 3600
    cost = split_cost(list(records.values()), stints, head_usd=head_usd)
    assert min(cost.parts.values()) >= 0
    lives_usd = sum(life.paid_usd for life in found) + head_usd
    # Times since 1970 are known to a quarter of a microsecond.
    tolerance_usd = sum(life.usd_per_hour for life in found) / 3600 * 1e-6
    assert cost.total_usd == pytest.approx(lives_usd, rel=1e-9, abs=tolerance_usd)
    paid_usd = sum_paid_usd(list(records.values()), stints, head_usd=head_usd)
    assert paid_usd == pytest.approx(lives_usd, rel=1e-9, abs=tolerance_usd)


def test_where_the_money_of_a_dead_worker_went() -> None:
    """20 s of start, 30 s committed, 5 s failed, 10 s in hand when it died; the rest of 80 s was idle."""
    record = record_of(
        ChunkKey("a", 0, 0), attempt_of("w", 60.0, {"read": 10.0, "compute_bulk": 20.0, "busy_read": 25.0})
    )
    stint = stint_of("w", 80.0, ended=False, start_s=20.0, waste_s=5.0, in_hand_s={"a/0_1": 10.0}, usd_per_hour=1.0)
    cost = split_cost([record], [stint], head_usd=100.0 * 0.5 / 3600)
    seconds = {part: usd * 3600 for part, usd in cost.parts.items()}
    assert seconds == pytest.approx(
        {
            "compute_bulk": 20.0,
            "compute_heavy": 0.0,
            "audit": 0.0,
            "read": 10.0,
            "write": 0.0,
            "idle": 15.0,
            "start": 20.0,
            "waste": 15.0,
            "head": 50.0,
        }
    )


def test_what_was_in_hand_at_the_last_beat_and_committed_after_it_is_no_waste() -> None:
    record = record_of(ChunkKey("a", 0, 0), attempt_of("w", 50.0, {"compute_bulk": 50.0}))
    stint = stint_of("w", 30.0, ended=False, in_hand_s={"a/0_0": 30.0})
    cost = split_cost([record], [stint], head_usd=0.0)
    assert cost.waste == 0
    assert cost.total_usd * 3600 == pytest.approx(50.0)


def test_a_chunk_made_twice_by_two_pools_is_paid_for_twice() -> None:
    """Only the second record is left; the seconds of the first are idle in the first worker's life."""
    again = record_of(ChunkKey("a", 0, 0), attempt_of("dear", 10.0, {"compute_heavy": 10.0}, usd_per_hour=36.0))
    stints = [stint_of("cheap", 20.0, usd_per_hour=3.6), stint_of("dear", 10.0, usd_per_hour=36.0)]
    cost = split_cost([again], stints, head_usd=0.0)
    assert (cost.compute_heavy, cost.idle) == (pytest.approx(0.1), pytest.approx(0.02))


def test_the_wall_time_of_several_drivers(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    assert count_wall_s(store) == 0
    for name, begun_s, beat_s in (("a", 0.0, 12.5), ("b", 1000.0, 1001.0)):
        put_value(store, f"run/sessions/{name}.json", session_of(name, begun_s, beat_s))
    assert count_wall_s(store) == 13.5


def test_a_resume_at_another_head_price_does_not_price_the_past_again(tmp_path: Path) -> None:
    place = Workplace.of(tmp_path, noise(70, 45))
    place.run(fleet=Fleet(head_usd_per_hour=3600.0))
    store = LocalStore(place.output)
    (first,) = read_sessions(store)
    # Time that no other session comes near, so that its price decides.
    put_value(store, session_key(first.name), replace(first, lived_s=1000.0))
    assert report(place.output).cost.head == pytest.approx(1000.0)
    assert place.run(fleet=Fleet(head_usd_per_hour=36.0)).exit_status == 0
    cheaper = place.run()  # without a fleet
    expected_usd = sum(session.seconds * session.head_usd_per_hour / 3600 for session in read_sessions(store))
    assert expected_usd > 1000.0
    assert cheaper.metrics.cost.head == pytest.approx(expected_usd, abs=1e-7)
    assert cheaper.metrics.paid_usd == pytest.approx(cheaper.metrics.cost_usd, abs=1e-6)
    assert sum_spent_usd(store, head_usd_per_hour=0.0) > 1000.0


def test_sessions_without_a_price_have_that_of_the_plan(tmp_path: Path) -> None:
    """Folders of runs that were made before sessions kept their price."""
    place = Workplace.of(tmp_path, noise(40, 40))
    place.run(fleet=Fleet(head_usd_per_hour=7.2))
    key = session_key(read_sessions(LocalStore(place.output))[0].name)
    content = read_sealed(place.output, key)
    del content["head_usd_per_hour"], content["lived_s"]
    content["beat_unix_s"] = content["begun_unix_s"] + 50.0
    (place.output / key).write_text(json.dumps(content))
    assert report(str(place.output)).cost.head == pytest.approx(0.1)
    assert price_head([session_of("old", 0.0, 50.0, None)], default_usd_per_hour=7.2) == pytest.approx(0.1)


@pytest.mark.parametrize("jump_s", [-1e6, -3600.0, 3600.0, 1e6])
def test_a_clock_that_is_set_changes_no_duration(
    jump_s: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clock is set in the middle of the run, and stays there."""
    place, real = Workplace.of(tmp_path, noise(70, 45)), time.time
    begun_unix_s, begun_s = real(), time.monotonic()
    readings = itertools.count()
    monkeypatch.setattr(time, "time", lambda: real() + (jump_s if next(readings) > 12 else 0.0))
    outcome = place.run(fleet=Fleet(head_usd_per_hour=3600.0))
    spent_s = time.monotonic() - begun_s
    assert next(readings) > 20, "otherwise the clock was not set while the run worked"
    assert outcome.exit_status == 0
    metrics = outcome.metrics
    assert 0 < metrics.wall_s <= spent_s
    assert metrics.cost.head == pytest.approx(metrics.wall_s, rel=1e-3)
    assert 0 < metrics.paid_usd <= 2 * spent_s
    assert metrics.paid_usd == pytest.approx(metrics.cost_usd, rel=0.01)
    for record in Ledger(LocalStore(place.output)).read_records():
        assert 0 <= record.attempt.ended_unix_s - record.attempt.started_unix_s <= spent_s
    assert real() - begun_unix_s < 1e5


def test_a_worker_that_stood_still_is_paid_for_until_it_was_ended() -> None:
    """It sent its last heartbeat after 20 s and was ended after 600 s: both figures have all of it, as waste."""
    stint = stint_of("frozen", 20.0, usd_per_hour=3600.0)
    orderly = stint_of("orderly", 20.0, usd_per_hour=3600.0)
    lost_s = {"frozen": 600.0, "killed before its first heartbeat": 5.0}
    cost = split_cost([], [stint, orderly], head_usd=0.0, lost_s=lost_s)
    assert cost.total_usd == pytest.approx(620.0)
    assert cost.waste >= 580.0
    assert sum_paid_usd([], [stint, orderly], head_usd=0.0, lost_s=lost_s) == pytest.approx(620.0)
    assert split_cost([], [stint], head_usd=0.0, lost_s={"frozen": 3.0}).total_usd == pytest.approx(20.0)
