"""Reports are folds: money adds up to what was paid, accuracy is what others compute, and no order matters."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score, jaccard_score, precision_recall_fscore_support

from batchseg.ledger.keys import ChunkKey, SheetKey
from batchseg.ledger.records import Agreement, Attempt, Measured, Record, Seams, SheetRecord, Stint, TileCounts
from batchseg.ledger.stages import STAGES, Stage, StageClock
from batchseg.runs.accuracy import agree, class_index, iou_of, scores
from batchseg.runs.driver import wall_s
from batchseg.runs.money import COST_PARTS, cost_parts, paid_usd
from batchseg.runs.planfile import PlanFile, ScenePlan
from batchseg.runs.report import metrics
from batchseg.scene.georef import Georef
from batchseg.store import LocalStore
from tests.strategies import quick
from tiling.span import Window

CLASSES = ("soil", "water", "roof")
BEGUN_UNIX_S = 1_700_000_000.0


def attempt_of(worker: str, ended_s: float, seconds: dict[str, float], usd_per_hour: float = 1.0) -> Attempt:
    return Attempt(
        number=1,
        worker=worker,
        pool="pool",
        device="cpu",
        environment={"device": "cpu"},
        usd_per_hour=usd_per_hour,
        started_unix_s=BEGUN_UNIX_S,
        ended_unix_s=BEGUN_UNIX_S + ended_s,
        seconds=seconds,
    )


def record_of(key: ChunkKey, attempt: Attempt, **changes: Any) -> Record:
    values: dict[str, Any] = {
        "tiles": TileCounts(bulk=1),
        "valid_px": 1,
        "class_px": (1, 0, 0),
        "area_km2": 0.5,
        "class_area_km2": (0.5, 0.0, 0.0),
        "confidence_sum": 127,
        "agreement": None,
    }
    measured = Measured(**(values | changes))
    kind = "done" if measured.valid_px else "empty"
    return Record(key=key, fingerprint="f", kind=kind, objects=(), measured=measured, attempt=attempt)


def stint_of(worker: str, beat_s: float, **changes: Any) -> Stint:
    values: dict[str, Any] = {
        "worker": worker,
        "pool": "pool",
        "host": "host",
        "device": "cpu",
        "usd_per_hour": 1.0,
        "begun_unix_s": BEGUN_UNIX_S,
        "beat_unix_s": BEGUN_UNIX_S + beat_s,
        "ended": True,
        "start_s": 0.0,
        "idle_s": 0.0,
        "waste_s": 0.0,
        "in_hand_s": {},
    }
    return Stint(**(values | changes))


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
    assert wall_s(store) == 0
    for name, begun_s, beat_s in (("a", 0.0, 12.5), ("b", 1000.0, 1001.0)):
        content = {"begun_unix_s": BEGUN_UNIX_S + begun_s, "beat_unix_s": BEGUN_UNIX_S + beat_s}
        store.put(f"run/sessions/{name}.json", json.dumps(content).encode())
    assert wall_s(store) == 13.5


@dataclass(frozen=True)
class DrawnLabels:
    """A reference in memory."""

    raw_HW: NDArray[Any]
    labelled_HW: NDArray[np.bool_]
    id: str = "drawn"

    def read(self, window: Window) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        rows, cols = window.within(Window.of(0, self.raw_HW.shape[0], 0, self.raw_HW.shape[1]))
        return self.raw_HW[rows, cols], self.labelled_HW[rows, cols]


@quick
@given(st.lists(st.integers(0, 40), min_size=1, max_size=7, unique=True), st.integers(0, 2**32 - 1))
def test_iou_is_that_of_scikit_learn(ids: list[int], seed: int) -> None:
    random = np.random.default_rng(seed)
    predicted_HW = random.choice([*ids, 255], (24, 30))
    # Some classes of the bundle are rare, some codes are none.
    reference_HW = np.where(random.random((24, 30)) < 0.5, predicted_HW, random.choice([*ids, 77, 255], (24, 30)))
    labels = DrawnLabels(reference_HW, random.random((24, 30)) > 0.2)
    total = np.zeros((len(ids), len(ids)), np.int64)
    unknown_px = 0
    for rows in ((0, 16), (16, 24)):
        window = Window.of(*rows, 0, 30)
        index_HW = class_index(predicted_HW[slice(*rows)], tuple(ids), 255)
        found = agree(index_HW, labels, window, ids=ids, nodata=255)
        total += np.array(found.confusion)
        unknown_px += found.unknown_px
    both_HW = labels.labelled_HW & (predicted_HW != 255)
    known_HW = both_HW & np.isin(reference_HW, ids)
    assert unknown_px == int((both_HW & ~known_HW).sum())
    truth, answer = reference_HW[known_HW], predicted_HW[known_HW]
    present = [i for i in ids if i in truth or i in answer]
    wanted = dict(
        zip(present, jaccard_score(truth, answer, labels=present, average=None) if present else (), strict=True)
    )
    for class_id, iou in zip(ids, iou_of(total), strict=True):
        assert iou == (pytest.approx(wanted[class_id]) if class_id in wanted else None)
    found = scores(total, [str(i) for i in ids])
    if not truth.size:
        assert (found["miou"], found["fwiou"], found["scored_px"]) == (None, None, 0)
        return
    of_sklearn = precision_recall_fscore_support(truth, answer, labels=ids, zero_division=np.nan)
    for name, values in zip(("precision", "recall", "f1"), of_sklearn[:3], strict=True):
        given = [np.nan if found[name][str(i)] is None else found[name][str(i)] for i in ids]
        assert given == pytest.approx(values, abs=1e-5, nan_ok=True)
    assert found["accuracy"] == pytest.approx(accuracy_score(truth, answer), abs=1e-5)
    weighted = jaccard_score(truth, answer, labels=present, average="weighted")
    assert found["fwiou"] == pytest.approx(weighted, abs=1e-5)
    assert found["miou"] == pytest.approx(np.mean(list(wanted.values())), abs=1e-5)


def plan_of(*scenes: str, labels_id: str | None = "drawn") -> PlanFile:
    """Scenes of three by three chunks."""
    georef = Georef(width_px=48, height_px=48, crs_wkt=None, transform=None, gcps=(), gcps_crs_wkt=None, rpcs=None)
    one = ScenePlan(url="x", georef=georef, labels_id=labels_id, area_note=None)
    return PlanFile(
        fingerprint="f",
        class_names=CLASSES,
        core_px=8,
        chunk_px=16,
        head_usd_per_hour=0.1,
        scenes=dict.fromkeys(scenes, one),
    )


@st.composite
def chunk_records(draw: st.DrawFn, key: ChunkKey) -> Record:
    class_px = tuple(draw(st.integers(0, 100)) for _ in CLASSES)
    # Whole 512ths of a km² have nine decimals, so their sums are exact in any order.
    class_km2 = tuple(draw(st.integers(0, 2048)) / 512 for _ in CLASSES)
    confusion = tuple(tuple(draw(st.integers(0, 9)) for _ in CLASSES) for _ in CLASSES)
    labels_id = draw(st.sampled_from(["drawn", "drawn", "of yesterday"]))
    agreement = Agreement(labels_id=labels_id, confusion=confusion, unknown_px=draw(st.integers(0, 3)))
    return record_of(
        key,
        attempt_of("w", draw(st.integers(1, 64)), {"compute_bulk": draw(st.integers(0, 64)) / 16}, 3600.0),
        tiles=TileCounts(bulk=draw(st.integers(0, 4)), heavy=draw(st.integers(0, 4)), skipped=draw(st.integers(0, 4))),
        valid_px=sum(class_px),
        class_px=class_px,
        area_km2=sum(class_km2),
        class_area_km2=class_km2,
        confidence_sum=draw(st.integers(0, 254)) * sum(class_px),
        agreement=draw(st.sampled_from([agreement, None])),
    )


@st.composite
def ledgers(draw: st.DrawFn) -> tuple[list[Record], list[SheetRecord]]:
    keys = [ChunkKey(scene, row, col) for scene in ("a", "b") for row in range(3) for col in range(3)]
    kept = draw(st.lists(st.sampled_from(keys), unique=True))
    counts = st.tuples(*[st.integers(0, 50)] * 4)
    sheets = [
        SheetRecord(
            key=SheetKey(scene, 0, 0),
            fingerprint="f",
            inputs_digest="",
            missing=(),
            objects=(),
            seams=Seams(tile=draw(counts), chunk=draw(counts), tier=draw(counts), same_tier=draw(counts)),
            attempt=attempt_of("w", 5.0, {"write": 0.25}, 3600.0),
        )
        for scene in draw(st.lists(st.sampled_from(["a", "b"]), unique=True))
    ]
    return [draw(chunk_records(key)) for key in kept], sheets


def told(records: Sequence[Record], sheets: Sequence[SheetRecord]) -> dict[str, Any]:
    given_up = {"b/9_9": ("why",)}
    stints = [stint_of("w", 128.0, usd_per_hour=3600.0)]
    return metrics(plan_of("a", "b"), records, sheets, stints, quarantined=given_up, wall_s=64.0)


def test_workers_that_died_and_what_they_failed_at_are_counted() -> None:
    dead = replace(stint_of("spot-1", 5.0), ended=False, failures=("a/0_0, attempt 1: why",))
    found = metrics(
        plan_of("a"), [], [], [stint_of("spot-0", 9.0), dead, stint_of("spot-2", 9.0)], quarantined={}, wall_s=9.0
    )
    assert found["workers"] == {"hired": 3, "lost": 1, "failed_attempts": 1}


@quick
@given(ledgers(), st.randoms())
def test_the_order_of_the_ledger_does_not_matter(ledger: tuple[list[Record], list[SheetRecord]], random: Any) -> None:
    records, sheets = ledger
    mixed, mixed_sheets = list(records), list(sheets)
    random.shuffle(mixed)
    random.shuffle(mixed_sheets)
    assert told(mixed, mixed_sheets) == told(records, sheets)


@quick
@given(ledgers())
def test_scenes_add_up_to_the_whole(ledger: tuple[list[Record], list[SheetRecord]]) -> None:
    whole = told(*ledger)
    parts = list(whole["scenes"].values())
    for key in ("valid_px", "area_km2", "unknown_label_px"):
        assert whole[key] == sum(part[key] for part in parts)
    for key in ("class_px", "class_area_km2", "tiles", "chunks"):
        assert whole[key] == {name: sum(part[key][name] for part in parts) for name in whole[key]}, key
    matrices = [np.array(part["confusion"]) for part in parts if part["confusion"] is not None]
    assert (whole["confusion"] is None) == (not matrices)
    if matrices:
        assert whole["confusion"] == sum(matrices).tolist()
    assert sum(whole["class_px"].values()) == whole["valid_px"]
    worked = ("compute_bulk", "compute_heavy", "audit", "read", "write")
    assert sum(part["cost_usd"] for part in parts) == pytest.approx(sum(whole["cost"][part] for part in worked))
    assert sum(whole["cost"].values()) == pytest.approx(whole["cost_usd"], abs=1e-7)
    assert json.loads(json.dumps(whole)) == whole


def test_an_agreement_with_yesterdays_labels_is_not_counted() -> None:
    diagonal = tuple(tuple(int(i == k) for k in range(3)) for i in range(3))
    old = Agreement(labels_id="of yesterday", confusion=((9, 9, 9),) * 3, unknown_px=5)
    new = replace(old, labels_id="drawn", confusion=diagonal, unknown_px=1)
    attempt = attempt_of("w", 1.0, {})
    records = [record_of(ChunkKey("a", 0, i), attempt, agreement=given) for i, given in enumerate((old, new))]
    found = told(records, [])
    assert (found["miou"], found["unknown_label_px"]) == (1.0, 1)


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_ground_of_unknown_size_makes_the_sum_unknown_and_empty_ground_does_not(order: tuple[int, ...]) -> None:
    attempt = attempt_of("w", 1.0, {})
    nowhere = {"area_km2": None, "class_area_km2": None}
    known = record_of(ChunkKey("a", 0, 0), attempt)
    empty = record_of(ChunkKey("a", 0, 1), attempt, valid_px=0, class_px=(0, 0, 0), confidence_sum=0, **nowhere)
    unknown = record_of(ChunkKey("b", 0, 0), attempt, **nowhere)
    found = told([(known, empty, unknown)[i] for i in order], [])
    assert (found["area_km2"], found["cost_usd_per_km2"], found["class_area_km2"]) == (None, None, None)
    assert (found["scenes"]["a"]["area_km2"], found["scenes"]["a"]["area_note"]) == (0.5, None)
    assert found["scenes"]["b"]["area_note"] == "some valid pixels lie off the Earth"
    assert found["valid_px"] == 2


def test_nothing_at_all() -> None:
    found = told([], [])
    assert found["chunks"] == {"done": 0, "empty": 0, "failed": 1, "not_run": 17}
    assert (found["area_km2"], found["cost_usd_per_km2"], found["miou"], found["heavy_share"]) == (
        0.0,
        None,
        None,
        None,
    )
    assert set(found["seam"].values()) == {None}
