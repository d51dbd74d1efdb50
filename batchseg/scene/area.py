"""Measures the ground area of pixels on the Earth's ellipsoid, whatever the scene's coordinate system.

Theory of operation
-------------------
The scene is cut into square blocks, anchored at its first pixel, so that an area does not depend on how the scene is
cut into chunks. The four corners of a block, put on the ellipsoid in earth-centred coordinates, span a quadrilateral
whose area is half the cross product of its diagonals. No longitudes are involved, so the antimeridian and the
poles need no care. All pixels of a block count the same. A block is at most 32 px and at most 100 km wide, which keeps
the curvature inside it and the change of scale over it far below one in a thousand.

The area of a block off the Earth (beyond the disk of a geostationary view) is unknown. Valid pixels there make the area
of their window unknown (None), not zero.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batchseg.scene.georef import Georef
from batchseg.scene.place import NDArrayF, explain_missing_area, locate_corners_m
from tiling.grid import cells
from tiling.span import Span, Window

BLOCK_PX = 32
BLOCK_M = 100_000.0
FEW_CODES = 24
"""Largest number of codes that are counted by comparing pixels with each of them."""


def measure_valid_area_km2(georef: Georef, window: Window, valid_HW: NDArray[np.bool_]) -> float | None:
    """Measure the ground area of the valid pixels of a window; None where it is unknown."""
    areas_km2 = measure_class_areas_km2(georef, window, (~valid_HW).view(np.uint8), num_classes=1)
    return None if areas_km2 is None else areas_km2[0]


def measure_class_areas_km2(
    georef: Georef, window: Window, labels_HW: NDArray[Any], *, num_classes: int
) -> tuple[float, ...] | None:
    """Measure the ground area of each class 0, 1, …; labels from `num_classes` on are no class."""
    return measure_classes(georef, window, [(window, labels_HW)], codes=range(num_classes))[1]


def measure_classes(
    georef: Georef, window: Window, parts: Sequence[tuple[Window, NDArray[Any]]], *, codes: Sequence[int]
) -> tuple[tuple[int, ...], tuple[float, ...] | None]:
    """Count the pixels of some codes in a window, and measure their ground area.

    The sums run over all blocks of the window in one order, so they do not depend on how it is cut into parts.

    Args:
        georef: Grid of the scene.
        window: The window.
        parts: Parts of the window with their labels; outside of all parts no pixel has one of the codes.
        codes: The codes.

    Returns:
        Number of pixels of each code, and ground area in km² of each code; None where the area is unknown.
    """
    is_placed = explain_missing_area(georef) is None
    block_px = _choose_block_px(georef) if is_placed else BLOCK_PX
    rows, cols = cells(window.rows, block_px), cells(window.cols, block_px)
    areas_m2 = _measure_pixels_m2(georef, window, block_px) if is_placed and parts else np.zeros((len(rows), len(cols)))
    class_px, sums_m2, is_known = np.zeros(len(codes), np.int64), np.zeros(len(codes)), is_placed
    for row, areas_C in zip(rows, areas_m2, strict=True):
        counts_CK = np.zeros((len(cols), len(codes)), np.int64)
        block_rows = Span(row * block_px, (row + 1) * block_px)
        for part, labels_HW in parts:
            if part.rows.meets(block_rows):
                first, of_part = cells(part.cols, block_px), labels_HW[part.rows.meet(block_rows).within(part.rows)]
                at = slice(first.start - cols.start, first.stop - cols.start)
                counts_CK[at] += _count(of_part, part.cols, block_px, codes)
        class_px += counts_CK.sum(axis=0)
        known_C = np.isfinite(areas_C)
        is_known = is_known and not counts_CK[~known_C].any()
        sums_m2 += areas_C[known_C] @ counts_CK[known_C]
    return tuple(class_px.tolist()), tuple((sums_m2 / 1e6).tolist()) if is_known else None


def _count(labels_hW: NDArray[Any], cols: Span, block_px: int, codes: Sequence[int]) -> NDArray[np.int64]:
    """Count the pixels of each code in each block of one row of blocks."""
    if len(codes) > FEW_CODES:
        return _count_many(labels_hW, cols, block_px, codes)
    first = cells(cols, block_px)
    begins_C = np.maximum(np.arange(first.start, first.stop) * block_px - cols.start, 0)
    counts_CK = np.empty((len(first), len(codes)), np.int64)
    found_hW = np.empty(labels_hW.shape, bool)
    for index, code in enumerate(codes):
        np.equal(labels_hW, code, out=found_hW)
        # A block is at most 32 rows high, so a column's count is a byte, and bytes are added many at once.
        column_W = np.add.reduce(found_hW.view(np.uint8), axis=0, dtype=np.uint8)
        counts_CK[:, index] = np.add.reduceat(column_W, begins_C, dtype=np.int64)
    return counts_CK


def _count_many(labels_hW: NDArray[Any], cols: Span, block_px: int, codes: Sequence[int]) -> NDArray[np.int64]:
    """Count in one pass over the pixels, which takes as long as some thirty comparisons."""
    num_codes = len(codes) + 1
    table = np.full(int(np.iinfo(labels_hW.dtype).max) + 1, len(codes), np.int64)
    table[list(codes)] = np.arange(len(codes))
    first = cells(cols, block_px)
    offsets_W = (np.arange(cols.start, cols.stop) // block_px - first.start) * num_codes
    counts = np.bincount((table[labels_hW] + offsets_W).ravel(), minlength=len(first) * num_codes)
    return counts.reshape(len(first), num_codes)[:, :-1]


def _measure_pixels_m2(georef: Georef, window: Window, block_px: int) -> NDArrayF:
    """Measure the mean area of one pixel in each block that a window touches."""
    rows, cols = cells(window.rows, block_px), cells(window.cols, block_px)
    corners = locate_corners_m(
        georef,
        np.arange(rows.start, rows.stop + 1, dtype=np.float64) * block_px,
        np.arange(cols.start, cols.stop + 1, dtype=np.float64) * block_px,
    )
    falling, rising = corners[1:, 1:] - corners[:-1, :-1], corners[1:, :-1] - corners[:-1, 1:]
    areas_m2: NDArrayF = np.linalg.norm(np.cross(falling, rising), axis=-1) / 2
    return areas_m2 / block_px**2


def measure_gross_area_km2(georef: Georef) -> float | None:
    """Measure the ground area of the whole grid, valid or not; None where it is unknown."""
    if explain_missing_area(georef) is not None:
        return None
    whole = Window.of(0, georef.height_px, 0, georef.width_px)
    block_px = max(32, -(-max(whole.shape) // 256))
    high_R, wide_C = (np.diff(np.minimum(np.arange(0, side + block_px, block_px), side)) for side in whole.shape)
    total_m2 = float(high_R @ _measure_pixels_m2(georef, whole, block_px) @ wide_C)
    return total_m2 / 1e6 if math.isfinite(total_m2) else None


def _choose_block_px(georef: Georef) -> int:
    """Choose the side of a block: a power of two, so that blocks end at the borders of chunks."""
    pixel_m = _centre_gsd_m(georef)
    if not math.isfinite(pixel_m) or pixel_m * BLOCK_PX <= BLOCK_M:
        return BLOCK_PX
    return 1 << max(0, math.floor(math.log2(BLOCK_M / pixel_m)))


def measure_gsd_m(georef: Georef) -> float | None:
    """Measure the ground sample distance: the side of a square with the area of the pixel at the scene's centre."""
    if explain_missing_area(georef) is not None:
        return None
    side_m = _centre_gsd_m(georef)
    return side_m if math.isfinite(side_m) else None


def _centre_gsd_m(georef: Georef) -> float:
    return _measure_centre_gsd_m(replace(georef, rpcs=None))  # a grid without them is hashable


@functools.lru_cache(maxsize=64)
def _measure_centre_gsd_m(georef: Georef) -> float:
    row, col = georef.height_px // 2, georef.width_px // 2
    return math.sqrt(float(_measure_pixels_m2(georef, Window.of(row, row + 1, col, col + 1), 1)[0, 0]))


def measure_pixel_area_range_m2(georef: Georef) -> tuple[float, float] | None:
    """Measure the smallest and the largest pixel of a scene, out of 33 x 33 pixels."""
    if explain_missing_area(georef) is not None:
        return None
    places = [_choose_places(size_px) for size_px in (georef.height_px, georef.width_px)]
    areas_m2 = [
        _measure_pixels_m2(georef, Window.of(row, row + 1, col, col + 1), 1)[0, 0]
        for row in places[0]
        for col in places[1]
    ]
    finite = [float(area) for area in areas_m2 if math.isfinite(area)]
    return (min(finite), max(finite)) if finite else None


def _choose_places(size_px: int) -> list[int]:
    return sorted({int(place) for place in np.linspace(0, size_px - 1, 33)})
