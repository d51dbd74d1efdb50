"""Money adds up to what was paid: whatever overlaps, fails, or is in hand when a worker dies."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchseg.ledger.keys import ChunkKey
from batchseg.ledger.records import Record, Stint
from batchseg.ledger.sessions import count_wall_s
from batchseg.ledger.stages import STAGES, Stage, StageClock
from batchseg.reports.money import COST_PARTS, cost_parts, paid_usd
from batchseg.store import LocalStore, put_value
from tests.batchseg.ledger.ledger_records import BEGUN_UNIX_S, attempt_of, record_of, session_of, stint_of
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
    parts = cost_parts(list(records.values()), stints, wall_s=wall, head_usd_per_hour=head_usd_per_hour)
    assert set(parts) == set(COST_PARTS)
    assert min(parts.values()) >= 0
    lives_usd = sum(life.paid_usd for life in found) + wall * head_usd_per_hour / 3600
    # Times since 1970 are known to a quarter of a microsecond.
    tolerance_usd = sum(life.usd_per_hour for life in found) / 3600 * 1e-6
    assert sum(parts.values()) == pytest.approx(lives_usd, rel=1e-9, abs=tolerance_usd)
    told_usd = paid_usd(list(records.values()), stints, wall, head_usd_per_hour)
    assert told_usd == pytest.approx(lives_usd, rel=1e-9, abs=tolerance_usd)


def test_where_the_money_of_a_dead_worker_went() -> None:
    """20 s of start, 30 s committed, 5 s failed, 10 s in hand when it died; the rest of 80 s was idle."""
    record = record_of(
        ChunkKey("a", 0, 0), attempt_of("w", 60.0, {"read": 10.0, "compute_bulk": 20.0, "busy_read": 25.0})
    )
    stint = stint_of("w", 80.0, ended=False, start_s=20.0, waste_s=5.0, in_hand_s={"a/0_1": 10.0}, usd_per_hour=1.0)
    parts = cost_parts([record], [stint], wall_s=100.0, head_usd_per_hour=0.5)
    seconds = {part: usd * 3600 for part, usd in parts.items()}
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
    parts = cost_parts([record], [stint], wall_s=0.0, head_usd_per_hour=0.0)
    assert parts["waste"] == 0
    assert sum(parts.values()) * 3600 == pytest.approx(50.0)


def test_a_chunk_made_twice_by_two_pools_is_paid_for_twice() -> None:
    """Only the second record is left; the seconds of the first are idle in the first worker's life."""
    again = record_of(ChunkKey("a", 0, 0), attempt_of("dear", 10.0, {"compute_heavy": 10.0}, usd_per_hour=36.0))
    stints = [stint_of("cheap", 20.0, usd_per_hour=3.6), stint_of("dear", 10.0, usd_per_hour=36.0)]
    parts = cost_parts([again], stints, wall_s=0.0, head_usd_per_hour=0.0)
    assert (parts["compute_heavy"], parts["idle"]) == (pytest.approx(0.1), pytest.approx(0.02))


def test_the_wall_time_of_several_drivers(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    assert count_wall_s(store) == 0
    for name, begun_s, beat_s in (("a", 0.0, 12.5), ("b", 1000.0, 1001.0)):
        put_value(store, f"run/sessions/{name}.json", session_of(name, begun_s, beat_s))
    assert count_wall_s(store) == 13.5
