"""Overviews: one block becomes a quarter of its size, by vote for classes and by average for measures.

Both work on squares of whole 2 x 2 cells, so each cell of a coarser level is a function of its four pixels alone,
whatever block or stripe it came in. Nodata never counts against a valid pixel: the result is nodata only where all four
pixels are. A cell at the right or lower edge of an odd grid has nodata in place of its missing pixels.

    a b     vote:     the most frequent valid code; of equally frequent codes the first in the order a, b, c, d
    c d     average:  of the valid pixels, halves rounded up
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[Any]
"""Array of unsigned codes of 8 or 16 bits."""


def list_level_sizes_px(
    width_px: int, height_px: int, *, largest_px: int, num_overviews: int = 0
) -> list[tuple[int, int]]:
    """List the width and height of every level, full resolution first, until the longer side fits into `largest_px`.

    There are at least `num_overviews` besides full resolution, because sheets at the edge of a scene must have as many
    as all others.
    """
    sizes = [(width_px, height_px)]
    while max(sizes[-1]) > largest_px or len(sizes) <= num_overviews:
        width_px, height_px = sizes[-1]
        sizes.append(((width_px + 1) // 2, (height_px + 1) // 2))
    return sizes


def halve_classes(block_HW: Pixels, nodata: int) -> Pixels:
    """Take the vote of each 2 x 2 cell."""
    a, b, c, d = _split_cells(block_HW)
    if (block_HW == nodata).any():
        return _vote_with_nodata(a, b, c, d, nodata)
    # A pixel that equals another one has at least two votes, and no later pixel can have more. So the first such pixel
    # wins, or a if there is none.
    winner = _choose(c == d, c, a)
    winner = _choose((b == c) | (b == d), b, winner)
    return _choose((a == b) | (a == c) | (a == d), a, winner)


def _vote_with_nodata(a: Pixels, b: Pixels, c: Pixels, d: Pixels, nodata: int) -> Pixels:
    valid_a, valid_b, valid_c = a != nodata, b != nodata, c != nodata
    first_valid = _choose(valid_a, a, _choose(valid_b, b, _choose(valid_c, c, d)))
    winner = _choose((c == d) & valid_c, c, first_valid)
    winner = _choose(((b == c) | (b == d)) & valid_b, b, winner)
    return _choose(((a == b) | (a == c) | (a == d)) & valid_a, a, winner)


def _choose(condition: NDArray[np.bool_], yes: Pixels, no: Pixels) -> Pixels:
    """Like `np.where`, in bit arithmetic, which is several times faster on small integers."""
    mask = np.negative(condition.view(np.uint8)).astype(yes.dtype, copy=False)
    if yes.dtype == np.uint16:
        mask |= mask << np.uint16(8)
    chosen: Pixels = no ^ ((no ^ yes) & mask)
    return chosen


def halve_measures(block_HW: Pixels, nodata: int) -> Pixels:
    """Average the valid pixels of each 2 x 2 cell."""
    wide: np.dtype[Any] = np.dtype(np.uint16 if block_HW.dtype == np.uint8 else np.uint32)
    cells = _split_cells(block_HW)
    if (block_HW == nodata).any():
        return _average_with_nodata(cells, nodata, wide)
    total = cells[0].astype(wide)
    for cell in cells[1:]:
        total += cell
    total += 2
    total >>= 2
    return total.astype(block_HW.dtype)


def _average_with_nodata(cells: list[Pixels], nodata: int, wide: np.dtype[Any]) -> Pixels:
    total = np.zeros(cells[0].shape, wide)
    num_valid = np.zeros(cells[0].shape, wide)
    for cell in cells:
        valid = cell != nodata
        total += cell * valid
        num_valid += valid
    average = (2 * total + num_valid) // np.maximum(2 * num_valid, 1)
    return np.where(num_valid > 0, average, nodata).astype(cells[0].dtype)


def _split_cells(block_HW: Pixels) -> list[Pixels]:
    """Split a block into the four pixels of its cells, as contiguous arrays: strided views would be half as fast."""
    corners = (block_HW[0::2, 0::2], block_HW[0::2, 1::2], block_HW[1::2, 0::2], block_HW[1::2, 1::2])
    return [np.ascontiguousarray(corner) for corner in corners]
