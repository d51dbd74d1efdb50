"""Routes: by place before by outcome, never by how the scene is cut; audits that change nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pytest
import rasterio
import shapely
from hypothesis import given
from hypothesis import strategies as st

from batchseg.engine.route import NEVER, NO_SCORE, SCORE_TOP, Doubt, is_audited
from batchseg.errors import ForeignRunError
from batchseg.ledger.keys import ChunkKey
from batchseg.ledger.ledger import Ledger
from batchseg.ledger.records import TileCounts
from batchseg.ledger.stages import STAGES
from batchseg.recipe import ByUncertainty, Models, Priority, Route, Tiling, Uncertain
from batchseg.recipe.recipe import Halo
from batchseg.store import LocalStore
from batchseg.tiers import BULK, HEAVY_BY_POLYGONS, HEAVY_BY_UNCERTAINTY, NODATA_CODE
from tests.runs import UTM, Workplace, noise, product_bytes, write_fake_bundle
from tests.strategies import quick

CORE_PX = 16


@pytest.fixture
def place(tmp_path: Path) -> Workplace:
    pixels_BHW = noise(150, 203)
    pixels_BHW[:, 40:100, 60:120] = 0  # whole tiles without a pixel to label
    workplace = Workplace.of(tmp_path, pixels_BHW)
    with rasterio.open(workplace.scenes[0], "r+") as file:
        file.nodata = 0
    bundles = [write_fake_bundle(tmp_path / tier, halo_px=halo) for tier, halo in (("bulk", 8), ("heavy", 13))]
    workplace.changes["models"] = Models(bulk=bundles[0], heavy=bundles[1])
    return workplace


def uncertain(above: float = 0.5, **changes: Any) -> ByUncertainty:
    return ByUncertainty(uncertain=Uncertain(above=above, **changes))


def polygons(folder: Path) -> Priority:
    """Over the first 46 rows and 61 columns, and a second one that the filter leaves out."""
    shapes = [shapely.box(500_000, 4_999_954, 500_061, 5_000_000), shapely.box(500_150, 4_999_900, 500_190, 4_999_990)]
    path = folder / "towns.gpkg"
    geopandas.GeoDataFrame({"kind": ["town", "field"]}, geometry=shapes, crs=UTM).to_file(path)
    return Priority(polygons=str(path), where="kind = 'town'")


def layer(output: Path, name: str) -> np.ndarray:
    with rasterio.open(output / "scene0" / f"{name}.tif") as file:
        return file.read(1)


def codes_of(output: Path) -> list[int]:
    return [code for record in Ledger(LocalStore(output)).read_records() for code in record.measured.tile_codes]


def tiling(chunk: int) -> Tiling:
    return Tiling(core=CORE_PX, chunk=chunk, halo=Halo())


def test_the_route_does_not_depend_on_how_the_scene_is_cut(place: Workplace) -> None:
    route = Route(priority=("uncertain", polygons(place.folder)))
    found = {}
    for chunk in (16, 48, 208):
        out = place.folder / f"out{chunk}"
        place.run(route=Route(priority=(uncertain(), *route.polygons)), tiling=tiling(chunk), output=str(out))
        found[chunk] = {
            name: (out / "scene0" / name).read_bytes() for name in ("labels.tif", "tier.tif", "confidence.tif")
        }
        assert set(codes_of(out)) == {BULK, HEAVY_BY_POLYGONS, HEAVY_BY_UNCERTAINTY, NODATA_CODE}
    assert found[16] == found[48] == found[208]


def test_polygons_count_before_uncertainty_and_give_what_heavy_alone_gives(place: Workplace) -> None:
    priority = polygons(place.folder)
    place.run(route=Route(priority=(uncertain(0.0), priority)))
    tier_HW = layer(place.output, "tier")
    assert set(np.unique(tier_HW[:48, :64])) == {HEAVY_BY_POLYGONS, NODATA_CODE}
    assert set(np.unique(tier_HW[48:])) == {HEAVY_BY_UNCERTAINTY, NODATA_CODE}
    alone = place.folder / "alone"
    place.run(models=Models(heavy=place.changes["models"].heavy), output=str(alone))
    for name in ("labels", "confidence"):
        assert (layer(place.output, name) == layer(alone, name))[:46, :61].all()
    place.run(route=Route(priority=(priority,), fade=0), output=str(place.folder / "hard"))
    for name in ("labels", "confidence"):
        hard_HW = layer(place.folder / "hard", name)
        assert (hard_HW == layer(alone, name))[tier_HW == HEAVY_BY_POLYGONS].all()


def test_a_tile_is_heavy_exactly_where_bulk_alone_is_uncertain(place: Workplace) -> None:
    place.run(route=Route(priority=(uncertain(0.503),)))
    alone = place.folder / "alone"
    place.run(models=Models(bulk=place.changes["models"].bulk), output=str(alone))
    confidence_HW, tier_HW = layer(alone, "confidence"), layer(place.output, "tier")
    seen = set()
    for row in range(0, 150, CORE_PX):
        for col in range(0, 203, CORE_PX):
            tile = confidence_HW[row : row + CORE_PX, col : col + CORE_PX]
            codes = set(np.unique(tier_HW[row : row + CORE_PX, col : col + CORE_PX])) - {NODATA_CODE}
            if (tile != 255).any():
                heavy = (1 - tile[tile != 255] / 254).mean() >= 0.503
                assert codes == {HEAVY_BY_UNCERTAINTY if heavy else BULK}
                seen |= codes
    assert seen == {BULK, HEAVY_BY_UNCERTAINTY}


def test_each_tile_is_recorded_with_its_reason_and_score(place: Workplace) -> None:
    outcome = place.run(route=Route(priority=(uncertain(), polygons(place.folder))))
    measured = [record.measured for record in Ledger(LocalStore(place.output)).read_records()]
    pairs = [pair for m in measured for pair in zip(m.tile_codes, m.tile_scores, strict=True)]
    assert len(pairs) == 10 * 13
    for code, score in pairs:
        assert (score == NO_SCORE) == (code in (HEAVY_BY_POLYGONS, NODATA_CODE))
        assert code != BULK or score < SCORE_TOP // 2
    codes = [code for code, _ in pairs]
    assert outcome.metrics.tiles == TileCounts(
        bulk=codes.count(BULK),
        heavy=codes.count(HEAVY_BY_POLYGONS) + codes.count(HEAVY_BY_UNCERTAINTY),
        skipped=codes.count(NODATA_CODE),
    )
    assert codes.count(NODATA_CODE) > 0


@pytest.mark.parametrize("share", [0.3, 1.0])
def test_an_audit_compares_and_changes_nothing(place: Workplace, share: float) -> None:
    priority = (uncertain(), polygons(place.folder))
    place.run(route=Route(priority=priority))
    audited = place.folder / "audited"
    place.run(route=Route(priority=priority, audit=share), output=str(audited))
    assert product_bytes(audited) == product_bytes(place.output)
    records = list(Ledger(LocalStore(audited)).read_records())
    tiles = {(audit.row, audit.col): audit for r in records for audit in r.measured.audits}
    valid = int(np.sum([[code != NODATA_CODE for code in r.measured.tile_codes].count(True) for r in records]))
    assert all(is_audited("scene0", row, col, share) for row, col in tiles)
    assert len(tiles) == valid if share == 1 else 0 < len(tiles) < valid
    if share == 1:
        labels = {}
        for tier in ("bulk", "heavy"):
            out = place.folder / tier
            place.run(models=Models(**{tier: getattr(place.changes["models"], tier)}), output=str(out / "out"))
            labels[tier] = layer(out / "out", "labels")
        both_HW = (labels["bulk"] == labels["heavy"]) & (labels["bulk"] != 255)
        assert sum(audit.agreeing_px for audit in tiles.values()) == both_HW.sum()
        assert sum(audit.num_px for audit in tiles.values()) == (labels["bulk"] != 255).sum()


def test_what_an_audit_costs_stands_apart_from_what_routes_cost(place: Workplace) -> None:
    outcome = place.run(route=Route(priority=(polygons(place.folder),), audit=0.5, fade=0))
    table = geopandas.read_parquet(place.output / "ledger.parquet")
    records = {record.key: record for record in Ledger(LocalStore(place.output)).read_records()}
    audited = [bool(records[ChunkKey(r.scene, r.row, r.col)].measured.audits) for r in table.itertuples()]
    assert 0 < sum(audited) < len(audited)
    assert ((table.audit_s > 0) == audited).all()
    assert ((table.compute_heavy_s > 0) == (table.tiles_heavy > 0)).all()
    assert ((table.compute_bulk_s > 0) == (table.tiles_bulk > 0)).all()
    parts = table[[f"{stage}_usd" for stage in STAGES]]
    assert np.allclose(parts.sum(axis=1), table.cost_usd, rtol=1e-12, atol=0)
    for part in ("audit", "compute_bulk", "compute_heavy", "read"):
        assert outcome.metrics.cost.parts[part] == pytest.approx(parts[f"{part}_usd"].sum(), abs=1e-8)
    assert outcome.metrics.paid_usd == pytest.approx(outcome.metrics.cost_usd, rel=0.02)


def test_a_resume_may_add_an_audit_but_not_another_threshold(place: Workplace) -> None:
    place.run(route=Route(priority=(uncertain(),)))
    place.run(route=Route(priority=(uncertain(),), audit=0.1))
    with pytest.raises(ForeignRunError, match=r"route\.uncertain\.threshold \(5000 -> 6000\)"):
        place.run(route=Route(priority=(uncertain(0.6),)))
    with pytest.raises(ForeignRunError, match="route"):
        place.run(route=Route())


@quick
@given(st.lists(st.integers(0, 254), min_size=1, max_size=50), st.integers(0, 255))
def test_scores_are_whole_ten_thousandths(confidences: list[int], sure_confidence: int) -> None:
    confidence = np.array(confidences, np.uint8)
    mean = Doubt(statistic="mean", sure_confidence=0, threshold=NEVER).score(confidence)
    share = Doubt(statistic="share", sure_confidence=sure_confidence, threshold=NEVER).score(confidence)
    assert 0 <= SCORE_TOP * (1 - confidence.astype(float).mean() / 254) - mean < 1 + 1e-6
    assert 0 <= SCORE_TOP * np.mean(confidence < sure_confidence) - share < 1 + 1e-6
    assert Doubt(statistic="mean", sure_confidence=0, threshold=NEVER).choose_tier_code(mean) == BULK


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5])
def test_an_audit_takes_its_share_of_tiles(share: float) -> None:
    hits = sum(is_audited("scene", row, col, share) for row in range(100) for col in range(100))
    assert abs(hits / 10_000 - share) < 4 * np.sqrt(share * (1 - share) / 10_000)
