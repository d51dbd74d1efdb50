from __future__ import annotations

import math
import time
from typing import Any

import numpy as np
import pyproj
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchseg.scene import area
from batchseg.scene.area import (
    measure_class_areas_km2,
    measure_gross_area_km2,
    measure_gsd_m,
    measure_pixel_area_range_m2,
    measure_valid_area_km2,
)
from batchseg.scene.georef import Georef
from batchseg.scene.place import explain_missing_area
from tiling.span import Span, Window

GEOD = pyproj.Geod(ellps="WGS84")
MARS = (
    'GEOGCS["Mars",DATUM["Mars",SPHEROID["Mars",3396190,0]],PRIMEM["Reference_Meridian",0],'
    'UNIT["degree",0.0174532925199433]]'
)
ENGINEERING = 'LOCAL_CS["hall",UNIT["metre",1]]'


def georef(crs: Any, transform: tuple[float, ...], height: int = 1000, width: int = 1200, **more: Any) -> Georef:
    wkt = None if crs is None else pyproj.CRS(crs).to_wkt()
    return Georef(width_px=width, height_px=height, crs_wkt=wkt, transform=transform, **more)  # type: ignore[arg-type]


def whole(made: Georef) -> Window:
    return Window.of(0, made.height_px, 0, made.width_px)


def area_km2(made: Georef, window: Window | None = None) -> float | None:
    window = window or whole(made)
    return measure_valid_area_km2(made, window, np.ones(window.shape, bool))


def outline_area_km2(made: Georef, window: Window) -> float:
    """The geodesic area of the window's outline, with many points on each side."""
    rows, cols = window.rows, window.cols
    down, across = (np.linspace(s.start, s.stop, 4001)[:-1] for s in (rows, cols))
    row = np.concatenate([np.full(4000, rows.start), down, np.full(4000, rows.stop), down[::-1]])
    col = np.concatenate([across, np.full(4000, cols.stop), across[::-1], np.full(4000, cols.start)])
    a, b, c, d, e, f = made.transform  # type: ignore[misc]
    crs = pyproj.CRS(made.crs_wkt)
    crs = (crs.source_crs if crs.is_bound else crs).to_2d()
    to_lonlat = pyproj.Transformer.from_crs(crs, crs.geodetic_crs, always_xy=True)
    lon, lat = to_lonlat.transform(a * col + b * row + c, d * col + e * row + f)
    unit = math.degrees(crs.geodetic_crs.axis_info[0].unit_conversion_factor)  # type: ignore[union-attr]
    lon, lat = np.array(lon) * unit, np.array(lat) * unit
    return abs(crs.get_geod().polygon_area_perimeter(lon, lat)[0]) / 1e6


PLACES = {
    "utm": ("EPSG:32633", (10, 0, 400_000, 0, -10, 5_500_000)),
    "south-up": ("EPSG:32633", (10, 0, 400_000, 0, 10, 5_500_000)),
    "rotated": ("EPSG:32633", (7, -7, 400_000, 7, 7, 5_500_000)),
    "utm, 3 cm": ("EPSG:32733", (0.03, 0, 400_000, 0, -0.03, 6_500_000)),
    "degrees": ("EPSG:4326", (0.001, 0, 20, 0, -0.001, 61)),
    "degrees, coarse": ("EPSG:4326", (0.05, 0, -30, 0, -0.05, 65)),
    "web mercator": ("EPSG:3857", (50, 0, 1_000_000, 0, -50, 8_000_000)),
    "polar": ("EPSG:3031", (400, 0, -3_000_000, 0, -400, 2_000_000)),
    "antimeridian": ("EPSG:32660", (200, 0, 600_000, 0, -200, 3_000_000)),
    "antimeridian, degrees": ("EPSG:4326", (0.01, 0, 175, 0, -0.01, 10)),
    "feet": ("EPSG:2227", (30, 0, 6_000_000, 0, -30, 2_100_000)),
    "old ellipsoid": ("EPSG:31467", (10, 0, 3_500_000, 0, -10, 5_500_000)),
    "Greenwich is not zero": ("EPSG:27572", (20, 0, 600_000, 0, -20, 2_200_000)),
    "grads": ("EPSG:4807", (0.001, 0, 1, 0, -0.001, 50)),
    "with heights": ("EPSG:32633+5773", (10, 0, 400_000, 0, -10, 5_500_000)),
    "degrees with heights": ("EPSG:4979", (0.001, 0, 20, 0, -0.001, 61)),
    "with a datum shift": ("+proj=tmerc +lon_0=15 +ellps=bessel +towgs84=600,100,400", (10, 0, 9e3, 0, -10, 5_500_000)),
    "state, albers": ("EPSG:5070", (30, 0, -1_000_000, 0, -30, 2_000_000)),
}


