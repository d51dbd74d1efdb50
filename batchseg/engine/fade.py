"""The labels of a heavy tile give way to the bulk model's labels at its edges.

Theory of operation
-------------------
Two models draw one road with two widths. Where a heavy tile meets a bulk tile, everything that the models disagree on
would end in a straight line, which is what an eye sees first. So near its edges a heavy tile has the labels of both
models. A pixel keeps the bulk model's label unless the heavy model is more confident by a margin. The margin is half of
the full confidence at the edge, zero in the middle of the fade, and minus one half at its end. Where both models agree,
nothing has to be decided. So the edge itself shows the bulk model's labels on both sides, and the change from one model
to the other is spread over the fade and follows the ground.

A tile's result remains its own (invariant I2): an edge fades because of its place alone, whatever a model says of the
neighbour. An edge does not fade at the border of the scene, nor between two tiles that are both heavy by their place.
Ground that the user asked the heavy model for is *firm*: inside priority polygons every pixel keeps the heavy label,
and only the rest of the polygons' tiles fades.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from batchseg.layers.confidence import CERTAIN

_NO_MARGIN = np.iinfo(np.int16).min
"""Less than any difference of two confidences times 2 x the widest fade that a recipe may ask for, 64 px."""

Edges = tuple[bool, bool, bool, bool]
"""Flags of a tile's edges that fade: top, bottom, left and right."""


@dataclass(frozen=True, slots=True)
class Fade:
    """Fades of the tiles of one chunk, if they are heavy."""

    width_px: int
    edges: tuple[Edges, ...]
    """Fading edges, one entry per tile of the chunk."""
    firm_HW: NDArray[np.bool_] | None = None
    """Pixels of the chunk that keep the heavy model's labels; None: there are none."""

    def touches(self, index: int) -> bool:
        """Test if a tile, if it is heavy, needs the bulk model's labels at all."""
        return any(self.edges[index])

    def find_bulk_pixels(
        self, index: int, owned: tuple[slice, slice], bulk_HW: NDArray[np.uint8], heavy_HW: NDArray[np.uint8]
    ) -> NDArray[np.bool_]:
        """Find where a heavy tile keeps the bulk model's labels.

        Args:
            index: Position of the tile in the chunk.
            owned: The tile's own pixels in the chunk.
            bulk_HW: Confidences of the bulk model on these pixels.
            heavy_HW: Confidences of the heavy model on these pixels.
        """
        is_bulk_HW = find_bulk_pixels(bulk_HW, heavy_HW, edges=self.edges[index], fade_px=self.width_px)
        return is_bulk_HW if self.firm_HW is None else is_bulk_HW & ~self.firm_HW[owned]


def find_fading_edges(row: int, col: int, *, lattice: tuple[int, int], firm: Container[tuple[int, int]]) -> Edges:
    """Find the edges of a tile that fade.

    Args:
        row: Row of the tile in the lattice.
        col: Column of the tile in the lattice.
        lattice: Numbers of rows and columns of the lattice.
        firm: Tiles that are heavy by their place.
    """
    is_firm = (row, col) in firm
    neighbours = ((row - 1, col), (row + 1, col), (row, col - 1), (row, col + 1))
    top, bottom, left, right = (
        0 <= at[0] < lattice[0] and 0 <= at[1] < lattice[1] and not (is_firm and at in firm) for at in neighbours
    )
    return top, bottom, left, right


def find_bulk_pixels(
    bulk_HW: NDArray[np.uint8], heavy_HW: NDArray[np.uint8], *, edges: Edges, fade_px: int
) -> NDArray[np.bool_]:
    """Find where a heavy tile keeps the bulk model's labels, from the confidences of both models."""
    lead_HW = heavy_HW.astype(np.int16) - bulk_HW
    is_bulk_HW: NDArray[np.bool_] = lead_HW * np.int16(2 * fade_px) < _make_margins(bulk_HW.shape, edges, fade_px)
    return is_bulk_HW


@lru_cache(maxsize=4)  # margins of large tiles take many megabytes; most tiles have neighbours all around
def _make_margins(shape_px: tuple[int, int], edges: Edges, fade_px: int) -> NDArray[np.int16]:
    """Make the lead that the heavy model needs at each pixel, times 2 x `fade_px`."""
    top, bottom, left, right = edges
    rows, cols = _make_depths(shape_px[0], top, bottom, fade_px), _make_depths(shape_px[1], left, right, fade_px)
    depth_HW = np.minimum.outer(rows, cols)
    margins_HW = np.where(depth_HW < fade_px, CERTAIN * (fade_px - 1 - 2 * depth_HW), _NO_MARGIN).astype(np.int16)
    margins_HW.setflags(write=False)
    return margins_HW


def _make_depths(size_px: int, first: bool, last: bool, fade_px: int) -> NDArray[np.int64]:  # noqa: FBT001
    """Make the distance of each row or column from the nearest fading edge; at least `fade_px` where none fades."""
    steps, never = np.arange(size_px), np.full(size_px, fade_px)
    return np.minimum(steps if first else never, steps[::-1] if last else never)
