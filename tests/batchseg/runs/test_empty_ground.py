"""Ground without pixels costs next to nothing, and changes no byte: each shortcut against all of the work."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from batchseg.engine.inputs import InputRule, cut_tile, make_tile_input
from batchseg.layers.layer import Layer
from batchseg.ledger.ledger import Ledger
from batchseg.output.block import pack_block
from batchseg.recipe import NodataPolicy
from batchseg.scene.area import measure_class_areas_km2, measure_classes
from batchseg.scene.georef import Georef
from batchseg.scene.header import read_header
from batchseg.scene.pixels import Pixels
from batchseg.scene.source import STRIPE_PX, RasterSource, open_source
from batchseg.store import LocalStore
from batchseg.workers import worker as worker_module
from tests.batchseg.scene import scene_rasters
from tests.runs import Workplace, noise
from tests.strategies import Layout, layouts, quick
from tiling.grid import tiles_of
from tiling.span import Window

AUTO = NodataPolicy(from_="auto")


@quick
@given(layouts(), st.sampled_from(["uint8", "uint16", "int16", "float32"]), st.sampled_from([None, (10.0, 200.0)]))
def test_a_tile_is_converted_alone_as_with_all_others(
    layout: Layout, raw_type: str, raw_range: tuple[float, float] | None
) -> None:
    random = np.random.default_rng(layout.shape_px[0] * 131 + layout.core_px)
    raw_BHW = random.integers(0, 250, (2, *layout.shape_px)).astype(raw_type)
    whole = Window.of(0, layout.shape_px[0], 0, layout.shape_px[1])
    pixels = Pixels(whole, raw_BHW, random.random(layout.shape_px) < 0.8)
    rule = InputRule("float32", raw_range, (0.0, 2.0), (0.5, 1.25))
    x_BHW = rule.apply(pixels)
    for tile in tiles_of(layout.lattice, whole):
        alone = make_tile_input(rule, pixels, tile, layout.halo_px, layout.shape_px)
        np.testing.assert_array_equal(alone, cut_tile(x_BHW, whole, tile, layout.halo_px, layout.shape_px))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 129), st.integers(0, 169), st.integers(1, 60)), max_size=4), st.booleans())
def test_ground_is_counted_where_there_is_some(corners: list[tuple[int, int, int]], placed: bool) -> None:
    """To the last bit, with parts that begin and end anywhere, also two in one row of blocks."""
    crs = rasterio.crs.CRS.from_epsg(4326).to_wkt() if placed else None
    georef = Georef(width_px=170, height_px=130, crs_wkt=crs, transform=(0.01, 0, 20, 0, -0.01, 61))
    whole = Window.of(0, 130, 0, 170)
    labels_HW, parts, taken_HW = np.full((130, 170), 3, np.uint8), [], np.zeros((130, 170), bool)
    for row, col, size in corners:
        part = Window.of(row, min(row + size, 130), col, min(col + size, 170))
        if not taken_HW[part.within(whole)].any():
            taken_HW[part.within(whole)] = True
            random = np.random.default_rng(row * 170 + col)
            labels_HW[part.within(whole)] = random.integers(0, 4, part.shape)  # 3 is no class
            parts.append(part)
    found = measure_classes(georef, whole, [(part, labels_HW[part.within(whole)]) for part in parts], codes=range(3))
    assert found[0] == tuple(np.bincount(labels_HW.ravel(), minlength=4)[:3].tolist())
    assert found[1] == measure_class_areas_km2(georef, whole, labels_HW, num_classes=3)
    assert (found[1] is None) is not placed


BLOCK_PX = 16


def _blocks(nodata: int, dtype: str) -> dict[str, NDArray[Any]]:
    square = np.full((BLOCK_PX, BLOCK_PX), 7, dtype)
    inner, corner = square.copy(), square.copy()
    inner[5, 9], corner[-1, -1] = nodata, 3
    return {
        "one code": square,
        "nodata": np.full_like(square, nodata),
        "one other pixel": inner,
        "another corner": corner,
        "cut, one code": square[:9, :5],
        "cut, nodata": np.full((9, 5), nodata, dtype),
        "a view": np.full((40, 40), 7, dtype)[3:19, 3:19],
    }


@pytest.mark.parametrize("kind", ["classes", "measure"])
@pytest.mark.parametrize("name", _blocks(255, "uint8"))
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_blocks_of_one_code_are_packed_as_others_are(
    name: str, kind: Any, dtype: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    nodata = int(np.iinfo(dtype).max)
    block_HW = _blocks(nodata, dtype)[name]
    layer = Layer(name="x", dtype=dtype, nodata=nodata, kind=kind)
    made = pack_block(block_HW, layer, block_px=BLOCK_PX, count_codes=True)
    monkeypatch.setattr("batchseg.output.block._is_constant", lambda *_: False)
    slow = pack_block(block_HW, layer, block_px=BLOCK_PX, count_codes=True)
    assert (made.stream, made.checksums) == (slow.stream, slow.checksums)
    np.testing.assert_array_equal(made.quarter_HW, slow.quarter_HW)
    np.testing.assert_array_equal(made.counts, np.bincount(block_HW.ravel(), minlength=layer.highest + 1))
    np.testing.assert_array_equal(slow.counts, made.counts)


HEIGHT_PX, WIDTH_PX = 3 * STRIPE_PX + 7, 90
"""More than one stripe of the reader."""


def _holes() -> NDArray[np.bool_]:
    """Valid pixels: nothing at the top, all at the bottom, and single pixels either side of a stripe's end."""
    valid_HW = np.zeros((HEIGHT_PX, WIDTH_PX), bool)
    valid_HW[2 * STRIPE_PX + 5 :] = True
    valid_HW[[STRIPE_PX - 1, STRIPE_PX], [3, 4]] = True
    return valid_HW


