"""Whole runs over ground that is empty, outside of an area, on several grids, or around a pole."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import shapely
from rasterio.warp import transform_geom

from batchseg.ledger.ledger import Ledger
from batchseg.ledger.records import TileCounts
from batchseg.reports.metrics import ChunkCounts
from batchseg.resolve.resolve import resolve
from batchseg.runs.selection import find_chunks_in_box
from batchseg.runs.session import run
from batchseg.store import LocalStore
from tests.batchseg.runs.hard_scenes import CONSTANT, VALUES, alone, check_books, check_rasters, check_values, place_of
from tests.batchseg.scene.scene_rasters import UTM, noise, write

__all__ = ["alone"]
pytestmark = pytest.mark.timeout(300)


def test_i6_a_scene_without_a_valid_pixel(tmp_path: Path) -> None:
    scene = write(tmp_path / "scene.tif", np.zeros((3, 70, 50), np.uint8), nodata=0, **UTM)
    place = place_of(tmp_path, scene)
    outcome = run(place.recipe(), open_pool=CONSTANT)
    records = list(Ledger(LocalStore(place.output)).read_records())
    assert [(record.kind, record.objects, record.measured.area_km2) for record in records] == [("empty", (), 0.0)] * 6
    assert outcome.metrics.chunks == ChunkCounts(done=0, empty=6, failed=0, not_run=0)
    assert (outcome.metrics.area_km2, outcome.metrics.cost_usd_per_km2) == (0.0, None)
    assert outcome.metrics.mean_confidence is None
    check_rasters(scene, place.output / "scene", np.zeros((70, 50), bool), ("labels", "confidence", "tier"))
    check_books(outcome, np.zeros((70, 50), bool), set())


def polygon_file(path: Path, shape: Any, crs: str) -> str:
    """In longitudes and latitudes, as GeoJSON always is."""
    geometry = transform_geom(crs, "EPSG:4326", shape.__geo_interface__)
    feature = {"type": "Feature", "properties": {}, "geometry": geometry}
    path.write_text(json.dumps({"type": "FeatureCollection", "features": [feature]}))
    return str(path)


def test_ground_outside_of_the_area_of_interest_is_nodata(tmp_path: Path) -> None:
    pixels_BHW = noise(3, 100, 90)
    scene = write(tmp_path / "scene.tif", pixels_BHW, **UTM)
    # Columns 20 to 50 and rows 30 to 45, borders half a pixel away from pixel centres.
    aoi = polygon_file(tmp_path / "aoi.geojson", shapely.box(500_200, 4_999_550, 500_500, 4_999_700), "EPSG:32633")
    place = place_of(tmp_path, scene, aoi=aoi)
    outcome = run(place.recipe(), open_pool=VALUES)
    inside_HW = np.zeros((100, 90), bool)
    inside_HW[30:45, 20:50] = True
    check_values(place, pixels_BHW[0].astype(float), inside_HW)
    check_books(outcome, inside_HW, set())
    # Cores of 16 px: rows 1 and 2, columns 1 to 3.
    assert outcome.metrics.tiles == TileCounts(bulk=6, heavy=0, skipped=7 * 6 - 6)
    assert outcome.metrics.chunks == ChunkCounts(done=4, empty=8, failed=0, not_run=0)


def test_an_area_of_interest_that_misses_the_scene(tmp_path: Path) -> None:
    scene = write(tmp_path / "scene.tif", noise(3, 40, 40), **UTM)
    aoi = polygon_file(tmp_path / "aoi.geojson", shapely.box(0, 0, 1000, 1000), "EPSG:32633")
    outcome = run(place_of(tmp_path, scene, aoi=aoi).recipe(), open_pool=VALUES)
    assert outcome.exit_status == 0
    assert outcome.metrics.chunks == ChunkCounts(done=0, empty=4, failed=0, not_run=0)


def test_scenes_of_several_coordinate_systems(tmp_path: Path) -> None:
    """Each on its own grid; the ground adds up, and is unknown as a whole when one scene is nowhere."""
    grids = {
        "utm": UTM,
        "degrees": {"crs": "EPSG:4326", "transform": rasterio.Affine(1e-4, 0, 15.0, 0, -1e-4, 45.0)},
        "web": {"crs": "EPSG:3857", "transform": rasterio.Affine(10, 0, 1_670_000, 0, -10, 5_621_000)},
    }
    pixels_BHW = noise(3, 40, 50)
    scenes = [write(tmp_path / f"{name}.tif", pixels_BHW, **grid) for name, grid in grids.items()]
    place = place_of(tmp_path, *scenes)
    outcome = run(place.recipe(), open_pool=VALUES)
    areas = {name: scene.area_km2 for name, scene in outcome.metrics.scenes.items()}
    assert outcome.metrics.area_km2 == pytest.approx(sum(areas.values()), abs=1e-8)
    # 1e-4 degrees: 11.11 m by 7.88 m at 45 degrees; map pixels of 10 m: near cos(45 degrees) of it each way.
    assert areas == pytest.approx({"utm": 0.20016, "degrees": 0.1752, "web": 0.1000}, rel=2e-3)
    for scene in scenes:
        check_rasters(scene, place.output / scene.stem, np.ones((40, 50), bool), ("labels", "confidence", "tier"))
    nowhere = write(tmp_path / "nowhere.tif", pixels_BHW)
    both = place_of(tmp_path, scenes[0], nowhere, output=str(tmp_path / "both"))
    metrics = run(both.recipe(), open_pool=VALUES).metrics
    assert (metrics.area_km2, metrics.scenes["utm"].area_km2) == (None, pytest.approx(0.20016, rel=2e-3))


def test_boxes_across_the_antimeridian_and_around_the_pole(tmp_path: Path) -> None:
    degrees = {"crs": "EPSG:4326", "transform": rasterio.Affine(0.01, 0, 179.5, 0, -0.01, 1.0)}
    fiji = write(tmp_path / "fiji.tif", noise(3, 32, 96), **degrees)
    arctic = {"crs": "EPSG:3995", "transform": rasterio.Affine(100, 0, -1600, 0, -100, 1600)}
    pole = write(tmp_path / "pole.tif", noise(3, 32, 32), **arctic)
    job = resolve(place_of(tmp_path, fiji, pole).recipe()).job

    def found(*bbox: float) -> set[str]:
        return {str(key) for key in find_chunks_in_box(job, bbox)}

    # Columns 32 to 64 lie over the antimeridian: 179.82 to 180.14.
    assert found(179.6, 0.8, 179.7, 0.9) == {"fiji/0_0"}
    assert found(179.9, 0.8, 180.1, 0.9) == {"fiji/0_1"}
    assert found(-179.9, 0.8, -179.88, 0.9) == {"fiji/0_1"}
    assert found(-179.8, 0.8, -179.7, 0.9) == {"fiji/0_2"}
    for lon in (-170, -80, 10, 100):
        assert found(lon, 89.995, lon + 1, 89.999) == {"pole/0_0"}
