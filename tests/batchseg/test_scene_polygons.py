from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import pyproj
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from shapely.affinity import affine_transform

from batchseg.errors import RecipeError
from batchseg.scene.georef import Georef
from batchseg.scene.polygons import Polygons, polygons_of, read_polygons, touched_tiles
from tiling.grid import Grid
from tiling.span import Window

UTM33 = pyproj.CRS("EPSG:32633").to_wkt()
TRANSFORMS = {
    "north-up": (10, 0, 400_000, 0, -10, 5_500_000),
    "south-up": (10, 0, 400_000, 0, 10, 5_490_000),
    "rotated": (8, -6, 400_000, 6, 8, 5_500_000),
}


def georef(
    transform: tuple[float, ...] | None = TRANSFORMS["north-up"], crs_wkt: str | None = UTM33, side_px: int = 300
) -> Georef:
    return Georef(width_px=side_px, height_px=side_px, crs_wkt=crs_wkt, transform=transform)  # type: ignore[arg-type]


def save(path: Path, polygons: list[Any], crs: str | None = "EPSG:32633", **fields: list[Any]) -> str:
    pyogrio.raw.write(
        path,
        np.array(shapely.to_wkb(polygons), dtype=object),
        [np.array(values, dtype=object) for values in fields.values()],
        list(fields),
        geometry_type="Unknown",
        crs=crs,
    )
    return str(path)


def to_map(pixels: Any, transform: tuple[float, ...]) -> Any:
    a, b, c, d, e, f = transform
    return affine_transform(pixels, (a, b, d, e, c, f))


def whole(made: Polygons) -> Window:
    return Window.of(0, made.shape_px[0], 0, made.shape_px[1])


def centres(pixels: Any, shape_px: tuple[int, int]) -> np.ndarray:
    rows, cols = np.mgrid[: shape_px[0], : shape_px[1]] + 0.5
    return np.asarray(shapely.contains_xy(pixels, cols, rows))


SHAPE = shapely.Polygon(
    [(20.3, 30.1), (200.7, 10.2), (250.1, 260.4), (100.2, 120.9)], [[(150.2, 60.1), (170.3, 60.4), (160.7, 90.2)]]
)


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
    made = polygons_of(
        np.array([g for g in shapely.get_parts(shapely.get_parts(shapes)) if g.geom_type == "Polygon"]), (2500, 2100)
    )
    full_HW = made.mask(whole(made))
    row, col = data.draw(st.integers(0, 2499)), data.draw(st.integers(0, 2099))
    window = Window.of(row, data.draw(st.integers(row + 1, 2500)), col, data.draw(st.integers(col + 1, 2100)))
    np.testing.assert_array_equal(made.mask(window), full_HW[window.within(whole(made))])


def test_a_polygon_as_thin_as_nothing_is_none(tmp_path: Path) -> None:
    thin = shapely.Polygon([(0.0, 0.0), (0.0, 5.6e-202), (1.0, 0.0)])
    assert len(polygons_of(np.array([thin]), (30, 30))) == 0
    path = save(tmp_path / "x.gpkg", [to_map(shapely.Polygon([(5, 5), (9, 9), (7, 7)]), TRANSFORMS["north-up"])])
    assert len(read_polygons(path, georef=georef())) == 0


def test_corners_on_pixel_centres_do_not_depend_on_the_window() -> None:
    star = shapely.Polygon(
        [(0.5, 0.5), (1500.5, 700.5), (2000.5, 0.5), (1600.5, 1500.5), (2040.5, 2040.5), (700.5, 1300.5)]
    )
    made = polygons_of(np.array([star]), (2048, 2048))
    full_HW = made.mask(whole(made))
    for side_px in (300, 512, 1000):
        for row, col in Grid((2048, 2048), side_px):
            window = Grid((2048, 2048), side_px).window(row, col)
            np.testing.assert_array_equal(made.mask(window), full_HW[window.within(whole(made))])