@pytest.mark.parametrize("place", PLACES)
def test_against_geodesic_polygons(place: str) -> None:
    made = georef(*PLACES[place])
    for window in (whole(made), Window.of(17, 444, 333, 1111)):
        expected_km2 = outline_area_km2(made, window)
        if place == "degrees, coarse":
            # Straight sides between far points on a parallel are not geodesics, so many points are needed.
            assert expected_km2 > 1e6
        assert area_km2(made, window) == pytest.approx(expected_km2, rel=1e-4)


@pytest.mark.parametrize("place", sorted(PLACES))
@pytest.mark.parametrize("shape_px", [(1000, 1200), (33, 1), (257, 900)])
def test_the_whole_grid_is_all_of_its_pixels(place: str, shape_px: tuple[int, int]) -> None:
    made = georef(*PLACES[place], *shape_px)
    assert measure_gross_area_km2(made) == pytest.approx(area_km2(made), rel=1e-3)


def test_latitudes_around_a_shifted_pole() -> None:
    shifted = "+proj=ob_tran +o_proj=longlat +o_lat_p=39.25 +o_lon_p=0 +lon_0=18 +ellps=WGS84"
    made = georef(shifted, (0.01, 0, -3, 0, -0.01, 4), 500, 600)
    window = Window.of(100, 200, 100, 250)
    row = np.concatenate(
        [np.full(500, 100.0), np.linspace(100, 200, 500), np.full(500, 200.0), np.linspace(200, 100, 500)]
    )
    col = np.concatenate(
        [np.linspace(100, 250, 500), np.full(500, 250.0), np.linspace(250, 100, 500), np.full(500, 100.0)]
    )
    to_lonlat = pyproj.Transformer.from_crs(shifted, "EPSG:4326", always_xy=True)
    lon, lat = to_lonlat.transform(-3 + 0.01 * col, 4 - 0.01 * row)
    assert area_km2(made, window) == pytest.approx(abs(GEOD.polygon_area_perimeter(lon, lat)[0]) / 1e6, rel=1e-4)


def test_the_whole_earth() -> None:
    made = georef("EPSG:4326", (0.25, 0, -180, 0, -0.25, 90), 720, 1440)
    assert area_km2(made) == pytest.approx(510_065_622, rel=2e-4)
    beyond = georef("EPSG:4326", (0.25, 0, -180.125, 0, -0.25, 90.125), 721, 1440)
    assert area_km2(beyond) == pytest.approx(510_065_622, rel=2e-4)
    degree = georef("EPSG:4326", (1, 0, -180, 0, -1, 90), 180, 360)
    assert area_km2(degree) == pytest.approx(510_065_622, rel=2e-4)


def test_a_pole_inside_a_block() -> None:
    made = georef("EPSG:3031", (1000, 0, -50_300, 0, -1000, 50_100), 100, 100)
    cap_km2 = outline_area_km2(
        georef("EPSG:3031", (1000, 0, 200_000, 0, -1000, 50_000), 100, 100), Window.of(0, 100, 0, 100)
    )
    assert area_km2(made) == pytest.approx(cap_km2, rel=5e-3)


def test_a_sphere_means_the_same_latitudes_on_the_real_earth() -> None:
    sinusoidal = "+proj=sinu +R=6371007.181 +units=m"
    made = georef(sinusoidal, (463.3127, 0, 1_000_000, 0, -463.3127, 5_000_000))
    x, y = 1_000_000 + 463.3127 * 600, 5_000_000 - 463.3127 * 500
    lon, lat = pyproj.Transformer.from_crs(sinusoidal, pyproj.CRS(sinusoidal).geodetic_crs, always_xy=True).transform(
        x, y
    )
    side = 0.002
    pixel = abs(GEOD.polygon_area_perimeter([lon, lon + side, lon + side, lon], [lat, lat, lat + side, lat + side])[0])
    degrees_per_m = math.degrees(1 / 6_371_007.181)
    expected_m2 = pixel / side**2 * (463.3127 * degrees_per_m) ** 2 / math.cos(math.radians(lat))
    assert measure_gsd_m(made) == pytest.approx(math.sqrt(expected_m2), rel=1e-4)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_parts_add_up(data: st.DataObject) -> None:
    """However the scene is cut, so records of chunks add up to the scene."""
    made = georef(*PLACES[data.draw(st.sampled_from(sorted(PLACES)))], 130, 170)
    row, col = data.draw(st.integers(1, 129)), data.draw(st.integers(1, 169))
    valid_HW = np.random.default_rng(row * 170 + col).random((130, 170)) < 0.7
    parts = [Window.of(*rows, *cols) for rows in ((0, row), (row, 130)) for cols in ((0, col), (col, 170))]
    sums = [measure_valid_area_km2(made, part, valid_HW[part.within(whole(made))]) for part in parts]
    assert sum(sums) == pytest.approx(measure_valid_area_km2(made, whole(made), valid_HW), rel=1e-12)  # type: ignore[arg-type]


