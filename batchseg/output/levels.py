"""How a scene is cut for its outputs: GeoTIFF sheets, and the levels of the Zarr that are made with them.

Theory of operation
-------------------
A scene up to `limit_px` a side is one sheet. A longer one is cut into squares of `sheet_px`, a whole number of chunks,
so that a sheet waits for chunks of its own only and is made in bounded memory. The Zarr's coarser levels are the
overviews of the sheets, laid side by side: level n halves level n - 1 by the same votes and averages. For that to be
seamless a sheet's side must be divisible by 2^n, and for each stored object to have one writer its side at level n must
be a whole number of stored chunks. Both are arranged here, by the choice of `sheet_px` and of the number of levels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from batchseg.output.overview import list_level_sizes_px
from tiling.grid import Grid, stored_chunk_px

BLOCK_PX = 512
"""Side of a GeoTIFF block; the last level is no longer than this, as far as it can be."""
STORED_LIMIT_PX = 2048


@dataclass(frozen=True, slots=True)
class ZarrLevel:
    """One coarser level of the Zarr; level 0, the chunks' own, is not among them."""

    number: int
    shape_px: tuple[int, int]
    stored_px: int

    @property
    def stored_grid(self) -> Grid:
        return Grid(self.shape_px, self.stored_px)


def choose_sheet_side_px(shape_px: tuple[int, int], chunk_px: int, *, limit_px: int) -> int:
    """The side of the sheets of a scene: the longer side of the scene, where one sheet holds it."""
    if max(shape_px) <= limit_px:
        return max(shape_px)
    # A multiple of 2^k first, so that overviews of neighbouring sheets fit together k times.
    even_px = math.lcm(chunk_px, 2 ** max(0, math.ceil(math.log2(limit_px / BLOCK_PX))))
    unit_px = even_px if even_px <= limit_px else chunk_px
    return max(1, limit_px // unit_px) * unit_px


def choose_zarr_levels(shape_px: tuple[int, int], sheet_px: int) -> tuple[ZarrLevel, ...]:
    """All coarser levels, finest first."""
    one_sheet = max(shape_px) <= sheet_px
    num_levels = len(list_level_sizes_px(*_of_sheet(shape_px, sheet_px), largest_px=BLOCK_PX)) - 1
    if not one_sheet:
        num_levels = min(num_levels, (sheet_px & -sheet_px).bit_length() - 1)
    levels, (high, wide) = [], shape_px
    for number in range(1, num_levels + 1):
        high, wide = (high + 1) // 2, (wide + 1) // 2
        if one_sheet:
            stored_px = min(STORED_LIMIT_PX, -(-max(high, wide) // BLOCK_PX) * BLOCK_PX)
        else:
            stored_px = stored_chunk_px(sheet_px >> number, STORED_LIMIT_PX)
        levels.append(ZarrLevel(number, (high, wide), stored_px))
    return tuple(levels)


def _of_sheet(shape_px: tuple[int, int], sheet_px: int) -> tuple[int, int]:
    return min(shape_px[0], sheet_px), min(shape_px[1], sheet_px)