def test_neighbours_neither_overlap_nor_leave_a_gap() -> None:
    """The centre of a pixel on a common edge belongs to one of the two."""
    left = shapely.Polygon([(0, 0), (100.5, 0), (180.5, 300), (0, 300)])
    right = shapely.Polygon([(100.5, 0), (300, 0), (300, 300), (180.5, 300)])
    masks = [polygons_of(np.array([side]), (300, 300)).mask(Window.of(0, 300, 0, 300)) for side in (left, right)]
    assert (masks[0] ^ masks[1]).all()


def test_overlapping_polygons_are_one_ground() -> None:
    boxes = np.array([shapely.box(0, 0, 20, 20), shapely.box(10, 10, 30, 30)])
    made = polygons_of(boxes, (40, 40))
    assert made.mask(whole(made)).sum() == 400 + 400 - 100


@pytest.mark.parametrize("name", TRANSFORMS)
def test_touched_tiles(tmp_path: Path, name: str) -> None:
    path = save(tmp_path / "x.gpkg", [to_map(SHAPE, TRANSFORMS[name])])
    place = georef(TRANSFORMS[name])
    lattice = Grid((300, 300), 64)
    expected = {
        (row, col) for row, col in lattice if shapely.intersects(SHAPE, shapely.box(*box_of(lattice.window(row, col))))
    }
    assert touched_tiles([read_polygons(path, georef=place)], lattice) == expected


def box_of(window: Window) -> tuple[int, int, int, int]:
    return window.cols.start, window.rows.start, window.cols.stop, window.rows.stop


def test_a_common_edge_is_no_touch(tmp_path: Path) -> None:
    path = save(tmp_path / "x.gpkg", [to_map(shapely.box(64, 64, 128, 192), TRANSFORMS["north-up"])])
    made = read_polygons(path, georef=georef())
    assert touched_tiles([made], Grid((300, 300), 64)) == {(1, 1), (2, 1)}


def test_what_hangs_over_the_scene_touches_only_tiles_that_exist(tmp_path: Path) -> None:
    path = save(tmp_path / "x.gpkg", [to_map(shapely.box(-500, 280, 900, 900), TRANSFORMS["north-up"])])
    made = read_polygons(path, georef=georef())
    assert touched_tiles([made], Grid((300, 300), 64)) == {(4, col) for col in range(5)}


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(*[st.integers(-40, 340)] * 4), min_size=1, max_size=6), st.integers(20, 200))
def test_touched_tiles_against_a_loop(corners: list[tuple[int, ...]], cell_px: int) -> None:
    boxes = [shapely.box(a, b, a + 1 + abs(c) / 3, b + 1 + abs(d)) for a, b, c, d in corners]
    made = polygons_of(np.array(boxes), (300, 290))
    lattice = Grid((300, 290), cell_px)
    snapped = shapely.set_precision(boxes, 1 / 1024)
    expected = {
        (row, col)
        for row, col in lattice
        for box in snapped
        if shapely.area(shapely.intersection(box, shapely.box(*box_of(lattice.window(row, col))))) > 0
    }
    assert touched_tiles([made], lattice) == expected


def test_polygons_elsewhere_are_none_but_no_error(tmp_path: Path) -> None:
    path = save(tmp_path / "x.gpkg", [shapely.box(0, 0, 10, 10)])
    made = read_polygons(path, georef=georef())
    assert len(made) == 0
    assert not made.mask(whole(made)).any()
    assert touched_tiles([made], Grid((300, 300), 64)) == frozenset()


def test_another_coordinate_system(tmp_path: Path) -> None:
    """Straight in degrees is bent in metres: corners alone would be off by pixels."""
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
    """A projection folds far from where it is meant for, so only what is near the scene may be projected."""
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


