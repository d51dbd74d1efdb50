"""Reports are folds: scenes add up to the whole, what is unknown stays unknown, and no order matters."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchseg.errors import DamagedError, InputError
from batchseg.ledger.keys import ChunkKey, SheetKey
from batchseg.ledger.records import Agreement, Record, Seams, SheetRecord, TileCounts
from batchseg.reports.fold import fold_metrics
from batchseg.reports.metrics import ChunkCounts, Metrics, WorkerCounts, read_metrics
from batchseg.resolve.plan_file import PlanFile, ScenePlan
from batchseg.scene.georef import Georef
from batchseg.schema import build, plain
from batchseg.store import LocalStore
from tests.batchseg.ledger.ledger_records import attempt_of, record_of, session_of, stint_of
from tests.batchseg.reports.small_run import small_metrics
from tests.strategies import quick

CLASSES = ("soil", "water", "roof")


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


def fold(records: Sequence[Record], sheets: Sequence[SheetRecord]) -> Metrics:
    return fold_metrics(
        plan_of("a", "b"),
        records,
        sheets,
        [stint_of("w", 128.0, usd_per_hour=3600.0)],
        sessions=[session_of("driver", 0.0, 64.0, 0.1)],
        quarantined={ChunkKey("b", 9, 9): ("why",)},
        versions={},
    )


def test_workers_that_died_and_what_they_failed_at_are_counted() -> None:
    dead = replace(stint_of("spot-1", 5.0), ended=False, failures=("a/0_0, attempt 1: why",))
    stints = [stint_of("spot-0", 9.0), dead, stint_of("spot-2", 9.0)]
    metrics = fold_metrics(plan_of("a"), [], [], stints, sessions=[], quarantined={}, versions={})
    assert metrics.workers == WorkerCounts(hired=3, lost=1, failed_attempts=1)


@quick
@given(ledgers(), st.randoms())
def test_the_order_of_the_ledger_does_not_matter(ledger: tuple[list[Record], list[SheetRecord]], random: Any) -> None:
    records, sheets = ledger
    mixed, mixed_sheets = list(records), list(sheets)
    random.shuffle(mixed)
    random.shuffle(mixed_sheets)
    assert fold(mixed, mixed_sheets) == fold(records, sheets)


@quick
@given(ledgers())
def test_scenes_add_up_to_the_whole(ledger: tuple[list[Record], list[SheetRecord]]) -> None:
    whole = fold(*ledger)
    scenes = list(whole.scenes.values())
    assert whole.valid_px == sum(scene.valid_px for scene in scenes)
    assert whole.area_km2 == sum(scene.area_km2 for scene in scenes)
    assert whole.scores.unknown_label_px == sum(scene.scores.unknown_label_px for scene in scenes)
    content = plain(whole)
    parts = [plain(scene) for scene in scenes]
    for key in ("class_px", "class_area_km2", "tiles", "chunks"):
        assert content[key] == {name: sum(part[key][name] for part in parts) for name in content[key]}, key
    matrices = [np.array(scene.scores.confusion) for scene in scenes if scene.scores.confusion is not None]
    assert (whole.scores.confusion is None) == (not matrices)
    if matrices:
        assert np.array_equal(whole.scores.confusion, sum(matrices))
    assert sum(whole.class_px.values()) == whole.valid_px
    worked_usd = sum(whole.cost.parts[part] for part in ("compute_bulk", "compute_heavy", "audit", "read", "write"))
    assert sum(scene.cost_usd for scene in scenes) == pytest.approx(worked_usd)
    assert whole.cost.total_usd == pytest.approx(whole.cost_usd, abs=1e-7)
    assert build(Metrics, json.loads(json.dumps(content)), where="metrics.json") == whole


def test_an_agreement_with_yesterdays_labels_is_not_counted() -> None:
    diagonal = tuple(tuple(int(i == k) for k in range(3)) for i in range(3))
    old = Agreement(labels_id="of yesterday", confusion=((9, 9, 9),) * 3, unknown_px=5)
    new = replace(old, labels_id="drawn", confusion=diagonal, unknown_px=1)
    attempt = attempt_of("w", 1.0, {})
    records = [record_of(ChunkKey("a", 0, i), attempt, agreement=given) for i, given in enumerate((old, new))]
    found = fold(records, [])
    assert (found.scores.miou, found.scores.unknown_label_px) == (1.0, 1)


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_ground_of_unknown_size_makes_the_sum_unknown_and_empty_ground_does_not(order: tuple[int, ...]) -> None:
    attempt = attempt_of("w", 1.0, {})
    nowhere = {"area_km2": None, "class_area_km2": None}
    known = record_of(ChunkKey("a", 0, 0), attempt)
    empty = record_of(ChunkKey("a", 0, 1), attempt, valid_px=0, class_px=(0, 0, 0), confidence_sum=0, **nowhere)
    unknown = record_of(ChunkKey("b", 0, 0), attempt, **nowhere)
    found = fold([(known, empty, unknown)[i] for i in order], [])
    assert (found.area_km2, found.cost_usd_per_km2, found.class_area_km2) == (None, None, None)
    assert (found.scenes["a"].area_km2, found.scenes["a"].area_note) == (0.5, None)
    assert found.scenes["b"].area_note == "some valid pixels lie off the Earth"
    assert found.valid_px == 2


def test_nothing_at_all() -> None:
    metrics = fold([], [])
    assert metrics.chunks == ChunkCounts(done=0, empty=0, failed=1, not_run=17)
    assert (metrics.area_km2, metrics.cost_usd_per_km2, metrics.scores.miou, metrics.heavy_share) == (
        0.0,
        None,
        None,
        None,
    )
    assert set(plain(metrics.seam).values()) == {None}


def test_metrics_json_stays_as_it_is_byte_for_byte() -> None:
    """The file holds what was written before metrics became dataclasses: keys, their order, and rounding."""
    expected = Path(__file__).with_name("small_run_metrics.json").read_text()
    assert json.dumps(plain(small_metrics()), indent=1) == expected


def test_metrics_are_read_as_they_were_written(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    with pytest.raises(InputError, match=rf"no metrics yet. Run `batchseg report {tmp_path}`"):
        read_metrics(store)
    store.put("metrics.json", json.dumps(plain(small_metrics()), indent=1).encode())
    assert read_metrics(store) == small_metrics()


@pytest.mark.parametrize(
    "hurt",
    [
        lambda text: text[: len(text) // 2],
        lambda text: text.replace('"valid_px": 486', '"valid_px": "many"'),
        lambda text: text.replace('"fwiou": 0.85148,', ""),
        lambda text: text.replace('"paid_usd"', '"payed_usd"'),
    ],
)
def test_damaged_metrics_name_the_command_that_makes_them_again(hurt: Callable[[str], str], tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    store.put("metrics.json", hurt(json.dumps(plain(small_metrics()), indent=1)).encode())
    with pytest.raises(DamagedError) as caught:
        read_metrics(store)
    message = str(caught.value)
    assert message.startswith("metrics.json: ")
    assert message.endswith(f"Run `batchseg report {tmp_path}`, which makes it again")
    assert "\n" not in message
