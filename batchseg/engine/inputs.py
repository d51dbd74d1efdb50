"""Conversion of raw pixels of a scene into a model's input: scaled, invalid pixels filled, edges repeated.

Scaling belongs to the bundle, never to a tile: the same raw value gives the same input everywhere. A model gets the
data type of its contract. Where the scene has another data type, the recipe's `scale` names the raw range that stands
for the bundle's range.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batchseg.scene.pixels import Pixels
from tiling.grid import Tile
from tiling.pad import replicate
from tiling.span import Window


@dataclass(frozen=True, slots=True)
class InputRule:
    """Conversion of raw values of one scene into inputs of one bundle."""

    dtype: str
    """Data type of the model's input: uint8 or float32."""
    raw_range: tuple[float, float] | None
    """Raw values of the scene that stand for `model_range`; None: values are taken as they are."""
    model_range: tuple[float, float]
    fill: tuple[float, ...]
    """Value of invalid pixels, one per band: the bundle's mean."""

    def apply(self, pixels: Pixels) -> NDArray[Any]:
        """Convert pixels to model input, each pixel by itself; never change `pixels`."""
        x_BHW = self._convert(pixels.raw_BHW)
        invalid_HW = ~pixels.valid_HW
        if invalid_HW.any():
            if x_BHW is pixels.raw_BHW:
                x_BHW = x_BHW.copy()
            for band, fill in zip(x_BHW, self.fill, strict=True):
                band[invalid_HW] = np.rint(fill) if self.dtype == "uint8" else fill
        return x_BHW

    def _convert(self, raw_BHW: NDArray[Any]) -> NDArray[Any]:
        if self.raw_range is None:
            if raw_BHW.dtype == self.dtype:
                return raw_BHW
            return self._to_dtype(_as_float32(raw_BHW))
        if raw_BHW.dtype.kind in "iu" and raw_BHW.dtype.itemsize <= 2:
            return self._by_table(raw_BHW)
        return self._to_dtype(self._scale(_as_float32(raw_BHW)))

    def _by_table(self, raw_BHW: NDArray[Any]) -> NDArray[Any]:
        """Convert values of one or two bytes by one look-up instead of three passes in floating point."""
        # np.take would turn all raw values into eight-byte indexes first.
        x_BHW: NDArray[Any] = _find_table(self, raw_BHW.dtype)[raw_BHW]
        return x_BHW

    def make_table(self, dtype: np.dtype[Any]) -> NDArray[Any]:
        """Return the model input of every raw value of a data type; the raw value is the index."""
        info = np.iinfo(dtype)
        table = self._to_dtype(self._scale(np.arange(info.min, info.max + 1, dtype=np.float32)))
        # A negative raw value indexes from the end, so the table is rotated to begin at zero.
        return np.roll(table, info.min) if info.min < 0 else table

    def _scale(self, raw: NDArray[np.float32]) -> NDArray[np.float32]:
        if self.raw_range is None:
            return raw
        (raw_low, raw_high), (low, high) = self.raw_range, self.model_range
        slope = np.float32((high - low) / (raw_high - raw_low))
        with np.errstate(over="ignore"):  # of a nodata value like -3.4e38
            return (raw - np.float32(raw_low)) * slope + np.float32(low)

    def _to_dtype(self, x: NDArray[np.float32]) -> NDArray[Any]:
        clipped = np.clip(x, *self.model_range)
        if self.dtype == "uint8":
            # NaN occurs in invalid pixels only, which are filled afterwards.
            return np.rint(np.nan_to_num(clipped)).astype(np.uint8)
        return np.nan_to_num(clipped).astype(np.float32)


def make_input_rule(
    raw_dtype: str,
    *,
    model_dtype: str,
    model_range: tuple[float, float],
    scale: tuple[float, float] | None,
    fill: tuple[float, ...],
) -> InputRule:
    """Make the rule for rasters of one data type; training and inference share it.

    Args:
        raw_dtype: Data type of the raster.
        model_dtype: Data type of the model's contract; a model of anything but uint8 is given float32.
        model_range: Raw values that the model knows.
        scale: Raw values of the raster that stand for `model_range`; None: the same values.
        fill: Value of invalid pixels, one per band, in the model's raw values.
    """
    dtype = "uint8" if model_dtype == "uint8" else "float32"
    is_unchanged = raw_dtype == dtype and scale in (None, model_range)
    return InputRule(
        dtype=dtype,
        raw_range=None if is_unchanged else (scale or model_range),
        model_range=model_range,
        fill=fill,
    )


@lru_cache(maxsize=8)
def _find_table(rule: InputRule, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Make the table of a rule once, not once per tile."""
    return rule.make_table(dtype)


def _as_float32(raw_BHW: NDArray[Any]) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):  # of a nodata value like -1.8e308
        return raw_BHW.astype(np.float32)


def cut_tile(
    x_BHW: NDArray[Any], have: Window, tile: Tile, halo_px: int, scene_shape_px: tuple[int, int]
) -> NDArray[Any]:
    """Cut one tile, with its halo, from an array of the window `have`; beyond the scene its edge is repeated."""
    want = tile.read_window(halo_px)
    inside = want.clip(scene_shape_px)
    rows, cols = inside.within(have)
    return replicate(x_BHW[:, rows, cols], inside, want)


def make_tile_input(
    rule: InputRule, pixels: Pixels, tile: Tile, halo_px: int, scene_shape_px: tuple[int, int]
) -> NDArray[Any]:
    """Convert the pixels that one tile reads, and no others; beyond the scene its edge is repeated."""
    want = tile.read_window(halo_px)
    inside = want.clip(scene_shape_px)
    rows, cols = inside.within(pixels.window)
    read = Pixels(inside, pixels.raw_BHW[:, rows, cols], pixels.valid_HW[rows, cols])
    return replicate(rule.apply(read), inside, want)