def test_around_a_pole(tmp_path: Path) -> None:
    place = georef((20_000, 0, -3_000_000, 0, -20_000, 3_000_000), pyproj.CRS("EPSG:3031").to_wkt())
    made = read_polygons(save(tmp_path / "x.geojson", [shapely.box(-180, -90, 180, -70)], "EPSG:4326"), georef=place)
    rows, cols = np.mgrid[:300, :300] + 0.5
    to_lonlat = pyproj.Transformer.from_crs("EPSG:3031", "EPSG:4326", always_xy=True)
    _, lat_HW = to_lonlat.transform(-3_000_000 + 20_000 * cols, 3_000_000 - 20_000 * rows)
    assert (made.mask(whole(made)) ^ (lat_HW < -70)).sum() < 100


@pytest.mark.parametrize("ending", ["geojson", "gpkg", "shp", "fgb"])
def test_formats_and_digest(tmp_path: Path, ending: str) -> None:
    box = shapely.box(14.0, 49.5, 15.0, 49.7)
    place = georef((100, 0, 400_000, 0, -100, 5_500_000))
    reference = read_polygons(save(tmp_path / "reference.gpkg", [box], "EPSG:4326"), georef=place)
    made = read_polygons(save(tmp_path / f"x.{ending}", [box], "EPSG:4326"), georef=place)
    assert made.digest() == reference.digest()
    assert made.mask(whole(made)).any()


def test_digest_is_of_the_ground(tmp_path: Path) -> None:
    one, two = shapely.box(400_100, 5_499_000, 400_500, 5_499_500), shapely.box(401_000, 5_498_000, 402_000, 5_498_500)
    digests = [
        read_polygons(save(tmp_path / f"{number}.gpkg", shapes), georef=georef()).digest()
        for number, shapes in enumerate(
            ([one, two], [two, one], [shapely.MultiPolygon([one, two])], [one, one, two], [one.reverse(), two], [one])
        )
    ]
    assert len(set(digests[:5])) == 1
    assert digests[5] != digests[0]
    moved = shapely.affinity.translate(one, 1)
    assert read_polygons(save(tmp_path / "moved.gpkg", [moved, two]), georef=georef()).digest() != digests[0]


def test_pickles(tmp_path: Path) -> None:
    made = read_polygons(save(tmp_path / "x.gpkg", [to_map(SHAPE, TRANSFORMS["north-up"])]), georef=georef())
    made.mask(whole(made))
    again = pickle.loads(pickle.dumps(made))
    assert again == made
    np.testing.assert_array_equal(again.mask(whole(made)), made.mask(whole(made)))


def test_filter(tmp_path: Path) -> None:
    boxes = [to_map(shapely.box(i * 50, 0, i * 50 + 40, 40), TRANSFORMS["north-up"]) for i in range(4)]
    path = save(tmp_path / "x.gpkg", boxes, kind=["town", "field", "town", "o'clock"], people=[10, 0, 2000, 5])
    assert len(read_polygons(path, where="kind = 'town'", georef=georef())) == 2
    assert len(read_polygons(path, where="kind = 'town' and people > 100", georef=georef())) == 1


@pytest.mark.parametrize("ending", ["gpkg", "geojson", "shp"])
@pytest.mark.parametrize("where", ["sort = 'town'", "kind ==== 'town'", "kind = "])
def test_a_filter_that_cannot_be_used(tmp_path: Path, ending: str, where: str) -> None:
    path = save(tmp_path / f"x.{ending}", [shapely.box(14, 49, 15, 50)], "EPSG:4326", kind=["town"])
    with pytest.raises(RecipeError) as caught:
        read_polygons(path, where=where, georef=georef())
    assert "the attribute filter cannot be used; expected SQL such as `kind = 'town'` over the fields" in str(
        caught.value
    )
    assert "kind" in str(caught.value)
    assert "\n" not in str(caught.value)


