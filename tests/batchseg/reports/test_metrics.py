"""Reports are folds: scenes add up to the whole, what is unknown stays unknown, and no order matters."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchseg.ledger.keys import ChunkKey, SheetKey
from batchseg.ledger.records import Agreement, Record, Seams, SheetRecord, TileCounts
from batchseg.reports.metrics import metrics
from batchseg.resolve.plan_file import PlanFile, ScenePlan
from batchseg.scene.georef import Georef
from tests.batchseg.ledger.ledger_records import attempt_of, record_of, stint_of
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
