"""Areas that are counted from pixels of a map: where they are wrong, and the command that makes them right."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pyproj
import pytest
import rasterio
from rasterio.transform import Affine

from batchseg.scene.georef import Georef
from batchseg.scene.map_area import explain_map_areas, measure_map_excess
from tests.runs import Workplace, noise, write_scene

UTM_PLACE = (1.0, 0.0, 500_000.0, 0.0, -1.0, 3_000_000.0)


def grid(crs: str | None, transform: tuple[float, float, float, float, float, float] | None) -> Georef:
    wkt = None if crs is None else pyproj.CRS(crs).to_wkt()
    return Georef(width_px=1000, height_px=1000, crs_wkt=wkt, transform=transform)


def at_latitude(degrees: float, side: float = 0.15) -> tuple[float, float, float, float, float, float]:
    y = pyproj.Transformer.from_crs("EPSG:4326", "EPSG:3857", always_xy=True).transform(85, degrees)[1]
    return (side, 0.0, 9_500_000.0, 0.0, -side, y + 500 * side)


@pytest.mark.parametrize(
    ("crs", "transform", "expected"),
    [
        ("EPSG:3857", at_latitude(28), 0.28),
        ("EPSG:3857", at_latitude(-28), 0.28),
        ("EPSG:3857", at_latitude(0.01), 0.0),
        ("EPSG:3857", at_latitude(45), 1.0),
        ("EPSG:3857", at_latitude(60), 3.0),
        ("EPSG:3395", at_latitude(28), 0.28),
        ("EPSG:32645", UTM_PLACE, 0.0),
        ("EPSG:6933", UTM_PLACE, 0.0),
        ("EPSG:3035", (1.0, 0.0, 4_321_000.0, 0.0, -1.0, 3_210_000.0), 0.0),
        ("EPSG:2263", (1.0, 0.0, 1_000_000.0, 0.0, -1.0, 200_000.0), 0.0),  # in feet
        ("EPSG:32645", (0.8, 0.6, 500_000.0, 0.6, -0.8, 3_000_000.0), 0.0),  # rotated
    ],
)
def test_the_map_shows_pixels_larger_than_they_are(
    crs: str, transform: tuple[float, float, float, float, float, float], expected: float
) -> None:
    assert measure_map_excess(grid(crs, transform)) == pytest.approx(expected, abs=0.015)
    note = explain_map_areas(grid(crs, transform), "labels.tif")
    assert (note is None) == (expected < 0.01)
    if note is not None:
        assert f"{crs} (" in note
        assert "too large here" in note


@pytest.mark.parametrize(
    ("crs", "transform"),
    [("EPSG:4326", (1e-5, 0.0, 85.0, 0.0, -1e-5, 27.0)), (None, UTM_PLACE), (None, None), ("EPSG:3857", None)],
)
def test_nothing_is_said_of_scenes_without_a_map_in_units_of_length(
    crs: str | None, transform: tuple[float, float, float, float, float, float] | None
) -> None:
    assert measure_map_excess(grid(crs, transform)) is None
    assert explain_map_areas(grid(crs, transform), "labels.tif") is None


@pytest.mark.skipif(shutil.which("gdalwarp") is None, reason="needs the programs of GDAL")
def test_the_report_says_it_and_its_command_gives_the_areas_of_the_ground(tmp_path: Path) -> None:
    a, b, c, d, e, f = at_latitude(27.8, side=1.0)
    profile = {"crs": rasterio.crs.CRS.from_epsg(3857), "transform": Affine(a, b, c, d, e, f)}
    scene = write_scene(tmp_path / "scene.tif", noise(40, 60).repeat(16, 1).repeat(16, 2), **profile)
    place = Workplace(tmp_path, (scene,))
    metrics = place.run().metrics
    page = (place.output / "report.html").read_text("utf-8")
    data = json.loads(page.partition('id="data">')[2].partition("</script>")[0])
    note = data["maps"]["scene"]["map_area_note"]
    assert note.startswith("areas that are counted from pixels are 28% too large here, because EPSG:3857 (")
    command = note.partition("`")[2].partition("`")[0]
    subprocess.run(shlex.split(command), check=True, cwd=place.output / "scene", capture_output=True)
    with rasterio.open(place.output / "scene" / "equal_area.tif") as file:
        counts = np.bincount(file.read(1).ravel(), minlength=256)
        pixel_km2 = abs(file.transform.a * file.transform.e) / 1e6
    assert metrics.class_area_km2 is not None
    for number, km2 in enumerate(metrics.class_area_km2.values()):
        assert counts[number] * pixel_km2 == pytest.approx(km2, rel=0.01)