def _value(path: Path, pixels_BHW: NDArray[Any], valid_HW: NDArray[np.bool_]) -> tuple[NodataPolicy, Any]:
    pixels_BHW[:, ~valid_HW] = 0
    pixels_BHW[0, valid_HW] = 0  # black in one band only: valid
    return AUTO, scene_rasters.write(path, pixels_BHW, nodata=0, **scene_rasters.UTM)


def _any(path: Path, pixels_BHW: NDArray[Any], valid_HW: NDArray[np.bool_]) -> tuple[NodataPolicy, Any]:
    pixels_BHW[1, ~valid_HW] = 0
    policy = NodataPolicy(from_="value", value=0, rule="any")
    return policy, scene_rasters.write(path, pixels_BHW, **scene_rasters.UTM)


def _nan(path: Path, pixels_BHW: NDArray[Any], valid_HW: NDArray[np.bool_]) -> tuple[NodataPolicy, Any]:
    floats_BHW = pixels_BHW.astype(np.float32)
    floats_BHW[2, ~valid_HW] = np.nan
    return AUTO, scene_rasters.write(path, floats_BHW, nodata=float("nan"), **scene_rasters.UTM)


def _alpha(path: Path, pixels_BHW: NDArray[Any], valid_HW: NDArray[np.bool_]) -> tuple[NodataPolicy, Any]:
    alpha_1HW = np.where(valid_HW, 255, 0).astype(np.uint8)[None]
    colours = tuple(rasterio.enums.ColorInterp[name] for name in ("red", "green", "blue", "alpha"))
    with_alpha_BHW = np.concatenate([pixels_BHW, alpha_1HW])
    return AUTO, scene_rasters.write(path, with_alpha_BHW, colours=colours, **scene_rasters.UTM)


def _mask(path: Path, pixels_BHW: NDArray[Any], valid_HW: NDArray[np.bool_]) -> tuple[NodataPolicy, Any]:
    inside = {"GDAL_TIFF_INTERNAL_MASK": True}
    return AUTO, scene_rasters.write(path, pixels_BHW, mask_HW=valid_HW, options=inside, **scene_rasters.UTM)


WAYS: dict[str, Callable[[Path, NDArray[Any], NDArray[np.bool_]], tuple[NodataPolicy, Any]]] = {
    "value in all bands": _value,
    "value in one band": _any,
    "NaN in one band": _nan,
    "alpha": _alpha,
    "internal mask": _mask,
}


