from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchseg.engine.inputs import InputRule, cut_tile
from batchseg.scene.pixels import Pixels
from tests.strategies import Layout, layouts, quick
from tiling.grid import tiles_of
from tiling.span import Window


def pixels_of(raw: np.ndarray, valid: np.ndarray | None = None) -> Pixels:
    raw_BHW = raw.reshape(1, 1, -1) if raw.ndim == 1 else raw
    shape = raw_BHW.shape[1:]
    return Pixels(Window.of(0, shape[0], 0, shape[1]), raw_BHW, np.ones(shape, bool) if valid is None else valid)


def applied(rule: InputRule, raw: np.ndarray) -> list[Any]:
    x_BHW = rule.apply(pixels_of(raw))
    assert x_BHW.dtype == rule.dtype
    found: list[Any] = x_BHW.ravel().tolist()
    return found


@pytest.mark.parametrize("raw_type", ["uint8", "int8", "uint16", "int16"])
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
@pytest.mark.parametrize("raw_range", [(0, 255), (-100, 100), (1, 10_000), (-3000, -2000)])
def test_tables_give_what_arithmetic_gives(raw_type: str, dtype: str, raw_range: tuple[float, float]) -> None:
    """All values of narrow types go through a table, wide types through floating point."""
    info = np.iinfo(raw_type)
    every = np.arange(info.min, info.max + 1)
    rule = InputRule(dtype, raw_range, (0.0, 255.0) if dtype == "uint8" else (-1.0, 1.0), (0.0,))
    by_table = applied(rule, every.astype(raw_type))
    assert by_table == applied(rule, every.astype(np.int32))
    assert by_table == applied(rule, every.astype(np.float64))
    low, high = rule.model_range
    exact = np.clip((every - raw_range[0]) / (raw_range[1] - raw_range[0]) * (high - low) + low, low, high)
    tolerance = 0.5001 if dtype == "uint8" else 1e-5
    assert np.abs(np.array(by_table) - exact).max() <= tolerance


@pytest.mark.parametrize("raw_type", ["float16", "float32", "float64"])
def test_quantisation_does_not_wrap(raw_type: str) -> None:
    almost_one = np.nextafter(np.array(1, raw_type), np.array(0, raw_type))
    raw = np.array([0, 0.5, almost_one, 1], raw_type)
    rule = InputRule("uint8", (0.0, 1.0), (0.0, 255.0), (0.0,))
    assert applied(rule, raw) == [0, 128, 255, 255]


def test_values_beyond_the_range_are_clipped() -> None:
    raw = np.array([-5, 0, 1, 7, np.inf, -np.inf], np.float32)
    assert applied(InputRule("uint8", (0.0, 1.0), (0.0, 255.0), (0.0,)), raw) == [0, 0, 255, 255, 255, 0]
    assert applied(InputRule("float32", (0.0, 1.0), (0.0, 2.0), (0.0,)), raw) == [0.0, 0.0, 2.0, 2.0, 2.0, 0.0]


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
@pytest.mark.parametrize("raw_type", ["float32", "float64"])
def test_values_under_invalid_pixels_may_be_anything(dtype: str, raw_type: str) -> None:
    """NaN, infinities and the lowest number, which GIS programs use as nodata values."""
    raw = np.array([np.nan, np.inf, -np.inf, np.finfo(raw_type).min, 0.25, 1.0], raw_type).reshape(1, 1, -1)
    valid = np.array([[False, False, False, False, True, True]])
    rule = InputRule(dtype, (0.0, 1.0), (0.0, 255.0), (40.0,))
    assert rule.apply(pixels_of(raw, valid)).ravel()[:5].round().tolist() == [40, 40, 40, 40, 64]


