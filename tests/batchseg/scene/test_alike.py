"""Blocks of nodata with equal bytes are not decoded, and no other block is mistaken for one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from batchseg.recipe import NodataPolicy
from batchseg.scene.header import read_header
from batchseg.scene.source import RasterSource
from tests.batchseg.scene.scene_rasters import UTM
from tiling.span import Window

AUTO = NodataPolicy(from_="auto")
SHAPE_PX, BLOCK_PX = (300, 420), 64
"""Neither side is a whole number of blocks."""
FORMS: dict[str, dict[str, Any]] = {
    "deflate": {"compress": "deflate"},
    "lzw, differences": {"compress": "lzw", "predictor": 2},
    "not packed, small": {"blockxsize": 16, "blockysize": 16},
    "a band after the other": {"compress": "deflate", "interleave": "band"},
    "strips": {"compress": "deflate", "tiled": False, "blockxsize": None, "blockysize": 16},
    "JPEG": {"compress": "jpeg", "photometric": "rgb"},
}


def write(path: Path, pixels_BHW: NDArray[Any], **facts: Any) -> RasterSource:
    profile = {"driver": "GTiff", "count": len(pixels_BHW), "dtype": pixels_BHW.dtype, "nodata": 0, "tiled": True}
    size = {"height": pixels_BHW.shape[1], "width": pixels_BHW.shape[2], "blockxsize": BLOCK_PX, "blockysize": BLOCK_PX}
    facts = {name: fact for name, fact in {**profile, **size, **UTM, **facts}.items() if fact is not None}
    with rasterio.open(path, "w", **facts) as file:
        file.write(pixels_BHW)
    return RasterSource(read_header(str(path)).raster, (1, 2, 3), AUTO)


def picture() -> NDArray[np.uint8]:
    """Mostly nodata; a picture, a single pixel at a block's corner, one in the last row, and a square of one value."""
    pixels_BHW = np.zeros((3, *SHAPE_PX), np.uint8)
    pixels_BHW[:, :70, :50] = np.random.default_rng(0).integers(1, 255, (3, 70, 50), dtype=np.uint8)
    pixels_BHW[:, 127, 191] = pixels_BHW[:, 299, 200] = 9
    pixels_BHW[:, 128:256, 256:384] = 7
    return pixels_BHW


@pytest.mark.parametrize("form", FORMS)
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.data())
def test_any_window_is_read_as_it_is(tmp_path: Path, form: str, data: st.DataObject) -> None:
    path = tmp_path / "x.tif"
    source = (
        RasterSource(read_header(str(path)).raster, (1, 2, 3), AUTO)
        if path.exists()
        else write(path, picture(), **FORMS[form])
    )
    row, col = data.draw(st.integers(0, 299)), data.draw(st.integers(0, 419))
    window = Window.of(row, data.draw(st.integers(row + 1, 300)), col, data.draw(st.integers(col + 1, 420)))
    with rasterio.open(path) as file:
        raw_BHW = file.read()[:, row : window.rows.stop, col : window.cols.stop]
    found = source.read(window)
    np.testing.assert_array_equal(found.valid_HW, raw_BHW.any(0))
    np.testing.assert_array_equal(found.raw_BHW[:, found.valid_HW], raw_BHW[:, found.valid_HW])


def decoded(source: RasterSource, window: Window, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """The shapes of all decoded windows while this window is read."""
    read, shapes = RasterSource._read, []

    def watched(self: RasterSource, dataset: Any, bands: list[int], part: Window) -> NDArray[Any]:
        shapes.append(part.shape)
        return read(self, dataset, bands, part)

    with monkeypatch.context() as patch:
        patch.setattr(RasterSource, "_read", watched)
        source.read(window)
    return shapes


EMPTY, ONE_PIXEL, ONE_VALUE = Window.of(140, 300, 10, 190), Window.of(64, 200, 64, 250), Window.of(130, 250, 260, 380)
BLOCK = (BLOCK_PX, BLOCK_PX)


@pytest.mark.parametrize("form", ["deflate", "lzw, differences", "a band after the other"])
def test_one_block_of_a_window_without_pixels_is_decoded(
    form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write(tmp_path / "x.tif", picture(), **FORMS[form])
    assert decoded(source, EMPTY, monkeypatch) == [BLOCK]
    assert decoded(source, ONE_PIXEL, monkeypatch) == [ONE_PIXEL.shape]
    assert decoded(source, ONE_VALUE, monkeypatch) == [BLOCK, ONE_VALUE.shape]
    picture_only = Window.of(0, 60, 0, 40)
    assert decoded(source, picture_only, monkeypatch) == [picture_only.shape]


def test_a_block_over_the_edge_stands_for_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its pixels beyond the edge are never seen."""
    source = write(tmp_path / "x.tif", picture(), **FORMS["deflate"])
    edge = Window.of(200, 256, 390, 420)
    assert decoded(source, edge, monkeypatch) == [edge.shape]


def test_each_band_must_be_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels_BHW = picture()
    pixels_BHW[1, 230, 100] = 3
    source = write(tmp_path / "x.tif", pixels_BHW, **FORMS["a band after the other"])
    assert decoded(source, EMPTY, monkeypatch) == [EMPTY.shape]
    assert source.read(EMPTY).valid_HW.sum() == 1


@pytest.mark.parametrize("nodata", [None, 5])
def test_zeros_that_are_no_nodata_are_pixels(tmp_path: Path, nodata: int | None) -> None:
    source = write(tmp_path / "x.tif", picture(), compress="deflate", nodata=nodata)
    assert source.read(EMPTY).valid_HW.all()
