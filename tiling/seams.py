"""Seam score: do labels change at borders more often than elsewhere?

The rate of label transitions across the border lines of a grid, over the rate across parallel lines half a core away.
1.00 means that the borders cannot be seen. Counts add up, so each stripe of a scene is counted on its own, and the
report adds them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tiling.span import Span

Labels = NDArray[np.uint8] | NDArray[np.uint16]


@dataclass(frozen=True, slots=True)
class SeamCount:
    """Transitions and compared pixel pairs, on border lines and on lines half a core away."""

    border_changes: int = 0
    border_pairs: int = 0
    inner_changes: int = 0
    inner_pairs: int = 0

    def __add__(self, other: SeamCount) -> SeamCount:
        return SeamCount(
            self.border_changes + other.border_changes,
            self.border_pairs + other.border_pairs,
            self.inner_changes + other.inner_changes,
            self.inner_pairs + other.inner_pairs,
        )

    @property
    def score(self) -> float | None:
        """None where there is nothing to compare: no pairs, or no change anywhere.

        Where labels change at borders and nowhere else, one change elsewhere is assumed, so the score is a lower
        bound: the worst seams must not look like none.
        """
        if not (self.border_pairs and self.inner_pairs and (self.border_changes or self.inner_changes)):
            return None
        return (self.border_changes / self.border_pairs) / (max(1, self.inner_changes) / self.inner_pairs)


def _line_pairs(labels: Labels, lines: NDArray[np.intp], nodata: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """For each line between rows `line - 1` and `line`: which pairs change, and which count at all."""
    above, below = labels[lines - 1], labels[lines]
    valid = (above != nodata) & (below != nodata)
    return (above != below) & valid, valid


def _lines(rows: Span, step_px: int, shift_px: int) -> NDArray[np.intp]:
    """Lines at k * step + shift whose both sides lie in `rows`, relative to its start."""
    first = -(-(rows.start + 1 - shift_px) // step_px) * step_px + shift_px
    return np.arange(first, rows.stop, step_px, dtype=np.intp) - rows.start


def count_seams(labels: Labels, rows: Span, *, step_px: int, core_px: int, nodata: int) -> SeamCount:
    """Count the lines between rows of an array that holds the rows `rows`; give the transpose to count columns.

    Borders that are far apart are compared with the lines on both of their sides, so that one line with more to see
    than another does not look like a seam.
    """
    inner = {core_px // 2} if step_px == core_px else {core_px // 2, step_px - core_px // 2}
    sums = []
    for shifts in ({0}, inner):
        lines = np.concatenate([_lines(rows, step_px, shift) for shift in sorted(shifts)])
        changes, pairs = _line_pairs(labels, lines, nodata)
        sums += [int(changes.sum()), int(pairs.sum())]
    return SeamCount(*sums)


def count_tier_seams(
    labels: Labels, tiers: NDArray[np.uint8], rows: Span, *, core_px: int, nodata: int
) -> tuple[SeamCount, SeamCount]:
    """Core borders between two tiers, and between two tiles of one tier; each against lines half a core away.

    `tiers` holds one tier a pixel. The lines half a core away lie inside one tile, so they serve both counts.
    """
    lines = _lines(rows, core_px, 0)
    changes, pairs = _line_pairs(labels, lines, nodata)
    differs = tiers[lines - 1] != tiers[lines]
    inner_changes, inner_pairs = _line_pairs(labels, _lines(rows, core_px, core_px // 2), nodata)
    inner = (int(inner_changes.sum()), int(inner_pairs.sum()))
    between = SeamCount(int((changes & differs).sum()), int((pairs & differs).sum()), *inner)
    same = SeamCount(int((changes & ~differs).sum()), int((pairs & ~differs).sum()), *inner)
    return between, same
