"""A sample of a scene's pixels that costs little to read, however large the scene is.

Theory of operation
-------------------
A small scene is read whole. Of a larger one the finest overview that is small enough is read, so that no patch of some
size escapes. Without overviews, windows on an even grid are read, the outermost at the edges of the scene. Each read of
a window costs requests on a server, so there the grid is coarser.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely

from batchseg.remote import is_remote
from batchseg.scene.dataset import use_handle
from batchseg.scene.extreme_patches import SamplePart
from batchseg.scene.polygons import Polygons, make_polygons
from batchseg.scene.raster_file import RasterFile
from batchseg.scene.source import RasterSource
from tiling.span import Window

SAMPLE_BYTES = 32 * 2**20
"""Largest size of a sample in memory."""
SAMPLE_PX = 4_194_304
"""Largest number of pixels of a sample."""
GRID_LOCAL, GRID_REMOTE = 12, 5
"""Windows along each side of a scene without overviews. Twelve do not miss a hole of a hundredth of the scene."""
WINDOW_PX = 256
MAX_READ_S = 10.0
"""Time after which no further window of a scene is read: some formats decode the whole file for each."""
STRIPED_PX = 67_108_864
"""Largest number of pixels that the windows of a striped file make a decoder read: each window needs whole rows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PixelSample:
    """Pixels of a scene, out of its overview or of some windows."""

    parts: tuple[SamplePart, ...]
    scale: int
    """Rows of the scene per row of the sample."""


def read_pixel_sample(source: RasterSource, aoi: Polygons | None) -> PixelSample:
    """Read a sample of a scene; pixels outside of the area of interest count as invalid.

    Raises:
        ReadError: A block cannot be read. Nothing is tried again.
    """
    raster = source.raster
    limit_px = min(SAMPLE_PX, SAMPLE_BYTES // (len(source.bands) * np.dtype(raster.dtype).itemsize))
    if math.prod(raster.shape_px) <= limit_px:
        return PixelSample(parts=(_read_window(source, _make_whole(raster), aoi),), scale=1)
    with use_handle(raster, raster.url) as dataset:
        scale = _choose_overview(dataset, raster, limit_px)
    if scale is not None:
        return PixelSample(parts=(_read_overview(source, scale, aoi),), scale=scale)
    return PixelSample(parts=tuple(_read_windows(source, limit_px, aoi)), scale=1)


def _read_windows(source: RasterSource, limit_px: int, aoi: Polygons | None) -> Iterator[SamplePart]:
    """Read windows until they took so long that the rest would cost more than they tell."""
    begun_s = time.monotonic()
    for window in _choose_windows(source.raster, limit_px):
        yield _read_window(source, window, aoi)
        if time.monotonic() - begun_s > MAX_READ_S:
            return


def _make_whole(raster: RasterFile) -> Window:
    return Window.of(0, raster.shape_px[0], 0, raster.shape_px[1])


def _choose_overview(dataset: Any, raster: RasterFile, limit_px: int) -> int | None:
    """Choose the finest overview that is small enough; None where there is none."""
    scales = [int(scale) for scale in dataset.overviews(1)]
    return min((scale for scale in scales if math.prod(_shrink(raster, scale)) <= limit_px), default=None)


def _shrink(raster: RasterFile, scale: int) -> tuple[int, int]:
    high, wide = raster.shape_px
    return -(-high // scale), -(-wide // scale)


def _read_overview(source: RasterSource, scale: int, aoi: Polygons | None) -> SamplePart:
    shape_px = _shrink(source.raster, scale)
    pixels = source.read_small(shape_px)
    valid_HW = pixels.valid_HW
    if aoi is not None:
        shapes = shapely.transform(shapely.from_wkb(list(aoi.wkb)), lambda xy_N2: xy_N2 / scale)
        valid_HW = valid_HW & make_polygons(shapes, shape_px).mask(pixels.window)
    return SamplePart(raw_BHW=pixels.raw_BHW, valid_HW=valid_HW, outer_edges=(True, True, True, True))


def _read_window(source: RasterSource, window: Window, aoi: Polygons | None) -> SamplePart:
    pixels, (high, wide) = source.read_once(window), source.raster.shape_px
    rows, cols = window.rows, window.cols
    return SamplePart(
        raw_BHW=pixels.raw_BHW,
        valid_HW=pixels.valid_HW if aoi is None else pixels.valid_HW & aoi.mask(window),
        outer_edges=(rows.start == 0, rows.stop == high, cols.start == 0, cols.stop == wide),
    )


def _choose_windows(raster: RasterFile, limit_px: int) -> Iterator[Window]:
    num, (high, wide) = GRID_REMOTE if is_remote(raster.url) else GRID_LOCAL, raster.shape_px
    side_px = min(WINDOW_PX, math.isqrt(limit_px // num**2))
    rows_px = min(side_px, max(1, STRIPED_PX // (num * wide))) if raster.layout == "striped" else side_px
    block_rows_px, block_cols_px = raster.block_px
    for top in _space(high, rows_px, num, block_rows_px):
        for left in _space(wide, side_px, num, block_cols_px):
            yield Window.of(top, min(high, top + rows_px), left, min(wide, left + side_px))


def _space(size_px: int, window_px: int, num: int, block_px: int) -> list[int]:
    """Space windows evenly from one end to the other, each in one row or column of blocks where blocks are close."""
    *starts, last = (int(start) for start in np.linspace(0, max(0, size_px - window_px), num))
    snap_px = block_px if window_px <= block_px <= size_px // num else 1
    return sorted({*(start - start % snap_px for start in starts), last})
