"""The agreement of two maps, away from the borders of the tiles of either.

Participants differ there on purpose: one cuts, one blends, one shifts its last tile. Pixels that are nearer than a halo
to the border of a tile of either map are therefore compared apart from the others. So are pixels near the edge of the
scene, beyond which one participant repeats pixels and another reflects them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Agreement:
    away: float
    """Share of equal pixels away from the borders of tiles."""
    near: float
    away_px: int


def mark_away(edges_px: Iterable[int], size_px: int, margin_px: int) -> NDArray[np.bool_]:
    """Mark the pixels along one side that are `margin_px` or more from every edge."""
    away = np.ones(size_px, bool)
    for edge in edges_px:
        away[max(0, edge - margin_px) : max(0, edge + margin_px)] = False
    return away


def compare_maps(ours: Path, theirs: Path, edges_px: Iterable[int], margin_px: int) -> Agreement:
    """Compare two maps of labels of the same square scene."""
    with rasterio.open(ours) as a, rasterio.open(theirs) as b:
        if (a.shape, a.transform, a.crs) != (b.shape, b.transform, b.crs):
            raise ValueError(f"{theirs} must have the grid of {ours}")
        ours_HW, theirs_HW = a.read(1), b.read(1)
    away = mark_away(edges_px, len(ours_HW), margin_px)
    away_HW = away[:, None] & away[None, :]
    same_HW = ours_HW == theirs_HW
    return Agreement(float(same_HW[away_HW].mean()), float(same_HW[~away_HW].mean()), int(away_HW.sum()))
