from __future__ import annotations

import os
import pickle
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rasterio.enums import ColorInterp

from batchseg.errors import BatchsegError, ReadError, SceneError
from batchseg.recipe import NodataPolicy
from batchseg.scene import dataset as dataset_module
from batchseg.scene.header import read_header
from batchseg.scene.pixels import Pixels
from batchseg.scene.source import RasterSource
from tests.batchseg.scene.scene_rasters import UTM, noise, smooth, write
from tiling.span import Window

AUTO = NodataPolicy(from_="auto")
RGBA = (ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha)
TILED = {"tiled": True, "blockxsize": 64, "blockysize": 64}


def source(path: Path | str, bands: tuple[int, ...], policy: NodataPolicy = AUTO) -> RasterSource:
    return RasterSource(read_header(str(path)).raster, bands, policy)


def whole(made: RasterSource) -> Pixels:
    rows, cols = made.raster.shape_px
    return made.read(Window.of(0, rows, 0, cols))


@pytest.mark.parametrize("interleave", ["pixel", "band"])
@pytest.mark.parametrize("layout", [{}, TILED], ids=["striped", "tiled"])
def test_bands_in_the_models_order(tmp_path: Path, interleave: str, layout: dict[str, Any]) -> None:
    pixels_BHW = noise(4, 100, 90)
    path = write(tmp_path / "x.tif", pixels_BHW, interleave=interleave, **layout, **UTM)
    window = Window.of(3, 77, 11, 80)
    # GDAL calls the fourth of four bands alpha, whatever it is.
    got = source(path, (3, 1, 3, 2), NodataPolicy(from_="none")).read(window)
    assert got.window == window
    np.testing.assert_array_equal(got.raw_BHW, pixels_BHW[[2, 0, 2, 1], 3:77, 11:80])
    assert got.valid_HW.all()
    assert got.raw_BHW.flags.writeable


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.data())
def test_any_window(tmp_path: Path, data: st.DataObject) -> None:
    pixels_BHW = noise(2, 70, 130, low=0)
    path = tmp_path / "x.tif"
    if not path.exists():
        write(path, pixels_BHW, nodata=0, **TILED, **UTM)
    row, col = data.draw(st.integers(0, 69)), data.draw(st.integers(0, 129))
    window = Window.of(row, data.draw(st.integers(row + 1, 70)), col, data.draw(st.integers(col + 1, 130)))
    got = source(path, (1, 2)).read(window)
    rows, cols = window.within(Window.of(0, 70, 0, 130))
    np.testing.assert_array_equal(got.raw_BHW, pixels_BHW[:, rows, cols])
    np.testing.assert_array_equal(got.valid_HW, (pixels_BHW[:, rows, cols] != 0).any(axis=0))


def test_a_window_outside_of_the_scene_is_a_programming_error(tmp_path: Path) -> None:
    made = source(write(tmp_path / "x.tif", noise(1, 10, 10), **UTM), (1,))
    with pytest.raises(ValueError, match="reaches out of a scene"):
        made.read(Window.of(0, 11, 0, 10))


def test_one_pixel_and_one_row(tmp_path: Path) -> None:
    assert whole(source(write(tmp_path / "a.tif", noise(1, 1, 1)), (1, 1, 1))).raw_BHW.shape == (3, 1, 1)
    assert whole(source(write(tmp_path / "b.tif", noise(1, 1, 999)), (1,))).raw_BHW.shape == (1, 1, 999)


@pytest.mark.parametrize("dtype", ["int8", "int16", "uint16", "int32", "float32", "float64"])
def test_raw_values_keep_their_type(tmp_path: Path, dtype: str) -> None:
    pixels_BHW = noise(1, 9, 9, dtype)
    got = whole(source(write(tmp_path / "x.tif", pixels_BHW, **UTM), (1,)))
    assert got.raw_BHW.dtype == dtype
    np.testing.assert_array_equal(got.raw_BHW, pixels_BHW)