@pytest.mark.parametrize("way", WAYS)
def test_the_reader_finds_each_valid_pixel(way: str, tmp_path: Path) -> None:
    valid_HW = _holes()
    policy, path = WAYS[way](tmp_path / "x.tif", scene_rasters.noise(3, HEIGHT_PX, WIDTH_PX), valid_HW)
    source = open_source(read_header(str(path)).raster, (1, 2, 3), policy)
    with rasterio.open(path) as file:
        raw_BHW = file.read([1, 2, 3])
    for rows in (
        (0, HEIGHT_PX),
        (0, 40),
        (0, STRIPE_PX),
        (STRIPE_PX - 1, HEIGHT_PX),
        (150, 160),
        (HEIGHT_PX - 1, HEIGHT_PX),
    ):
        found = source.read(Window.of(*rows, 2, 88))
        expected_HW = valid_HW[slice(*rows), 2:88]
        np.testing.assert_array_equal(found.valid_HW, expected_HW)
        np.testing.assert_array_equal(found.raw_BHW[:, expected_HW], raw_BHW[:, slice(*rows), 2:88][:, expected_HW])


def test_under_a_mask_of_nothing_no_pixel_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    policy, path = _mask(tmp_path / "x.tif", scene_rasters.noise(3, HEIGHT_PX, WIDTH_PX), _holes())
    source = open_source(read_header(str(path)).raster, (1, 2, 3), policy)

    def read(*_: Any) -> NDArray[Any]:
        raise AssertionError("pixels were read")

    monkeypatch.setattr(RasterSource, "_read", read)
    assert not source.read(Window.of(0, STRIPE_PX - 1, 0, WIDTH_PX)).valid_HW.any()
    with pytest.raises(AssertionError, match="pixels were read"):
        source.read(Window.of(0, STRIPE_PX, 0, WIDTH_PX))


def test_records_of_a_scene_with_holes_tell_what_its_pixels_tell(tmp_path: Path) -> None:
    """Chunks that are empty, that hold one pixel, one tile of four, and tiles at both ends of a row."""
    pixels_BHW = noise(100, 130)
    pixels_BHW[:, :64, :96] = 0
    pixels_BHW[:, 3, 40], pixels_BHW[:, 40:44, 5], pixels_BHW[:, 40:44, 90] = 1, 2, 3
    place = Workplace.of(tmp_path, pixels_BHW)
    with rasterio.open(place.scenes[0], "r+") as file:
        file.nodata = 0
    assert place.run().exit_status == 0
    layers = {}
    for name in ("labels", "confidence"):
        with rasterio.open(place.output / "scene0" / f"{name}.tif") as file:
            layers[name] = file.read(1)
    np.testing.assert_array_equal(layers["labels"] != 255, (pixels_BHW != 0).any(0))
    header, kinds = read_header(place.scenes[0]), []
    for record in Ledger(LocalStore(place.output)).read_records():
        row, col = record.key.row * 32, record.key.col * 32
        window = Window.of(row, min(row + 32, 100), col, min(col + 32, 130))
        of = window.within(Window.of(0, 100, 0, 130))
        labels_HW, confidence_HW = layers["labels"][of], layers["confidence"][of]
        found = record.measured
        assert found.class_px == tuple(np.bincount(labels_HW.ravel(), minlength=256)[:5].tolist())
        assert found.valid_px == int((labels_HW != 255).sum())
        assert found.confidence_sum == int(confidence_HW[confidence_HW != 255].sum(dtype=np.int64))
        assert found.class_area_km2 == measure_class_areas_km2(header.grid, window, labels_HW, num_classes=5)
        kinds.append(record.kind)
        assert (record.kind, bool(record.objects)) == (("done", True) if found.valid_px else ("empty", False))
    assert 0 < kinds.count("empty") < len(kinds)


def test_a_chunk_without_a_pixel_never_waits_for_the_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = Workplace.of(tmp_path, np.zeros((3, 70, 70), np.uint8))
    with rasterio.open(place.scenes[0], "r+") as file:
        file.nodata = 0

    def segment_chunk(*_: Any, **__: Any) -> None:
        raise AssertionError("the device was asked")

    monkeypatch.setattr(worker_module, "segment_chunk", segment_chunk)
    outcome = place.run()
    assert (outcome.exit_status, outcome.metrics.valid_px, outcome.metrics.area_km2) == (0, 0, 0.0)