@pytest.mark.parametrize(
    "rule", [InputRule("uint8", None, (0, 255), (7.0, 8.4)), InputRule("uint8", (0, 100), (0, 255), (7.0, 8.4))]
)
def test_invalid_pixels_are_filled_with_the_mean_of_their_band(rule: InputRule) -> None:
    random = np.random.default_rng(1)
    raw_BHW = random.integers(0, 256, (2, 30, 40)).astype(np.uint8)
    valid_HW = random.random((30, 40)) < 0.5
    x_BHW = rule.apply(pixels_of(raw_BHW, valid_HW))
    untouched_BHW = rule.apply(pixels_of(raw_BHW))
    assert [np.unique(band[~valid_HW]).tolist() for band in x_BHW] == [[7], [8]]
    np.testing.assert_array_equal(x_BHW[:, valid_HW], untouched_BHW[:, valid_HW])


def test_a_float_model_is_filled_with_the_exact_mean() -> None:
    rule = InputRule("float32", None, (0.0, 1.0), (0.4375,))
    x_BHW = rule.apply(pixels_of(np.full((1, 2, 2), np.nan, np.float32), np.zeros((2, 2), bool)))
    assert x_BHW.tolist() == [[[0.4375] * 2] * 2]


def test_means_and_bands_of_different_numbers_are_an_error() -> None:
    rule = InputRule("uint8", None, (0.0, 255.0), (1.0, 2.0, 3.0))
    with pytest.raises(ValueError, match="zip"):
        rule.apply(pixels_of(np.zeros((2, 3, 3), np.uint8), np.zeros((3, 3), bool)))


@quick
@given(
    st.sampled_from(["uint8", "int8", "uint16", "int16", "int32", "float32", "float64"]),
    st.sampled_from(["uint8", "float32"]),
    st.sampled_from([None, (0.0, 200.0)]),
    st.booleans(),
)
def test_pixels_are_never_changed(
    raw_type: str, dtype: str, raw_range: tuple[float, float] | None, all_valid: bool
) -> None:
    raw_BHW = np.random.default_rng(2).integers(0, 120, (2, 9, 11)).astype(raw_type)
    valid_HW = np.ones((9, 11), bool)
    valid_HW[3:5] = all_valid
    pixels = pixels_of(raw_BHW.copy(), valid_HW.copy())
    x_BHW = InputRule(dtype, raw_range, (0.0, 255.0), (1.0, 2.0)).apply(pixels)
    assert x_BHW.dtype == dtype
    np.testing.assert_array_equal(pixels.raw_BHW, raw_BHW)
    np.testing.assert_array_equal(pixels.valid_HW, valid_HW)
    if not all_valid:
        assert not np.shares_memory(x_BHW, pixels.raw_BHW)


@quick
@given(layouts())
def test_a_tile_comes_out_of_any_window_that_holds_it(layout: Layout) -> None:
    """From the whole scene, and from what was read for its chunk alone."""
    whole = Window.of(0, layout.shape_px[0], 0, layout.shape_px[1])
    scene_BHW = np.arange(2 * whole.num_px).reshape(2, *layout.shape_px)
    for key in layout.chunks:
        chunk = layout.chunks.window(*key)
        read = chunk.grow(layout.halo_px).clip(layout.shape_px)
        rows, cols = read.within(whole)
        for tile in tiles_of(layout.lattice, chunk):
            from_whole = cut_tile(scene_BHW, whole, tile, layout.halo_px, layout.shape_px)
            from_chunk = cut_tile(scene_BHW[:, rows, cols], read, tile, layout.halo_px, layout.shape_px)
            assert from_chunk.shape == (2, *tile.read_window(layout.halo_px).shape)
            np.testing.assert_array_equal(from_chunk, from_whole)


def test_a_window_that_does_not_hold_the_tile_is_refused() -> None:
    layout = Layout(shape_px=(20, 20), core_px=5, chunk_px=5, halo_px=2)
    (tile,) = tiles_of(layout.lattice, Window.of(5, 10, 5, 10))
    narrow = Window.of(5, 10, 5, 10)
    with pytest.raises(ValueError, match="is not inside"):
        cut_tile(np.zeros((1, 5, 5)), narrow, tile, layout.halo_px, layout.shape_px)
