from __future__ import annotations

import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.features import rasterize
from rasterio.transform import Affine
from rasterio.warp import transform_bounds, transform_geom

from batchseg.errors import InputError
from batchseg.synth import CLASSES, UNLABELLED, render, write_scene
from batchseg.synth.scene_files import NAMES
from tiling.span import Span

SIZE_PX = 1500
CLASS_IDS = [entry.id for entry in CLASSES]
BUILDING = next(entry.id for entry in CLASSES if entry.name == "building")


def shares(labels_HW: np.ndarray) -> np.ndarray:
    known = labels_HW[labels_HW != UNLABELLED]
    return np.bincount(known, minlength=len(CLASSES)) / known.size


# Seed, size and first pixel of 600 x 700 pixels: a window with everything in it, one far off, the void corner.
WHERE = [(3, SIZE_PX, 200, 100), (9, None, 70_400, -1_700), (3, SIZE_PX, 1_100, 1_000)]


@pytest.fixture(scope="module")
def whole() -> list[tuple[np.ndarray, np.ndarray]]:
    return [render(seed, size, slice(r, r + 600), slice(c, c + 700), 4) for seed, size, r, c in WHERE]


def test_the_compared_windows_have_all_classes_and_a_void_corner(whole: list[tuple[np.ndarray, np.ndarray]]) -> None:
    assert all({*CLASS_IDS, UNLABELLED} <= set(np.unique(labels)) for _, labels in whole[:2])
    assert 0 < (whole[2][0] == 0).mean() < 1


@settings(max_examples=24, deadline=None)
@given(which=st.integers(0, 2), data=st.data())
def test_any_window_has_the_same_bytes(
    which: int, data: st.DataObject, whole: list[tuple[np.ndarray, np.ndarray]]
) -> None:
    r0, c0 = data.draw(st.integers(0, 599)), data.draw(st.integers(0, 699))
    r1 = data.draw(st.integers(r0 + 1, min(r0 + 300, 600)))
    c1 = data.draw(st.integers(c0 + 1, min(c0 + 300, 700)))
    seed, size, r, c = WHERE[which]
    pixels_BHW, labels_HW = render(seed, size, slice(r + r0, r + r1), slice(c + c0, c + c1), 4)
    assert np.array_equal(pixels_BHW, whole[which][0][:, r0:r1, c0:c1])
    assert np.array_equal(labels_HW, whole[which][1][r0:r1, c0:c1])


@pytest.mark.parametrize("height", [1, 37, 333])
def test_stripes_of_any_height_have_the_same_bytes(height: int, whole: list[tuple[np.ndarray, np.ndarray]]) -> None:
    seed, size, r, c = WHERE[0]
    last = 8 if height == 1 else 600
    parts = [
        render(seed, size, slice(r + k, r + min(k + height, last)), slice(c, c + 120), 4)
        for k in range(0, last, height)
    ]
    joined = np.concatenate([pixels for pixels, _ in parts], axis=1)
    assert np.array_equal(joined, whole[0][0][:, :last, :120])


def test_spans_give_the_same_pixels_as_slices() -> None:
    spans = render(1, 100, Span(5, 40), Span(10, 30))
    slices = render(1, 100, slice(5, 40), slice(10, 30))
    assert np.array_equal(spans[0], slices[0])
    assert np.array_equal(spans[1], slices[1])


@pytest.mark.parametrize("seed", [0, 17])
def test_every_scene_has_enough_of_every_class(seed: int) -> None:
    _, labels_HW = render(seed, 2048, slice(0, 2048), slice(0, 2048))
    assert shares(labels_HW).min() > 0.025
    assert 0.01 < (labels_HW == UNLABELLED).mean() < 0.12


def test_seeds_differ() -> None:
    one, other = (render(seed, None, slice(0, 200), slice(0, 200))[0] for seed in (1, 2))
    assert (one != other).mean() > 0.5


def test_bands_and_types_show_the_same_ground() -> None:
    rows, cols = slice(400, 800), slice(400, 800)
    rgb_BHW, labels_HW = render(3, SIZE_PX, rows, cols, 3, "uint8")
    rgbn_BHW, labels4_HW = render(3, SIZE_PX, rows, cols, 4, "uint8")
    deep_BHW, deep_labels_HW = render(3, SIZE_PX, rows, cols, 4, "uint16")
    assert np.array_equal(rgb_BHW, rgbn_BHW[:3])
    assert np.array_equal(labels_HW, labels4_HW)
    assert np.array_equal(labels_HW, deep_labels_HW)
    assert deep_BHW.dtype == np.uint16
    assert deep_BHW.min() >= 1
    assert 5000 < deep_BHW.max() <= 10_000
    assert np.abs((deep_BHW - 1) / 9999.0 - (rgbn_BHW - 1) / 254.0).max() <= 0.5 / 254 + 0.5 / 9999 + 1e-5


