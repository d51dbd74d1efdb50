from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rasterio.enums import ColorInterp
from rasterio.windows import Window as GdalWindow

from batchseg.errors import SceneError
from batchseg.recipe import NodataPolicy
from batchseg.scene.empty import EmptyIndex
from batchseg.scene.header import read_header
from batchseg.scene.source import RasterSource
from tests.batchseg.scene.scene_rasters import UTM
from tiling.span import Window

AUTO = NodataPolicy(from_="auto")
RGBA = (ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha)
BLOCK_PX = 64


def sparse(
    path: Path, *, shape_px: tuple[int, int] = (500, 700), blocks: tuple[tuple[int, int], ...], **facts: Any
) -> Path:
    """A raster in which only `blocks` were ever written."""
    profile = {"driver": "GTiff", "height": shape_px[0], "width": shape_px[1], "count": 1, "dtype": "uint8"}
    profile |= {"tiled": True, "blockxsize": BLOCK_PX, "blockysize": BLOCK_PX, "sparse_ok": True, **UTM}
    colours = facts.pop("colours", None)
    with rasterio.open(path, "w", **{**profile, **facts}) as dataset:
        if colours:
            dataset.colorinterp = colours
        for row, col in blocks:
            window = GdalWindow(col * BLOCK_PX, row * BLOCK_PX, BLOCK_PX, BLOCK_PX)
            dataset.write(np.full((dataset.count, BLOCK_PX, BLOCK_PX), 7, dataset.dtypes[0]), window=window)
    return path


def index(path: Path, policy: NodataPolicy = AUTO, bands: tuple[int, ...] = (1,)) -> EmptyIndex:
    return EmptyIndex(read_header(str(path)).raster, bands, policy)


WRITTEN = ((0, 0), (3, 5), (6, 2))


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.data())
def test_empty_windows_are_the_ones_without_a_valid_pixel(tmp_path: Path, data: st.DataObject) -> None:
    path = tmp_path / "x.tif"
    if not path.exists():
        sparse(path, blocks=WRITTEN, nodata=0)
    row, col = data.draw(st.integers(0, 499)), data.draw(st.integers(0, 699))
    window = Window.of(row, data.draw(st.integers(row + 1, 500)), col, data.draw(st.integers(col + 1, 700)))
    found = index(path)
    pixels = RasterSource(found.raster, (1,), AUTO).read(window)
    # Blocks that were written here are valid throughout, so the answer is exact.
    blocks = [Window.of(r * 64, r * 64 + 64, c * 64, c * 64 + 64) for r, c in WRITTEN]
    assert found.is_surely_empty(window) == (not any(block.meets(window) for block in blocks))
    assert not (found.is_surely_empty(window) and pixels.valid_HW.any())


EVERYTHING = Window.of(0, 500, 0, 700)


@pytest.mark.parametrize(
    ("facts", "policy", "empty"),
    [
        ({"nodata": 0}, AUTO, True),
        ({"nodata": 255}, AUTO, True),
        ({"nodata": float("nan"), "dtype": "float32"}, AUTO, True),
        ({"nodata": -9999, "dtype": "int16"}, AUTO, True),
        ({}, AUTO, False),
        ({"nodata": 0}, NodataPolicy(from_="none"), False),
        ({}, NodataPolicy(from_="value", value=0), True),
        ({"nodata": 255}, NodataPolicy(from_="value", value=0), False),
        ({"count": 4, "colours": RGBA}, AUTO, True),
        ({"count": 4, "colours": RGBA, "nodata": 9}, AUTO, False),
    ],
)
def test_absent_blocks_are_judged_by_the_policy(
    tmp_path: Path, facts: dict[str, Any], policy: NodataPolicy, *, empty: bool
) -> None:
    found = index(sparse(tmp_path / "x.tif", blocks=(), **facts), policy)
    assert found.is_surely_empty(EVERYTHING) is empty
    # The reader is of the same opinion.
    assert RasterSource(found.raster, (1,), policy).read(EVERYTHING).valid_HW.any() == (not empty)


@pytest.mark.parametrize("interleave", ["pixel", "band"])
def test_all_bands_in_use_must_be_absent(tmp_path: Path, interleave: str) -> None:
    path = sparse(tmp_path / "x.tif", blocks=(), nodata=0, count=3, interleave=interleave)
    with rasterio.open(path, "r+") as dataset:
        dataset.write(np.full((500, 700), 3, np.uint8), 2)
    assert index(path, bands=(1, 3)).is_surely_empty(EVERYTHING) is (interleave == "band")
    assert not index(path, bands=(1, 2)).is_surely_empty(EVERYTHING)


