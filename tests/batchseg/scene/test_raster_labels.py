from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

from batchseg.errors import SceneError
from batchseg.scene.header import SceneHeader, read_header
from batchseg.scene.raster_labels import LabelsHeader, LabelSource, read_labels_header
from tests.batchseg.scene.scene_rasters import UTM, noise, write
from tiling.span import Window

WINDOW = Window.of(0, 20, 0, 30)


def scene(tmp_path: Path, **facts: Any) -> SceneHeader:
    return read_header(str(write(tmp_path / "scene.tif", noise(3, 20, 30), **{**UTM, **facts})))


def labels_header(url: str, scene: SceneHeader) -> LabelsHeader:
    return read_labels_header(url, scene.grid, scene.raster.url)


def labels(tmp_path: Path, values_HW: np.ndarray, **facts: Any) -> str:
    return str(write(tmp_path / "labels.tif", values_HW[None], **{**UTM, **facts}))


def codes(dtype: str, *special: float) -> np.ndarray:
    values_HW = (np.arange(600).reshape(20, 30) % 7).astype(dtype)
    values_HW[0, : len(special)] = special
    return values_HW


def test_bytes(tmp_path: Path) -> None:
    source = LabelSource(labels_header(labels(tmp_path, codes("uint8", 255, 9), nodata=9), scene(tmp_path)))
    labels_HW, labelled_HW = source.read(WINDOW)
    assert labels_HW.dtype == np.uint8
    np.testing.assert_array_equal(labels_HW, codes("uint8", 255, 9))
    assert not labelled_HW[0, :2].any()
    assert labelled_HW.sum() == 598
    part_HW, _ = source.read(Window.of(3, 9, 4, 8))
    np.testing.assert_array_equal(part_HW, labels_HW[3:9, 4:8])


@pytest.mark.parametrize("dtype", ["int16", "int32", "uint16", "int64"])
def test_wider_integers(tmp_path: Path, dtype: str) -> None:
    nodata = 4000 if dtype == "uint16" else -1
    values_HW = codes(dtype, nodata, 300)
    source = LabelSource(labels_header(labels(tmp_path, values_HW, nodata=nodata), scene(tmp_path)))
    labels_HW, labelled_HW = source.read(WINDOW)
    assert labels_HW.dtype == np.uint16
    assert not labelled_HW[0, 0]
    assert labelled_HW.sum() == 599
    assert labels_HW[0, 1] == 300
    np.testing.assert_array_equal(labels_HW[1:], values_HW[1:])


def test_a_label_out_of_range(tmp_path: Path) -> None:
    source = LabelSource(labels_header(labels(tmp_path, codes("int16", -5)), scene(tmp_path)))
    with pytest.raises(SceneError, match="a reference label is no class id; expected 0 to 65535, got -5"):
        source.read(WINDOW)


def test_masked_is_unlabelled(tmp_path: Path) -> None:
    mask_HW = np.ones((20, 30), bool)
    mask_HW[5:9] = False
    url = labels(tmp_path, codes("uint8"), mask_HW=mask_HW, options={"GDAL_TIFF_INTERNAL_MASK": True})
    _, labelled_HW = LabelSource(labels_header(url, scene(tmp_path))).read(WINDOW)
    np.testing.assert_array_equal(labelled_HW, mask_HW)


def test_neither_placed(tmp_path: Path) -> None:
    nowhere = {"crs": None, "transform": None}
    header = labels_header(labels(tmp_path, codes("uint8"), **nowhere), scene(tmp_path, **nowhere))
    assert LabelSource(header).read(WINDOW)[1].all()


def test_a_float_of_difference_is_none(tmp_path: Path) -> None:
    nudged = rasterio.Affine(10 + 1e-7, 0, 500_000.01, 0, -10, 5_000_000)
    labels_header(labels(tmp_path, codes("uint8"), transform=nudged), scene(tmp_path))


@pytest.mark.parametrize(
    ("facts", "got"),
    [
        ({"transform": rasterio.Affine(10, 0, 500_001, 0, -10, 5_000_000)}, "(10.0, 0.0, 500001.0"),
        ({"transform": rasterio.Affine(10.1, 0, 500_000, 0, -10, 5_000_000)}, "(10.1, 0.0, 500000.0"),
        ({"crs": "EPSG:32634"}, "EPSG:32634"),
        ({"crs": None}, "no coordinate system"),
        ({"crs": None, "transform": None}, "no transform"),
        ({"values_HW": np.zeros((20, 31), np.uint8)}, "31 x 20 px"),
    ],
)
def test_another_grid(tmp_path: Path, facts: dict[str, Any], got: str) -> None:
    values_HW = facts.pop("values_HW", codes("uint8")) if "values_HW" in facts else codes("uint8")
    with pytest.raises(SceneError) as caught:
        labels_header(labels(tmp_path, values_HW, **facts), scene(tmp_path))
    expected = "expected 30 x 20 px, (10.0, 0.0, 500000.0, 0.0, -10.0, 5000000.0), EPSG:32633, got "
    assert expected in str(caught.value)
    assert got in str(caught.value).partition(", got ")[2]


@pytest.mark.parametrize("pixels", [noise(3, 20, 30), noise(1, 20, 30, "float32")])
def test_rasters_that_cannot_be_labels(tmp_path: Path, pixels: np.ndarray) -> None:
    path = write(tmp_path / "labels.tif", pixels, **UTM)
    with pytest.raises(SceneError, match=r"reference labels are one band of integers; got . bands of"):
        labels_header(str(path), scene(tmp_path))


def test_the_id_depends_on_the_version_of_the_file(tmp_path: Path) -> None:
    first = labels_header(labels(tmp_path, codes("uint8")), scene(tmp_path))
    assert pickle.loads(pickle.dumps(first)).id == first.id
    second = labels_header(labels(tmp_path, codes("uint8", 3)), read_header(str(tmp_path / "scene.tif")))
    assert second.id != first.id