def test_scale_and_offset_are_left_alone(tmp_path: Path) -> None:
    path = write(tmp_path / "x.tif", noise(1, 9, 9, "int16"), **UTM)
    with rasterio.open(path, "r+") as dataset:
        dataset.scales, dataset.offsets = (0.5,), (100,)
    np.testing.assert_array_equal(whole(source(path, (1,))).raw_BHW, noise(1, 9, 9, "int16"))


def test_alpha(tmp_path: Path) -> None:
    pixels_BHW = noise(4, 50, 50)
    pixels_BHW[3] = 255
    pixels_BHW[3, :20] = 0
    pixels_BHW[3, 20] = 1
    path = write(tmp_path / "x.tif", pixels_BHW, colours=RGBA, **UTM)
    got = whole(source(path, (2, 1)))
    np.testing.assert_array_equal(got.raw_BHW, pixels_BHW[[1, 0]])
    assert not got.valid_HW[:20].any()
    assert got.valid_HW[20:].all()
    assert whole(source(path, (1, 4))).valid_HW.all()


@pytest.mark.parametrize("inside", [True, False])
def test_mask(tmp_path: Path, *, inside: bool) -> None:
    mask_HW = noise(1, 50, 60)[0] > 60
    options = {"GDAL_TIFF_INTERNAL_MASK": inside}
    path = write(tmp_path / "x.tif", noise(3, 50, 60), mask_HW=mask_HW, options=options, **UTM)
    assert (tmp_path / "x.tif.msk").exists() is not inside
    made = source(path, (1, 1, 1))
    np.testing.assert_array_equal(whole(made).valid_HW, mask_HW)
    np.testing.assert_array_equal(made.read(Window.of(7, 33, 5, 58)).valid_HW, mask_HW[7:33, 5:58])
    assert whole(source(path, (1,), NodataPolicy(from_="none"))).valid_HW.all()


def test_nan_and_infinity(tmp_path: Path) -> None:
    pixels_BHW = noise(2, 20, 20, "float32")
    pixels_BHW[0, 3, 4], pixels_BHW[1, 5, 6] = np.nan, np.inf
    for nodata in (None, float("nan")):
        got = whole(source(write(tmp_path / f"{nodata}.tif", pixels_BHW, nodata=nodata, **UTM), (1, 2)))
        assert sorted(zip(*np.nonzero(~got.valid_HW), strict=True)) == [(3, 4), (5, 6)]


def test_nodata_that_no_pixel_can_hold(tmp_path: Path) -> None:
    path = write(tmp_path / "x.tif", noise(1, 9, 9, low=0), **UTM)
    (tmp_path / "x.tif.aux.xml").write_text(
        '<PAMDataset><PAMRasterBand band="1"><NoDataValue>-9999</NoDataValue></PAMRasterBand></PAMDataset>'
    )
    assert whole(source(path, (1,))).valid_HW.all()
    assert whole(source(path, (1,), NodataPolicy(from_="value", value=-9999))).valid_HW.all()


def test_mixed_types(tmp_path: Path) -> None:
    write(tmp_path / "a.tif", noise(1, 8, 8), nodata=5, **UTM)
    write(tmp_path / "b.tif", noise(1, 8, 8, "int16") - 200, nodata=-190, **UTM)
    bands = "".join(
        f'<VRTRasterBand dataType="{kind}"><NoDataValue>{nodata}</NoDataValue><SimpleSource>'
        f'<SourceFilename relativeToVRT="1">{name}.tif</SourceFilename></SimpleSource></VRTRasterBand>'
        for name, kind, nodata in (("a", "Byte", 5), ("b", "Int16", -190))
    )
    path = tmp_path / "x.vrt"
    path.write_text(f'<VRTDataset rasterXSize="8" rasterYSize="8">{bands}</VRTDataset>')
    got = whole(source(path, (1, 2, 1)))
    assert got.raw_BHW.dtype == np.int16
    np.testing.assert_array_equal(got.raw_BHW[0], noise(1, 8, 8)[0])
    np.testing.assert_array_equal(got.raw_BHW[1], noise(1, 8, 8, "int16")[0] - 200)
    expected_HW = (got.raw_BHW[0] != 5) | (got.raw_BHW[1] != -190)
    np.testing.assert_array_equal(got.valid_HW, expected_HW)


