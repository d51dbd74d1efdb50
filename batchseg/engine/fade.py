"""How the labels of a heavy tile give way to the bulk model's at its edges.

Theory of operation
-------------------
Two models draw one road with two widths. Where a heavy tile meets a bulk one, all that they do not agree on would end
in a straight line, which is what an eye sees first. So near its edges a heavy tile has the labels of both, and a pixel
keeps the bulk model's unless the heavy one is surer by a margin: half of all confidence at the edge, nothing in the
middle of the fade, minus a half at its end. Where both say the same, nothing is decided. The edge itself is then what
the bulk model says on either side of it, and the change from one model to the other is spread over the fade and
follows the ground.

What a tile gives remains its own (invariant I2): an edge fades by its place alone, whatever a model says of the
neighbour. It does not where the scene ends, nor between two tiles that are both heavy by their place. And ground that
asked for the heavy model is *firm*: inside priority polygons every pixel keeps the heavy label, and only what else
their tiles cover fades.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from batchseg.engine.route import CERTAIN

_NO_MARGIN = np.iinfo(np.int16).min
"""Less than any difference of two codes times 2 x the widest fade that a recipe may ask for, 64 px."""

Edges = tuple[bool, bool, bool, bool]
"""Which edges of a tile fade: top, bottom, left and right."""


@dataclass(frozen=True, slots=True)
class Fade:
    """How the tiles of one chunk fade, should they be heavy."""

    width_px: int
    edges: tuple[Edges, ...]
    """A tile each."""
    firm_HW: NDArray[np.bool_] | None = None
    """The chunk's pixels that keep the heavy model's labels; None: none of them."""

    def touches(self, index: int) -> bool:
        """Whether a heavy tile needs the bulk model's labels at all."""
        return any(self.edges[index])

    def bulk_stays(
        self, index: int, owned: tuple[slice, slice], bulk_HW: NDArray[np.uint8], heavy_HW: NDArray[np.uint8]
    ) -> NDArray[np.bool_]:
        """Where a heavy tile has the bulk model's labels, by the confidence of both on what it owns of the chunk."""
        stays_HW = bulk_stays(bulk_HW, heavy_HW, edges=self.edges[index], fade_px=self.width_px)
        return stays_HW if self.firm_HW is None else stays_HW & ~self.firm_HW[owned]


def fading_edges(row: int, col: int, *, lattice: tuple[int, int], firm: Container[tuple[int, int]]) -> Edges:
    """Of one tile, by the size of its lattice and the tiles that are heavy by their place."""
    is_firm = (row, col) in firm
    neighbours = ((row - 1, col), (row + 1, col), (row, col - 1), (row, col + 1))
    top, bottom, left, right = (
        0 <= at[0] < lattice[0] and 0 <= at[1] < lattice[1] and not (is_firm and at in firm) for at in neighbours
    )
    return top, bottom, left, right


def bulk_stays(
    bulk_HW: NDArray[np.uint8], heavy_HW: NDArray[np.uint8], *, edges: Edges, fade_px: int
) -> NDArray[np.bool_]:
    """Where a tile keeps the bulk model's labels, by the confidence codes of both models."""
    surer_HW = heavy_HW.astype(np.int16) - bulk_HW
    stays_HW: NDArray[np.bool_] = surer_HW * np.int16(2 * fade_px) < _margins(bulk_HW.shape, edges, fade_px)
    return stays_HW


@lru_cache(maxsize=4)  # of large tiles these are many megabytes; most tiles have neighbours all around
def _margins(shape_px: tuple[int, int], edges: Edges, fade_px: int) -> NDArray[np.int16]:
    """By how much the heavy model has to be surer, times 2 x `fade_px`."""
    top, bottom, left, right = edges
    deep_HW = np.minimum.outer(_depths(shape_px[0], top, bottom, fade_px), _depths(shape_px[1], left, right, fade_px))
    margins_HW = np.where(deep_HW < fade_px, CERTAIN * (fade_px - 1 - 2 * deep_HW), _NO_MARGIN).astype(np.int16)
    margins_HW.setflags(write=False)
    return margins_HW


def _depths(size_px: int, first: bool, last: bool, fade_px: int) -> NDArray[np.int64]:  # noqa: FBT001
    """How many pixels lie between each and the nearest edge that fades; at least `fade_px` where none does."""
    steps, never = np.arange(size_px), np.full(size_px, fade_px)
    return np.minimum(steps if first else never, steps[::-1] if last else never)
