"""Finds large even patches of an extreme value: most often they are holes whose nodata value nobody declared.

Theory of operation
-------------------
A value is *extreme* when it is the lowest or the highest of the data type, zero, or a number that programs fill holes
with. In files of real numbers it is the lowest or the highest value of the sample instead. A patch is even when all
bands hold the value in a whole square. A patch at an edge of the scene may be narrower, like a collar.

Ground can be even too, and three things tell it from holes. Bright roofs are small: patches must be large, or cover a
good part of the sample. Snow, clouds and water are seldom even over a whole square. Where they are, because a program
has clipped the values, their shores come close to the extreme; a hole ends between one pixel and the next. The shore of
a collar, which reaches the edge of the scene, is not asked: a narrow one is all shore in a JPEG.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

LEAST_SHARES = ((0.5, 0.009), (1.0, 0.005), (2.0, 0.001))
"""Sizes of squares, in sides, each with the least share of the sample that such squares must cover. On real scenes,
saturated roofs cover less than a quarter of these shares; the smaller a square, the more of the scene it must cover."""
NEAR_SHARE = 0.04
"""Share of the range of values within which a pixel of the shore is close to the extreme. JPEG alone brings a third of
the shore of a hole that close; the shore of a clipped lake is close by three quarters."""
FILL_VALUES = (-9999.0, -32768.0)
"""Numbers that programs fill holes with, besides zero and the ends of the data type."""


Counts = NDArray[np.int64]
"""Pixels, by the sizes of squares in `LEAST_SHARES`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplePart:
    """One window of a sample of pixels."""

    raw_BHW: NDArray[Any]
    valid_HW: NDArray[np.bool_]
    outer_edges: tuple[bool, bool, bool, bool]
    """Flags of the top, bottom, left and right edge of the window: True where it is an edge of the scene."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtremePatches:
    """Even patches of one extreme value."""

    values: tuple[float, ...]
    """Value of each band."""
    share: float
    """Share of the valid pixels of the sample."""


def find_extreme_patches(parts: Sequence[SamplePart], dtypes: Sequence[str], side_px: int) -> list[ExtremePatches]:
    """Find the values whose patches look like holes, the most frequent first.

    Args:
        parts: The sample.
        dtypes: Data type of each band as the file stores it.
        side_px: Side of the squares that patches are made of; `LEAST_SHARES` has smaller and larger ones too.
    """
    valid_px = sum(int(part.valid_HW.sum()) for part in parts)
    if not valid_px:
        return []
    patches = []
    for values in _list_extremes(parts, dtypes):
        collar_px, inner_px, has_shore = _measure(parts, values, side_px)
        counted_px = collar_px if has_shore else collar_px + inner_px
        if any(num >= least * valid_px for num, (_, least) in zip(counted_px, LEAST_SHARES, strict=True)):
            patches.append(ExtremePatches(values=values, share=float(counted_px[0] / valid_px)))
    return sorted(patches, key=lambda patch: -patch.share)


def _list_extremes(parts: Sequence[SamplePart], dtypes: Sequence[str]) -> list[tuple[float, ...]]:
    """List the extreme values, each as one number per band."""
    lowest, highest = (
        tuple(_find_end(parts, band, np.dtype(dtype), end) for band, dtype in enumerate(dtypes))
        for end in (np.min, np.max)
    )
    same = [(value,) * len(dtypes) for value in (0.0, *FILL_VALUES)]
    return list(dict.fromkeys((lowest, highest, *same)))


def _find_end(parts: Sequence[SamplePart], band: int, dtype: np.dtype[Any], end: Any) -> float:
    """Find the lowest or highest value of a band: of its data type, or of the sample where it holds real numbers."""
    if dtype.kind != "f":
        info = np.iinfo(dtype)
        return float(end((info.min, info.max)))
    return float(end([end(part.raw_BHW[band][part.valid_HW]) for part in parts if part.valid_HW.any()]))


def _measure(parts: Sequence[SamplePart], values: tuple[float, ...], side_px: int) -> tuple[Counts, Counts, bool]:
    """Count the pixels in squares of each size: in collars, and elsewhere.

    The third result is whether most of the shore of the patches that are no collars is close to the value.
    """
    sizes_px = [max(2, int(side_px * size)) for size, _ in LEAST_SHARES]
    collar_px, inner_px = np.zeros(len(sizes_px), np.int64), np.zeros(len(sizes_px), np.int64)
    shore_px, near_px, near_B1 = 0, 0, None
    for part in parts:
        held_HW = part.valid_HW & _hold(part.raw_BHW, values)
        if not held_HW.any():
            continue
        collar_HW = _find_collar(held_HW, part.outer_edges)
        squares = [_open(held_HW, size_px, part.outer_edges) for size_px in sizes_px]
        collar_px += [int((square_HW & collar_HW).sum()) for square_HW in squares]
        inner_px += [int((square_HW & ~collar_HW).sum()) for square_HW in squares]
        patch_HW, reach_px = squares[0] & ~collar_HW, sizes_px[0]
        if not patch_HW.any():
            continue
        near_B1 = _choose_tolerance(parts, values) if near_B1 is None else near_B1
        shore_HW = _grow(patch_HW, 2 * reach_px)[reach_px:-reach_px, reach_px:-reach_px] & part.valid_HW & ~held_HW
        distance_BN = part.raw_BHW[:, shore_HW].astype(np.float64) - np.array(values)[:, np.newaxis]
        shore_px += distance_BN.shape[1]
        near_px += int((np.abs(distance_BN) <= near_B1).all(axis=0).sum())
    return collar_px, inner_px, 2 * near_px > shore_px


def _find_collar(held_HW: NDArray[np.bool_], outer_edges: tuple[bool, bool, bool, bool]) -> NDArray[np.bool_]:
    """Find the held pixels with nothing but held pixels between them and an edge of the scene, up or down or across."""
    collar_HW = np.zeros(held_HW.shape, bool)
    flips = (slice(None), slice(None, None, -1))
    for is_outer, (axis, flip) in zip(outer_edges, ((axis, flip) for axis in (0, 1) for flip in flips), strict=True):
        if is_outer:
            at = (flip, slice(None)) if axis == 0 else (slice(None), flip)
            collar_HW[at] |= np.logical_and.accumulate(held_HW[at], axis=axis)
    return collar_HW


def _hold(raw_BHW: NDArray[Any], values: tuple[float, ...]) -> NDArray[np.bool_]:
    held_HW = np.asarray(raw_BHW[0] == values[0])
    for raw_HW, value in zip(raw_BHW[1:], values[1:], strict=True):
        if not held_HW.any():
            break
        held_HW &= raw_HW == value
    return held_HW


def _choose_tolerance(parts: Sequence[SamplePart], values: tuple[float, ...]) -> NDArray[np.float64]:
    """Choose the distance per band within which a value is close: a share of the range that the ground has."""
    ranges = []
    for band, value in enumerate(values):
        ground = [part.raw_BHW[band][part.valid_HW & (part.raw_BHW[band] != value)] for part in parts]
        ends = [(float(one.min()), float(one.max())) for one in ground if one.size]
        ranges.append(max(high for _, high in ends) - min(low for low, _ in ends) if ends else 0.0)
    return NEAR_SHARE * np.array(ranges)[:, np.newaxis]


def _open(held_HW: NDArray[np.bool_], side_px: int, outer_edges: tuple[bool, bool, bool, bool]) -> NDArray[np.bool_]:
    """Keep the pixels that lie in a square of held pixels; the ground beyond the scene counts as held."""
    top, bottom, left, right = (side_px if is_outer else 0 for is_outer in outer_edges)
    padded_HW = np.pad(held_HW, ((top, bottom), (left, right)), constant_values=True)
    high, wide = padded_HW.shape
    if high < side_px or wide < side_px:
        return np.zeros(held_HW.shape, bool)
    kept_HW = _grow(_find_full_squares(padded_HW, side_px), side_px - 1)
    return kept_HW[top : high - bottom, left : wide - right]


def _grow(mask_HW: NDArray[np.bool_], margin_px: int) -> NDArray[np.bool_]:
    """Find the squares of `margin_px + 1` that hold a pixel of the mask, also those that reach out of it."""
    return ~_find_full_squares(~np.pad(mask_HW, margin_px), margin_px + 1)


def _find_full_squares(mask_HW: NDArray[np.bool_], side_px: int) -> NDArray[np.bool_]:
    """Find the squares in which every pixel is set, by their first pixel. Each step doubles the reach."""
    reach_px = 1
    while reach_px < side_px:
        step_px = min(reach_px, side_px - reach_px)
        mask_HW = mask_HW[step_px:] & mask_HW[:-step_px]
        mask_HW = mask_HW[:, step_px:] & mask_HW[:, :-step_px]
        reach_px += step_px
    return mask_HW
