"""Polygons lie in the right place, whatever coordinate system they were drawn in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyproj
import pytest
import shapely

from batchseg.scene.georef import Georef
from batchseg.scene.polygons import find_touched_tiles, read_layer_marks, read_polygons
from batchseg.scene.vectors import open_layer
from tests.batchseg.scene.drawn_polygons import TRANSFORMS, centres, georef, save, whole
from tiling.grid import Grid


def test_polygons_elsewhere_are_dropped_without_an_error(tmp_path: Path) -> None:
    path = save(tmp_path / "x.gpkg", [shapely.box(0, 0, 10, 10)])
    made = read_polygons(path, georef=georef())
    assert len(made) == 0
    assert not made.mask(whole(made)).any()
    assert find_touched_tiles([made], Grid((300, 300), 64)) == frozenset()


def test_another_coordinate_system(tmp_path: Path) -> None:
    """A straight edge in degrees is bent in metres; transformed corners alone would be off by pixels."""
    place = georef((120, 0, 200_000, 0, -120, 6_000_000), side_px=1000)
    to_lonlat = pyproj.Transformer.from_crs("EPSG:32633", "EPSG:4326", always_xy=True)
    lon, lat = to_lonlat.transform([210_000, 310_000], [5_990_000, 5_890_000])
    box = shapely.box(lon[0], lat[1], lon[1], lat[0])
    made = read_polygons(save(tmp_path / "x.gpkg", [box], "EPSG:4326"), georef=place)
    rows, cols = np.mgrid[:1000, :1000] + 0.5
    expected_HW = shapely.contains_xy(box, *to_lonlat.transform(200_000 + 120 * cols, 6_000_000 - 120 * rows))
    # An eighth of a pixel at most, along an outline of some 3300 px.
    assert (made.mask(whole(made)) ^ expected_HW).sum() < 410
    x, y = pyproj.Transformer.from_crs("EPSG:4326", "EPSG:32633", always_xy=True).transform(
        *np.array(box.exterior.coords).T
    )
    corners_only = shapely.Polygon(np.stack([(x - 200_000) / 120, (6_000_000 - y) / 120], axis=1))
    assert (centres(corners_only, (1000, 1000)) ^ expected_HW).sum() > 2000


def test_a_country_around_a_scene_far_from_its_centre(tmp_path: Path) -> None:
    """A projection folds far from its area of use, so only polygons near the scene may be projected."""
    path = save(tmp_path / "x.geojson", [shapely.box(-179, -89, 179, 89)], "EPSG:4326")
    for transform in TRANSFORMS.values():
        made = read_polygons(path, georef=georef(transform))
        assert made.mask(whole(made)).all()


def test_across_the_antimeridian(tmp_path: Path) -> None:
    east, west = shapely.box(179, -5, 180, 5), shapely.box(-180, -5, -179.9, 5)
    path = save(tmp_path / "x.geojson", [shapely.MultiPolygon([east, west])], "EPSG:4326")
    place = georef((1000, 0, 833_000 - 150_000, 0, -1000, 50_000), pyproj.CRS("EPSG:32660").to_wkt(), side_px=300)
    made = read_polygons(path, georef=place)
    to_lonlat = pyproj.Transformer.from_crs("EPSG:32660", "EPSG:4326", always_xy=True)
    rows, cols = np.mgrid[:300, :300] + 0.5
    lon_HW, lat_HW = to_lonlat.transform(683_000 + 1000 * cols, 50_000 - 1000 * rows)
    expected_HW = shapely.contains_xy(east, lon_HW, lat_HW) | shapely.contains_xy(west, lon_HW, lat_HW)
    assert 0 < expected_HW[:, 150:].sum() < expected_HW[:, 150:].size
    # A column of pixels lies on the seam itself.
    assert (made.mask(whole(made)) ^ expected_HW).sum() < 350


LONLAT = pyproj.CRS("EPSG:4326").to_wkt()


@pytest.mark.parametrize(
    ("left", "box"),
    [(-180, (170, -20, 190, 10)), (-180, (-190, -20, -170, 10)), (0, (-30, -20, -10, 10)), (0, (330, -20, 350, 10))],
)
def test_longitudes_may_run_on(tmp_path: Path, left: int, box: tuple[float, ...]) -> None:
    place = Georef(width_px=360, height_px=180, crs_wkt=LONLAT, transform=(1.0, 0.0, float(left), 0.0, -1.0, 90.0))
    path = save(tmp_path / "x.geojson", [shapely.box(*box)], "EPSG:4326")
    made = read_polygons(path, georef=place)
    expected_HW = np.zeros((180, 360), bool)
    expected_HW[80:110, [(lon - left) % 360 for lon in range(int(box[0]), int(box[2]))]] = True
    np.testing.assert_array_equal(made.mask(whole(made)), expected_HW)


@pytest.mark.parametrize(("left", "lon"), [(-180, 190), (-180, -190), (0, -10), (0, 350), (0, 170)])
def test_longitudes_of_points_may_run_on(tmp_path: Path, left: int, lon: int) -> None:
    place = Georef(width_px=360, height_px=180, crs_wkt=LONLAT, transform=(1.0, 0.0, float(left), 0.0, -1.0, 90.0))
    path = save(tmp_path / "x.geojson", [shapely.Point(lon + 0.5, 9.5)], "EPSG:4326")
    with open_layer(str(path)) as layer:
        made = read_layer_marks(layer, where=None, georef=place)
    assert [axis.tolist() for axis in made.mask(whole(made)).nonzero()] == [[80], [(lon - left) % 360]]


def test_points_everywhere_mark_pixels_of_the_scene_alone(tmp_path: Path) -> None:
    """A projection that folds could put the far side of the Earth into the scene."""
    lon, lat = np.meshgrid(np.arange(-179.5, 180, 7), np.arange(-88.5, 90, 7))
    path = save(tmp_path / "x.gpkg", list(shapely.points(lon.ravel(), lat.ravel())), "EPSG:4326")
    for transform in TRANSFORMS.values():
        with open_layer(str(path)) as layer:
            assert len(read_layer_marks(layer, where=None, georef=georef(transform))) == 0


def test_around_a_pole(tmp_path: Path) -> None:
    place = georef((20_000, 0, -3_000_000, 0, -20_000, 3_000_000), pyproj.CRS("EPSG:3031").to_wkt())
    made = read_polygons(save(tmp_path / "x.geojson", [shapely.box(-180, -90, 180, -70)], "EPSG:4326"), georef=place)
    rows, cols = np.mgrid[:300, :300] + 0.5
    to_lonlat = pyproj.Transformer.from_crs("EPSG:3031", "EPSG:4326", always_xy=True)
    _, lat_HW = to_lonlat.transform(-3_000_000 + 20_000 * cols, 3_000_000 - 20_000 * rows)
    assert (made.mask(whole(made)) ^ (lat_HW < -70)).sum() < 100