def test_no_place_on_the_ground_is_no_warning_in_any_thread(tmp_path: Path) -> None:
    made = source(write(tmp_path / "x.tif", noise(1, 64, 64)), (1,))
    with ThreadPoolExecutor(4) as pool:
        assert all(pixels.valid_HW.all() for pixels in pool.map(lambda _: whole(made), range(20)))


def test_many_threads_read_one_source(tmp_path: Path) -> None:
    pixels_BHW = smooth(3, 512, 512)
    made = source(write(tmp_path / "x.tif", pixels_BHW, compress="deflate", **TILED, **UTM), (3, 2, 1))
    windows = [Window.of(r, r + 100, c, c + 130) for r in range(0, 400, 37) for c in range(0, 380, 61)]
    with ThreadPoolExecutor(8) as pool:
        for window, got in zip(windows, pool.map(made.read, windows), strict=True):
            rows, cols = window.within(Window.of(0, 512, 0, 512))
            np.testing.assert_array_equal(got.raw_BHW, pixels_BHW[::-1, rows, cols])


def test_pickles_small_and_reads_after(tmp_path: Path) -> None:
    made = source(write(tmp_path / "x.tif", noise(1, 64, 64), **UTM), (1,))
    whole(made)
    packed = pickle.dumps(made)
    assert len(packed) < 4000
    np.testing.assert_array_equal(whole(pickle.loads(packed)).raw_BHW, noise(1, 64, 64))


def num_open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts open files as Linux lists them")
def test_thousands_of_scenes_keep_few_files_open(tmp_path: Path) -> None:
    before = num_open_files()
    for number in range(60):
        whole(source(write(tmp_path / f"{number}.tif", noise(1, 4, 4), **UTM), (1,)))
    assert num_open_files() - before <= dataset_module.OPEN_PER_THREAD


def test_a_thread_that_ends_closes_its_files(tmp_path: Path) -> None:
    made = source(write(tmp_path / "x.tif", noise(1, 4, 4), **UTM), (1,))
    before = num_open_files()
    for _ in range(40):
        thread = threading.Thread(target=whole, args=(made,))
        thread.start()
        thread.join()
    assert num_open_files() - before <= 2


def cut(path: Path, share: float) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])


def every_block(made: RasterSource, step_px: int = 64) -> Iterator[Pixels | BatchsegError]:
    rows, cols = made.raster.shape_px
    for row in range(0, rows, step_px):
        for col in range(0, cols, step_px):
            try:
                yield made.read(Window.of(row, min(rows, row + step_px), col, min(cols, col + step_px)))
            except ReadError as error:
                yield error


@pytest.mark.parametrize("compress", [None, "deflate", "lzw", "zstd", "packbits", "jpeg", "webp"])
@pytest.mark.parametrize("layout", [{}, TILED], ids=["striped", "tiled"])
def test_truncated_files_fail_or_read_right(tmp_path: Path, compress: str | None, layout: dict[str, Any]) -> None:
    facts = {"photometric": "ycbcr"} if compress == "jpeg" else {}
    path = write(tmp_path / "x.tif", smooth(3, 256, 256), compress=compress, interleave="pixel", **facts, **layout)
    made = source(path, (1, 2, 3))
    right = whole(made)
    cut(path, 0.6)
    made = source(path, (1, 2, 3))
    failed = 0
    for got in every_block(made):
        if isinstance(got, BatchsegError):
            failed += 1
            assert got.retryable
            assert str(got).startswith(f"{path}, rows ")
            assert "\n" not in str(got)
        else:
            np.testing.assert_array_equal(got.raw_BHW, right.raw_BHW[:, *got.window.within(right.window)])
    assert 0 < failed < 16
    with pytest.raises(ReadError):
        whole(made)