def test_classes() -> None:
    made = georef("EPSG:4326", (0.01, 0, 20, 0, -0.01, 61), 100, 90)
    labels_HW = np.random.default_rng(0).choice(np.array([0, 1, 2, 3, 255], np.uint8), (100, 90))
    areas_km2 = measure_class_areas_km2(made, whole(made), labels_HW, num_classes=3)
    assert areas_km2 is not None
    assert areas_km2 == pytest.approx(
        [measure_valid_area_km2(made, whole(made), labels_HW == code) for code in range(3)]
    )
    wide = measure_class_areas_km2(made, whole(made), labels_HW.astype(np.uint16) * 257, num_classes=300)
    assert wide is not None
    assert [wide[0], wide[257]] == pytest.approx(areas_km2[:2])


@given(st.data())
def test_few_codes_and_many_are_counted_alike(data: st.DataObject) -> None:
    """Codes in any order and with gaps, blocks cut by the window's border; against a count of each block alone."""
    codes = data.draw(st.lists(st.integers(0, 254), min_size=1, max_size=6, unique=True))
    block_px, height_px = data.draw(st.sampled_from([1, 2, 32])), data.draw(st.integers(1, 32))
    left_px, width_px = data.draw(st.integers(0, 100)), data.draw(st.integers(1, 90))
    labels_HW = np.random.default_rng(width_px).choice(np.array([*codes, 255], np.uint8), (height_px, width_px))
    cols = Span(left_px, left_px + width_px)
    blocks = np.arange(cols.start, cols.stop) // block_px
    expected = [
        [int((labels_HW[:, blocks == block] == code).sum()) for code in codes] for block in sorted(set(blocks.tolist()))
    ]
    for few in (0, len(codes)):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(area, "FEW_CODES", few)
            found = area._count(labels_HW, cols, block_px, codes)
        np.testing.assert_array_equal(found, expected)


def test_a_chunk_takes_little_time() -> None:
    made = georef("EPSG:32633", (0.5, 0, 400_000, 0, -0.5, 5_500_000), 8192, 8192)
    labels_HW = np.random.default_rng(0).integers(0, 8, (4096, 4096), dtype=np.uint8)
    spent_s = []
    for _ in range(3):
        begun_s = time.perf_counter()
        measure_class_areas_km2(made, Window.of(4096, 8192, 0, 4096), labels_HW, num_classes=8)
        spent_s.append(time.perf_counter() - begun_s)
    # 0.06 s on an idle core.
    assert min(spent_s) < 0.6


GCPS = tuple(
    (float(row), float(col), 10 + 0.001 * col + 0.0002 * row, 50 - 0.0006 * row, 0.0)
    for row in (0, 400, 1000)
    for col in (0, 600, 1200)
)


def test_control_points() -> None:
    wkt = pyproj.CRS("EPSG:4326").to_wkt()
    made = Georef(width_px=1200, height_px=1000, crs_wkt=None, transform=None, gcps=GCPS, gcps_crs_wkt=wkt)
    grid = georef("EPSG:4326", (0.001, 0.0002, 10, 0, -0.0006, 50))
    assert area_km2(made) == pytest.approx(area_km2(grid), rel=1e-6)
    assert measure_gsd_m(made) == pytest.approx(measure_gsd_m(grid), rel=1e-6)