def test_near_infrared_is_bright_over_plants_and_dark_over_water() -> None:
    pixels_BHW, labels_HW = render(9, None, slice(0, 1000), slice(0, 1000), 4)
    red, nir = pixels_BHW[0].astype(float), pixels_BHW[3].astype(float)
    index = (nir - red) / (nir + red)
    water, forest, bare = (np.median(index[labels_HW == k]) for k in (0, 1, 5))
    assert [water < -0.2, -0.05 < bare < 0.2, forest > 0.3] == [True, True, True]


@pytest.mark.parametrize("size", [1, 31, 300])
def test_small_scenes_have_ground(size: int) -> None:
    pixels_BHW, labels_HW = render(4, size, slice(0, size), slice(0, size))
    assert pixels_BHW.shape == (3, size, size)
    assert (pixels_BHW > 0).all(axis=0).mean() > 0.9
    assert set(np.unique(labels_HW)) <= {*CLASS_IDS, UNLABELLED}


@pytest.fixture(scope="module")
def scene_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("synth") / "new" / "scene"
    write_scene(folder, size_px=SIZE_PX, seed=3, bands=4, dtype="uint16")
    return folder


def test_files_carry_what_readers_need(scene_folder: Path) -> None:
    assert sorted(p.name for p in scene_folder.iterdir()) == ["labels.tif", "priority.geojson", "scene.tif"]
    with rasterio.open(scene_folder / "scene.tif") as scene, rasterio.open(scene_folder / "labels.tif") as labels:
        assert scene.descriptions == ("red", "green", "blue", "nir")
        assert scene.dtypes == ("uint16",) * 4
        assert (scene.nodata, labels.nodata) == (0, UNLABELLED)
        assert labels.dtypes == ("uint8",)
        assert labels.colormap(1)[BUILDING][:3] == CLASSES[BUILDING].rgb
        assert labels.tags(1)["class_3"] == "road"
        for raster in (scene, labels):
            assert raster.crs.to_epsg() == 32633
            assert raster.res == (0.5, 0.5)
            assert raster.shape == (SIZE_PX, SIZE_PX)
            assert raster.block_shapes[0] == (512, 512)
            assert raster.compression.value == "DEFLATE"
        assert scene.transform == labels.transform


def test_files_hold_what_render_gives(scene_folder: Path) -> None:
    pixels_BHW, labels_HW = render(3, SIZE_PX, slice(0, SIZE_PX), slice(0, SIZE_PX), 4, "uint16")
    with rasterio.open(scene_folder / "scene.tif") as scene, rasterio.open(scene_folder / "labels.tif") as labels:
        assert np.array_equal(scene.read(), pixels_BHW)
        assert np.array_equal(labels.read(1), labels_HW)
    void = (pixels_BHW == 0).any(axis=0)
    assert np.array_equal(void, (pixels_BHW == 0).all(axis=0))  # 0 means nodata in all bands or in none
    assert 0.005 < void.mean() < 0.10
    assert (labels_HW[void] == UNLABELLED).all()
    corners = [void[0, 0], void[0, -1], void[-1, 0], void[-1, -1]]
    assert sum(corners) == 1


def priority(folder: Path) -> list[dict[str, Any]]:
    with (folder / "priority.geojson").open(encoding="utf-8") as file:
        collection = json.load(file)
    assert collection["type"] == "FeatureCollection"
    return list(collection["features"])


def test_priority_areas_lie_over_dense_towns(scene_folder: Path) -> None:
    features = priority(scene_folder)
    with rasterio.open(scene_folder / "labels.tif") as labels:
        labels_HW = labels.read(1)
        geometries = [transform_geom("EPSG:4326", labels.crs, f["geometry"]) for f in features]
        inside = rasterize(geometries, labels.shape, transform=labels.transform).astype(bool)
        west, south, east, north = transform_bounds(labels.crs, "EPSG:4326", *labels.bounds, densify_pts=21)
    assert 0.05 < inside.mean() < 0.35
    built = labels_HW == BUILDING
    assert built[inside].mean() > 2 * built[~inside].mean()
    assert built[inside].mean() > 0.15
    for feature in features:
        parts = feature["geometry"]["coordinates"]
        rings = [parts[0]] if feature["geometry"]["type"] == "Polygon" else [part[0] for part in parts]
        for ring in rings:
            assert ring[0] == ring[-1]
            assert all(west - 1e-6 <= x <= east + 1e-6 and south - 1e-6 <= y <= north + 1e-6 for x, y in ring)
            area2 = sum(a[0] * b[1] - b[0] * a[1] for a, b in pairwise(ring))
            assert area2 > 0  # anticlockwise