@pytest.mark.parametrize("compress", ["deflate", "lzw", "zstd", "packbits", "jpeg"])
def test_a_damaged_block_fails(tmp_path: Path, compress: str) -> None:
    facts = {"photometric": "ycbcr"} if compress == "jpeg" else {}
    path = write(
        tmp_path / "x.tif", smooth(3, 256, 256), compress=compress, interleave="pixel", **facts, **TILED, **UTM
    )
    with rasterio.open(path) as dataset:
        start = int(dataset.get_tag_item("BLOCK_OFFSET_1_1", "TIFF", bidx=1))
        size = int(dataset.get_tag_item("BLOCK_SIZE_1_1", "TIFF", bidx=1))
    content = bytearray(path.read_bytes())
    # Streams that still decode pass for good with DEFLATE and ZSTD: GDAL checks no sums. So all of these is zeroed.
    from_byte = start + (0 if compress in ("deflate", "zstd") else size // 2)
    content[from_byte : start + size] = bytes(start + size - from_byte)
    path.write_bytes(content)
    made = source(path, (1, 2, 3))
    for _ in range(2):
        # Twice: what a decoder made of the block must not come out of a cache.
        with pytest.raises(ReadError, match=r"rows 64 to 128, columns 64 to 128: the raster "):
            made.read(Window.of(64, 128, 64, 128))
    assert made.read(Window.of(0, 64, 0, 64)).valid_HW.all()


def test_damage_is_reported_in_the_reading_thread_only(tmp_path: Path) -> None:
    pixels_BHW = smooth(3, 256, 256)
    bad = write(tmp_path / "bad.tif", pixels_BHW, compress="jpeg", photometric="ycbcr", **TILED)
    good = source(write(tmp_path / "good.tif", pixels_BHW, **TILED), (1, 2, 3))
    cut(bad, 0.5)
    damaged = source(bad, (1, 2, 3))
    with ThreadPoolExecutor(2) as pool:
        outcomes = [(pool.submit(whole, damaged), pool.submit(whole, good)) for _ in range(20)]
        for first, second in outcomes:
            assert isinstance(first.exception(), ReadError)
            np.testing.assert_array_equal(second.result().raw_BHW, pixels_BHW)


def test_a_jpeg_file_cut_short_fails(tmp_path: Path) -> None:
    path = write(tmp_path / "x.jpg", smooth(3, 256, 256), driver="JPEG")
    cut(path, 0.5)
    made = source(path, (1, 2, 3))
    with pytest.raises(ReadError):
        whole(made)


def test_a_missing_part_of_a_vrt_fails(tmp_path: Path) -> None:
    path = tmp_path / "x.vrt"
    path.write_text(
        '<VRTDataset rasterXSize="4" rasterYSize="4"><VRTRasterBand dataType="Byte"><SimpleSource>'
        '<SourceFilename relativeToVRT="1">gone.tif</SourceFilename></SimpleSource></VRTRasterBand></VRTDataset>'
    )
    with pytest.raises(ReadError, match=r"gone\.tif"):
        whole(source(path, (1,)))


def test_a_failed_read_is_tried_again_from_the_file(tmp_path: Path) -> None:
    path = write(tmp_path / "x.tif", smooth(1, 256, 256), compress="deflate", **TILED, **UTM)
    stat, content = path.stat(), path.read_bytes()
    made = source(path, (1,))
    path.write_bytes(content[:1000] + bytes(len(content) - 1000))
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    with pytest.raises(ReadError):
        whole(made)
    path.write_bytes(content)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    np.testing.assert_array_equal(whole(made).raw_BHW, smooth(1, 256, 256))


def test_a_file_that_changed_since_the_plan_is_refused(tmp_path: Path) -> None:
    made = source(write(tmp_path / "x.tif", noise(1, 4, 4), **UTM), (1,))
    write(tmp_path / "x.tif", noise(1, 4, 5), **UTM)
    with pytest.raises(SceneError, match=r"the file has changed since the run was planned; expected size_bytes"):
        whole(made)


def test_a_file_that_went_away(tmp_path: Path) -> None:
    path = write(tmp_path / "x.tif", noise(1, 4, 4), **UTM)
    made = source(path, (1,))
    path.unlink()
    with pytest.raises(SceneError, match=r"there is no such file any more"):
        whole(made)