def test_control_points_in_two_columns_give_no_curve() -> None:
    wkt = pyproj.CRS("EPSG:4326").to_wkt()
    edges = tuple(point for point in GCPS if point[1] != 600)
    made = Georef(width_px=1200, height_px=1000, crs_wkt=None, transform=None, gcps=edges, gcps_crs_wkt=wkt)
    grid = georef("EPSG:4326", (0.001, 0.0002, 10, 0, -0.0006, 50))
    middle = Window.of(500, 501, 600, 601)
    assert area_km2(made, middle) == pytest.approx(area_km2(grid, middle), rel=1e-6)


def test_reasons() -> None:
    wkt = pyproj.CRS("EPSG:4326").to_wkt()
    here = (1.0, 0.0, 5.0, 0.0, -1.0, 5.0)
    places = {
        "the scene has no coordinate system": Georef(width_px=9, height_px=9, crs_wkt=None, transform=here),
        "the scene is not georeferenced": Georef(width_px=9, height_px=9, crs_wkt=wkt, transform=None),
        "the scene is placed by a sensor model (RPCs) only; orthorectify it first": Georef(
            width_px=9, height_px=9, crs_wkt=wkt, transform=None, rpcs={"LINE_OFF": "1"}
        ),
        "the control points have no coordinate system": Georef(
            width_px=9, height_px=9, crs_wkt=None, transform=None, gcps=GCPS
        ),
        "2 ground control points do not place a scene": Georef(
            width_px=9, height_px=9, crs_wkt=None, transform=None, gcps=GCPS[:2], gcps_crs_wkt=wkt
        ),
        "the scene is not on the Earth (Mars)": Georef(width_px=9, height_px=9, crs_wkt=MARS, transform=here),
        "the coordinate system is not a map of the Earth": Georef(
            width_px=9, height_px=9, crs_wkt=ENGINEERING, transform=here
        ),
    }
    for reason, made in places.items():
        assert explain_missing_area(made) == reason
        assert area_km2(made) is None
        assert measure_gsd_m(made) is None
        assert measure_pixel_area_range_m2(made) is None
        assert measure_class_areas_km2(made, whole(made), np.zeros((9, 9), np.uint8), num_classes=2) is None


def test_an_invalid_coordinate_system_is_a_reason() -> None:
    made = Georef(width_px=9, height_px=9, crs_wkt="not a system", transform=(1, 0, 5, 0, -1, 5))
    reason = explain_missing_area(made)
    assert reason is not None
    assert reason.startswith("the coordinate system cannot be used: ")
    assert "\n" not in reason


def test_points_on_one_line_are_a_reason() -> None:
    line = tuple((float(i), float(i), 10 + i * 0.1, 50 - i * 0.1, 0.0) for i in range(4))
    wkt = pyproj.CRS("EPSG:4326").to_wkt()
    made = Georef(width_px=9, height_px=9, crs_wkt=None, transform=None, gcps=line, gcps_crs_wkt=wkt)
    assert explain_missing_area(made) == "the ground control points lie on one line"


def test_off_the_earth() -> None:
    """A geostationary disk: beyond its limb there is no ground."""
    made = georef(
        "+proj=geos +h=35785831 +lon_0=0 +sweep=y", (10_000, 0, -5_500_000, 0, -10_000, 5_500_000), 1100, 1100
    )
    assert explain_missing_area(made) is None
    middle = Window.of(448, 640, 448, 640)
    assert area_km2(made, middle) == pytest.approx(outline_area_km2(made, middle), rel=1e-3)
    corner = Window.of(0, 64, 0, 64)
    assert area_km2(made, corner) is None
    assert measure_valid_area_km2(made, corner, np.zeros((64, 64), bool)) == 0
    assert measure_gsd_m(made) == pytest.approx(10_000, rel=0.01)


def test_ground_sample_distance() -> None:
    assert measure_gsd_m(georef("EPSG:32633", (0.5, 0, 500_000, 0, -0.5, 5_500_000))) == pytest.approx(0.5002, abs=1e-4)
    # A pixel of web Mercator is smaller on the ground by the cosine of the latitude.
    made = georef("EPSG:3857", (1, 0, 0, 0, -1, 8_399_737))
    assert measure_gsd_m(made) == pytest.approx(0.5, rel=0.01)


def test_range_of_pixels() -> None:
    made = georef("EPSG:4326", (0.5, 0, -180, 0, -0.5, 90), 360, 720)
    low_m2, high_m2 = measure_pixel_area_range_m2(made)  # type: ignore[misc]
    assert high_m2 == pytest.approx(3.08e9, rel=0.01)
    assert low_m2 == pytest.approx(1.35e7, rel=0.02)
