"""Cuts of a scene for its outputs: into the sheets of its GeoTIFFs, and into the levels of its Zarr.

Theory of operation
-------------------
A scene of up to `limit_px` on each side is one sheet. A longer scene is cut into squares of `sheet_px`, a whole number
of chunks, so that a sheet waits for its own chunks only and is made in bounded memory. The coarser levels of the Zarr
are the overviews of the sheets, laid side by side: level n halves level n - 1 by the same votes and averages. For
levels without seams, the side of a sheet must be divisible by 2^n. For one writer per stored object, its side at level
n must be a whole number of stored chunks. The choice of `sheet_px` and of the number of levels ensures both.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from batchseg.output.overview import list_level_sizes_px
from tiling.grid import Grid, stored_chunk_px

BLOCK_PX = 512
"""Side of a GeoTIFF block. The last level is no longer than this, as far as the cut allows it."""
STORED_LIMIT_PX = 2048
"""Longest side of a stored chunk of a coarser level."""


@dataclass(frozen=True, slots=True)
class ZarrLevel:
    """One coarser level of the Zarr. Level 0, full resolution, is not a `ZarrLevel`."""

    number: int
    shape_px: tuple[int, int]
    stored_px: int

    @property
    def stored_grid(self) -> Grid:
        return Grid(self.shape_px, self.stored_px)


def choose_sheet_side_px(shape_px: tuple[int, int], chunk_px: int, *, limit_px: int) -> int:
    """Choose the side of the sheets of a scene. If one sheet holds the scene, it is the longer side of the scene."""
    if max(shape_px) <= limit_px:
        return max(shape_px)
    # Prefer a multiple of 2^k, so that the overviews of neighbouring sheets fit together k times.
    even_px = math.lcm(chunk_px, 2 ** max(0, math.ceil(math.log2(limit_px / BLOCK_PX))))
    unit_px = even_px if even_px <= limit_px else chunk_px
    return max(1, limit_px // unit_px) * unit_px


def choose_zarr_levels(shape_px: tuple[int, int], sheet_px: int) -> tuple[ZarrLevel, ...]:
    """Choose the coarser levels of the Zarr of a scene, finest first."""
    one_sheet = max(shape_px) <= sheet_px
    num_levels = len(list_level_sizes_px(*map(min, shape_px, (sheet_px, sheet_px)), largest_px=BLOCK_PX)) - 1
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
