"""The pixels and tiles that polygons cover: the same for any window, with neither overlap nor gap."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from batchseg.scene.polygons import find_touched_tiles, make_polygons, read_polygons
from tests.batchseg.scene.drawn_polygons import SHAPE, TRANSFORMS, centres, georef, save, to_map, whole
from tiling.grid import Grid
from tiling.span import Window


@pytest.mark.parametrize("name", TRANSFORMS)
def test_mask_holds_the_pixels_whose_centres_are_inside(tmp_path: Path, name: str) -> None:
    path = save(tmp_path / "x.gpkg", [to_map(SHAPE, TRANSFORMS[name])])
    made = read_polygons(path, georef=georef(TRANSFORMS[name]))
    assert len(made) == 1
    np.testing.assert_array_equal(made.mask(whole(made)), centres(SHAPE, (300, 300)))


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_mask_does_not_depend_on_the_window(data: st.DataObject) -> None:
    number = st.floats(-300, 3000, allow_nan=False)
    corners = data.draw(st.lists(st.tuples(number, number), min_size=3, max_size=12, unique=True))
    shapes = shapely.make_valid(np.array([shapely.Polygon(corners)]))
    made = make_polygons(
        np.array([g for g in shapely.get_parts(shapely.get_parts(shapes)) if g.geom_type == "Polygon"]), (2500, 2100)
    )
    full_HW = made.mask(whole(made))
    row, col = data.draw(st.integers(0, 2499)), data.draw(st.integers(0, 2099))
    window = Window.of(row, data.draw(st.integers(row + 1, 2500)), col, data.draw(st.integers(col + 1, 2100)))
    np.testing.assert_array_equal(made.mask(window), full_HW[window.within(whole(made))])


def test_a_polygon_without_width_is_dropped(tmp_path: Path) -> None:
    thin = shapely.Polygon([(0.0, 0.0), (0.0, 5.6e-202), (1.0, 0.0)])
    assert len(make_polygons(np.array([thin]), (30, 30))) == 0
    path = save(tmp_path / "x.gpkg", [to_map(shapely.Polygon([(5, 5), (9, 9), (7, 7)]), TRANSFORMS["north-up"])])
    assert len(read_polygons(path, georef=georef())) == 0


def test_corners_on_pixel_centres_do_not_depend_on_the_window() -> None:
    star = shapely.Polygon(
        [(0.5, 0.5), (1500.5, 700.5), (2000.5, 0.5), (1600.5, 1500.5), (2040.5, 2040.5), (700.5, 1300.5)]
    )
    made = make_polygons(np.array([star]), (2048, 2048))
    full_HW = made.mask(whole(made))
    for side_px in (300, 512, 1000):
        for row, col in Grid((2048, 2048), side_px):
            window = Grid((2048, 2048), side_px).window(row, col)
            np.testing.assert_array_equal(made.mask(window), full_HW[window.within(whole(made))])


def test_neighbours_neither_overlap_nor_leave_a_gap() -> None:
    """The centre of a pixel on a common edge belongs to one of the two."""
    left = shapely.Polygon([(0, 0), (100.5, 0), (180.5, 300), (0, 300)])
    right = shapely.Polygon([(100.5, 0), (300, 0), (300, 300), (180.5, 300)])
    masks = [make_polygons(np.array([side]), (300, 300)).mask(Window.of(0, 300, 0, 300)) for side in (left, right)]
    assert (masks[0] ^ masks[1]).all()


def test_overlapping_polygons_are_one_ground() -> None:
    boxes = np.array([shapely.box(0, 0, 20, 20), shapely.box(10, 10, 30, 30)])
    made = make_polygons(boxes, (40, 40))
    assert made.mask(whole(made)).sum() == 400 + 400 - 100


@pytest.mark.parametrize("name", TRANSFORMS)
def test_touched_tiles(tmp_path: Path, name: str) -> None:
    path = save(tmp_path / "x.gpkg", [to_map(SHAPE, TRANSFORMS[name])])
    place = georef(TRANSFORMS[name])
    lattice = Grid((300, 300), 64)
    expected = {
        (row, col) for row, col in lattice if shapely.intersects(SHAPE, shapely.box(*box_of(lattice.window(row, col))))
    }
    assert find_touched_tiles([read_polygons(path, georef=place)], lattice) == expected


def box_of(window: Window) -> tuple[int, int, int, int]:
    return window.cols.start, window.rows.start, window.cols.stop, window.rows.stop


def test_a_common_edge_is_no_touch(tmp_path: Path) -> None:
    path = save(tmp_path / "x.gpkg", [to_map(shapely.box(64, 64, 128, 192), TRANSFORMS["north-up"])])
    made = read_polygons(path, georef=georef())
    assert find_touched_tiles([made], Grid((300, 300), 64)) == {(1, 1), (2, 1)}


def test_a_polygon_over_the_edge_touches_only_tiles_that_exist(tmp_path: Path) -> None:
    path = save(tmp_path / "x.gpkg", [to_map(shapely.box(-500, 280, 900, 900), TRANSFORMS["north-up"])])
    made = read_polygons(path, georef=georef())
    assert find_touched_tiles([made], Grid((300, 300), 64)) == {(4, col) for col in range(5)}


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(*[st.integers(-40, 340)] * 4), min_size=1, max_size=6), st.integers(20, 200))
def test_touched_tiles_against_a_loop(corners: list[tuple[int, ...]], cell_px: int) -> None:
    boxes = [shapely.box(a, b, a + 1 + abs(c) / 3, b + 1 + abs(d)) for a, b, c, d in corners]
    made = make_polygons(np.array(boxes), (300, 290))
    lattice = Grid((300, 290), cell_px)
    snapped = shapely.set_precision(boxes, 1 / 1024)
    expected = {
        (row, col)
        for row, col in lattice
        for box in snapped
        if shapely.area(shapely.intersection(box, shapely.box(*box_of(lattice.window(row, col))))) > 0
    }
    assert find_touched_tiles([made], lattice) == expected


def test_pickles(tmp_path: Path) -> None:
    made = read_polygons(save(tmp_path / "x.gpkg", [to_map(SHAPE, TRANSFORMS["north-up"])]), georef=georef())
    made.mask(whole(made))
    again = pickle.loads(pickle.dumps(made))
    assert again == made
    np.testing.assert_array_equal(again.mask(whole(made)), made.mask(whole(made)))


def test_a_coastline_of_many_corners() -> None:
    angles = np.linspace(0, 2 * np.pi, 100_000, endpoint=False)
    radius = 4000 + 30 * np.sin(angles * 5000)
    coast = shapely.Polygon(np.stack([5000 + radius * np.cos(angles), 5000 + radius * np.sin(angles)], axis=1))
    made = make_polygons(np.array([coast]), (10_000, 10_000))
    mask_HW = made.mask(Window.of(0, 4096, 4096, 8192))
    assert 0.5 < mask_HW.mean() < 0.9