def test_striped(tmp_path: Path) -> None:
    path = sparse(tmp_path / "x.tif", blocks=(), nodata=0, tiled=False, blockysize=16)
    assert index(path).raster.layout == "striped"
    assert index(path).is_surely_empty(Window.of(13, 77, 5, 6))


@pytest.mark.parametrize("facts", [{"compress": "deflate"}, {"interleave": "band"}])
def test_a_file_of_one_strip_is_not_known(tmp_path: Path, facts: dict[str, Any]) -> None:
    """GDAL shows such a file as single rows, and knows the place of the first row only."""
    path = tmp_path / "x.tif"
    profile = {"driver": "GTiff", "height": 5000, "width": 2100, "count": 3, "dtype": "uint8", "nodata": 0, **UTM}
    with rasterio.open(path, "w", **profile, tiled=False, blockysize=5000, **facts) as dataset:
        dataset.write(np.full((3, 5000, 2100), 7, np.uint8))
        assert dataset.get_tag_item("BLOCK_OFFSET_0_9", "TIFF", bidx=1) is None
    window = Window.of(100, 140, 0, 30)
    assert not index(path, bands=(1, 2, 3)).is_surely_empty(window)
    assert RasterSource(read_header(str(path)).raster, (1, 2, 3), AUTO).read(window).valid_HW.all()


@pytest.mark.parametrize("nodata", [0, 255])
def test_absent_blocks_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nodata: int) -> None:
    path = sparse(tmp_path / "x.tif", blocks=((3, 5),), nodata=nodata, count=3)
    source = RasterSource(read_header(str(path)).raster, (3, 1, 3), AUTO)

    def read(*_: Any) -> None:
        raise AssertionError("pixels were read")

    monkeypatch.setattr(RasterSource, "_read", read)
    pixels = source.read(Window.of(0, 192, 0, 700))
    assert (pixels.raw_BHW.shape, pixels.raw_BHW.dtype, pixels.valid_HW.any()) == ((3, 192, 700), np.uint8, False)
    with pytest.raises(AssertionError, match="pixels were read"):
        source.read(Window.of(0, 193, 0, 700))


def test_a_mask_is_not_known_from_the_pixels(tmp_path: Path) -> None:
    path = sparse(tmp_path / "x.tif", blocks=(), nodata=0)
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "r+") as dataset:
        dataset.write_mask(np.ones((500, 700), bool))
    assert not index(path).is_surely_empty(EVERYTHING)


def test_other_formats_are_not_known(tmp_path: Path) -> None:
    sparse(tmp_path / "x.tif", blocks=(), nodata=0)
    (tmp_path / "x.vrt").write_text(
        '<VRTDataset rasterXSize="700" rasterYSize="500"><VRTRasterBand dataType="Byte"><NoDataValue>0</NoDataValue>'
        '<SimpleSource><SourceFilename relativeToVRT="1">x.tif</SourceFilename></SimpleSource>'
        "</VRTRasterBand></VRTDataset>"
    )
    assert not index(tmp_path / "x.vrt").is_surely_empty(EVERYTHING)


def test_a_huge_raster_is_quick(tmp_path: Path) -> None:
    path = sparse(
        tmp_path / "x.tif", shape_px=(200_000, 200_000), blocks=((200, 5),), nodata=0, blockxsize=512, blockysize=512
    )
    found = index(path)
    begun_s = time.perf_counter()
    chunks = [
        found.is_surely_empty(Window.of(r, min(r + 4096, 200_000), c, min(c + 4096, 200_000)))
        for r in range(0, 200_000, 4096)
        for c in range(0, 200_000, 4096)
    ]
    # 153 k blocks take a third of a second here.
    assert time.perf_counter() - begun_s < 10
    assert chunks.count(False) == 1


def test_an_impossible_policy_is_refused(tmp_path: Path) -> None:
    found = index(sparse(tmp_path / "x.tif", blocks=()), NodataPolicy(from_="alpha"))
    with pytest.raises(SceneError, match="the nodata policy cannot be followed"):
        found.is_surely_empty(EVERYTHING)