def refused(url: object, place: Georef | None = None, where: str | None = None) -> str:
    with pytest.raises(RecipeError) as caught:
        read_polygons(str(url), where=where, georef=place or georef())
    message = str(caught.value)
    assert message.startswith(str(url).partition("|")[0])
    assert "\n" not in message
    return message


def test_refusals(tmp_path: Path) -> None:
    assert "no such file" in refused(tmp_path / "no.gpkg")
    (tmp_path / "x.geojson").write_text("not json")
    assert "cannot be read as a vector file" in refused(tmp_path / "x.geojson")
    (tmp_path / "empty.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": []}))
    assert "there is no polygon; expected at least one" in refused(tmp_path / "empty.geojson")
    box = shapely.box(400_100, 5_499_000, 400_500, 5_499_500)
    path = save(tmp_path / "one.gpkg", [box], kind=["town"])
    assert "there is no polygon that passes `kind = 'sea'`" in refused(path, where="kind = 'sea'")
    path = save(tmp_path / "points.gpkg", [box, shapely.Point(1, 1)])
    assert "only polygons enclose ground; got 1 of 2 are Point. Buffer" in refused(path)


def test_no_coordinate_system(tmp_path: Path) -> None:
    box = shapely.box(400_100, 5_499_000, 400_500, 5_499_500)
    with pytest.warns(UserWarning, match="crs"):
        save(tmp_path / "x.shp", [box], None)
    assert "the vector file names no coordinate system. Assign the right one" in refused(tmp_path / "x.shp")
    path = save(tmp_path / "x.gpkg", [box])
    expected = "polygons need a scene with a coordinate system and a transform"
    assert expected in refused(path, georef(crs_wkt=None))
    assert expected in refused(path, georef(transform=None))
    assert expected in refused(path, georef(transform=None, crs_wkt=None))


def test_layers(tmp_path: Path) -> None:
    path = tmp_path / "x.gpkg"
    box = shapely.box(400_100, 5_499_000, 400_500, 5_499_500)
    for layer, append in (("towns", False), ("fields", True)):
        pyogrio.raw.write(
            path,
            np.array([shapely.to_wkb(box)], dtype=object),
            [],
            [],
            geometry_type="Polygon",
            crs="EPSG:32633",
            layer=layer,
            append=append,
        )
    message = refused(path)
    assert "the file has several layers; got towns, fields" in message
    assert f"Say which: `{path}|layername=towns`" in message
    assert len(read_polygons(f"{path}|layername=fields", georef=georef())) == 1
    assert "cannot be read as a vector file" in refused(f"{path}|layername=sea")


def test_an_invalid_polygon_is_repaired(tmp_path: Path) -> None:
    bow_tie = shapely.Polygon([(0, 0), (100, 100), (100, 0), (0, 100)])
    made = read_polygons(save(tmp_path / "x.gpkg", [to_map(bow_tie, TRANSFORMS["north-up"])]), georef=georef())
    inside_px = made.mask(whole(made)).sum()
    assert abs(inside_px - 5000) <= 100


def test_heights_are_dropped(tmp_path: Path) -> None:
    flat = to_map(shapely.box(10, 10, 30, 40), TRANSFORMS["north-up"])
    made = read_polygons(save(tmp_path / "x.gpkg", [shapely.force_3d(flat, 7)]), georef=georef())
    assert made.mask(whole(made)).sum() == 600


def test_a_coastline_of_many_corners() -> None:
    angles = np.linspace(0, 2 * np.pi, 100_000, endpoint=False)
    radius = 4000 + 30 * np.sin(angles * 5000)
    coast = shapely.Polygon(np.stack([5000 + radius * np.cos(angles), 5000 + radius * np.sin(angles)], axis=1))
    made = polygons_of(np.array([coast]), (10_000, 10_000))
    mask_HW = made.mask(Window.of(0, 4096, 4096, 8192))
    assert 0.5 < mask_HW.mean() < 0.9