def test_stripes_do_not_affect_the_files_of_a_scene(tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    write_scene(tmp_path / "a", size_px=777, seed=5, progress=lambda done, total: calls.append((done, total)))
    write_scene(tmp_path / "b", size_px=777, seed=5, stripe_px=2000)
    for name in ("scene.tif", "labels.tif", "priority.geojson"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert calls == [(512, 777), (777, 777)]


class StopError(Exception):
    pass


def test_an_unfinished_scene_leaves_no_files(tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        raise StopError

    with pytest.raises(StopError):
        write_scene(tmp_path, size_px=64, seed=1, progress=stop)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "bad",
    [
        {"size_px": 0},
        {"size_px": 10_000_000},
        {"size_px": 64, "bands": 5},
        {"size_px": 64, "dtype": "float32"},
        {"size_px": 64, "stripe_px": 0},
    ],
)
def test_invalid_arguments_are_input_errors(bad: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"expected .* got"):
        write_scene(tmp_path / "out", seed=1, **bad)
    assert not (tmp_path / "out").exists()


def test_a_file_in_place_of_the_folder_is_an_input_error(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    with pytest.raises(InputError, match="folder"):
        write_scene(tmp_path / "out", size_px=64, seed=1)


@pytest.mark.parametrize("name", ["scene.tif", "labels.tif", "priority.geojson"])
def test_a_synthetic_scene_replaces_no_file_of_others(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("mine")
    with pytest.raises(InputError, match=f"must not replace files of others; got {name}"):
        write_scene(tmp_path, size_px=64, seed=1)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == "mine"


def point_elsewhere(path: Path) -> None:
    path.rename(path.with_name(f"elsewhere_{path.name}"))
    path.symlink_to(path.with_name(f"elsewhere_{path.name}"))


def draw_an_area(path: Path) -> None:
    areas = json.loads(path.read_text())
    areas["features"].append({"type": "Feature", "properties": {"name": "my yard"}, "geometry": None})
    path.write_text(json.dumps(areas, indent=1) + "\n")


def rename_a_band(path: Path) -> None:
    with rasterio.open(path, "r+") as file:
        file.set_band_description(1, "mine")


def move_away(path: Path) -> None:
    with rasterio.open(path, "r+") as file:
        file.transform = file.transform @ Affine.translation(1, 0)


FOREIGN: list[tuple[str, Callable[[Path], object]]] = [
    *((name, lambda path: path.write_text("mine")) for name in NAMES),
    *((name, point_elsewhere) for name in NAMES),
    ("priority.geojson", lambda path: path.write_text("{}")),
    ("priority.geojson", lambda path: path.write_text('{"type": "FeatureCollection", "features": [1]}')),
    ("priority.geojson", draw_an_area),
    ("scene.tif", rename_a_band),
    ("labels.tif", rename_a_band),
    ("scene.tif", move_away),
    ("labels.tif", move_away),
    ("scene.tif", lambda path: path.write_bytes(path.with_name("labels.tif").read_bytes())),
]


@pytest.mark.parametrize(("name", "change"), FOREIGN)
def test_one_file_of_others_in_a_finished_scene_is_enough(
    tmp_path: Path, name: str, change: Callable[[Path], object]
) -> None:
    write_scene(tmp_path, size_px=64, seed=1)
    change(tmp_path / name)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(InputError, match=f"must not replace files of others; got {name}"):
        write_scene(tmp_path, size_px=64, seed=2)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_synthetic_scene_may_be_made_again(tmp_path: Path) -> None:
    (tmp_path / ".scene.tif.part").write_text("mine")
    for seed, size_px, bands in ((1, 64, 3), (300, 2048, 4), (2, 64, 3)):
        write_scene(tmp_path, size_px=size_px, seed=seed, bands=bands)
    names = [".scene.tif.part", "labels.tif", "priority.geojson", "scene.tif"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
