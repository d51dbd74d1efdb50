"""Do two maps say the same, away from where tiles of either meet?

At such places each participant does something else on purpose: one cuts, one blends, one shifts its last tile. So
pixels nearer than a halo to where a tile of either begins or ends are compared apart from the others; so are those
near the scene's own edge, beyond which one repeats and another reflects.
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


def away_from(edges_px: Iterable[int], size_px: int, margin_px: int) -> NDArray[np.bool_]:
    """Along one side: which pixels are `margin_px` or more from every edge."""
    away = np.ones(size_px, bool)
    for edge in edges_px:
        away[max(0, edge - margin_px) : max(0, edge + margin_px)] = False
    return away


def compare(ours: Path, theirs: Path, edges_px: Iterable[int], margin_px: int) -> Agreement:
    """Two maps of labels, of the same square scene."""
    with rasterio.open(ours) as a, rasterio.open(theirs) as b:
        if (a.shape, a.transform, a.crs) != (b.shape, b.transform, b.crs):
            raise ValueError(f"{theirs} lies elsewhere than {ours}")
        ours_HW, theirs_HW = a.read(1), b.read(1)
    away = away_from(edges_px, len(ours_HW), margin_px)
    away_HW = away[:, None] & away[None, :]
    same_HW = ours_HW == theirs_HW
    return Agreement(float(same_HW[away_HW].mean()), float(same_HW[~away_HW].mean()), int(away_HW.sum()))
