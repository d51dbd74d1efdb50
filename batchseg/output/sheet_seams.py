"""Seams of a map, counted sheet by sheet.

Theory of operation
-------------------
The worker that makes a sheet sees all its pixels, a stripe of rows at a time, and counts the borders inside it. Neither
of two sheets sees the border between them. So each keeps its outermost rows and columns in its record, compressed, and
the report counts the seams where two sheets meet. Counts add up: a map in sheets has the seams of the same map in one
piece.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Sequence
from dataclasses import astuple, dataclass, field
from typing import Any
from zlib import compress, decompress

import numpy as np
from numpy.typing import NDArray

from batchseg.ledger.records import Edges, Seams, SheetRecord
from tiling.seams import SeamCount, count_seams, count_tier_seams
from tiling.span import Span, Window

Line = tuple[NDArray[Any], NDArray[Any]]
"""Labels and tiers of one row or column of pixels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MapCut:
    """Lines along which a map was cut, and seams are counted."""

    core_px: int
    chunk_px: int
    nodata: int
    """Code of pixels without a label, which count nowhere."""

    def count(self, labels: NDArray[Any], tiers: NDArray[Any], rows: Span) -> SeamCounts:
        """Count along lines between rows. Transposed arrays give the lines between columns."""
        common = {"core_px": self.core_px, "nodata": self.nodata}
        between, same = count_tier_seams(labels, tiers, rows, **common)
        return SeamCounts(
            tile=count_seams(labels, rows, step_px=self.core_px, **common),
            chunk=count_seams(labels, rows, step_px=self.chunk_px, **common),
            tier=between,
            same_tier=same,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SeamCounts:
    """Seams between tiles, between chunks, between tiles of different tiers, and between tiles of the same tier."""

    tile: SeamCount = field(default_factory=SeamCount)
    chunk: SeamCount = field(default_factory=SeamCount)
    tier: SeamCount = field(default_factory=SeamCount)
    same_tier: SeamCount = field(default_factory=SeamCount)

    def __add__(self, other: SeamCounts) -> SeamCounts:
        return SeamCounts(
            tile=self.tile + other.tile,
            chunk=self.chunk + other.chunk,
            tier=self.tier + other.tier,
            same_tier=self.same_tier + other.same_tier,
        )

    @classmethod
    def from_seams(cls, seams: Seams) -> SeamCounts:
        return cls(
            tile=SeamCount(*seams.tile),
            chunk=SeamCount(*seams.chunk),
            tier=SeamCount(*seams.tier),
            same_tier=SeamCount(*seams.same_tier),
        )

    def to_seams(self) -> Seams:
        tile, chunk, tier, same_tier = map(astuple, (self.tile, self.chunk, self.tier, self.same_tier))
        return Seams(tile=tile, chunk=chunk, tier=tier, same_tier=same_tier)


@dataclass(slots=True)
class SeamCounter:
    """Counts the seams of one sheet from its stripes of rows, top to bottom. Keeps the last row for the next stripe."""

    cut: MapCut
    window: Window
    counts: SeamCounts = field(default_factory=SeamCounts)
    _top: Line | None = None
    _last: Line | None = None
    _sides: list[tuple[Line, Line]] = field(default_factory=list)

    def add(self, labels_HW: NDArray[Any], tiers_HW: NDArray[Any], rows: Span) -> None:
        self.counts += self.cut.count(labels_HW.T, tiers_HW.T, self.window.cols)
        if self._last is not None:
            # The line between two stripes is counted alone, because stripes are large and must not be copied.
            self.counts += _count_across(self._last, (labels_HW[0], tiers_HW[0]), rows.start, self.cut)
        self.counts += self.cut.count(labels_HW, tiers_HW, rows)
        self._last = labels_HW[-1].copy(), tiers_HW[-1].copy()
        self._top = self._top or (labels_HW[0].copy(), tiers_HW[0].copy())
        left, right = ((labels_HW[:, col].copy(), tiers_HW[:, col].copy()) for col in (0, -1))
        self._sides.append((left, right))

    def pack_edges(self) -> Edges:
        """The outermost rows and columns of the sheet, after its last stripe."""
        assert self._top is not None, "a sheet must have rows"
        assert self._last is not None, "a sheet must have rows"
        left, right = (_join_lines([stripe[side] for stripe in self._sides]) for side in (0, 1))
        return Edges(
            top=_pack_line(self._top), bottom=_pack_line(self._last), left=_pack_line(left), right=_pack_line(right)
        )


def count_seams_between(sheets: Sequence[SheetRecord], cut: MapCut, *, sheet_px: int) -> SeamCounts:
    """Count the seams where the sheets of one scene meet.

    Args:
        sheets: The records of the sheets.
        cut: Where the map was cut.
        sheet_px: The side of a sheet.
    """
    edges_of = {(sheet.key.row, sheet.key.col): sheet.edges for sheet in sheets}
    counts = SeamCounts()
    for (row, col), edges in edges_of.items():
        right, below = edges_of.get((row, col + 1)), edges_of.get((row + 1, col))
        if edges is not None and right is not None:
            counts += _count_across(_unpack_line(edges.right), _unpack_line(right.left), (col + 1) * sheet_px, cut)
        if edges is not None and below is not None:
            counts += _count_across(_unpack_line(edges.bottom), _unpack_line(below.top), (row + 1) * sheet_px, cut)
    return counts


def _count_across(before: Line, after: Line, line_px: int, cut: MapCut) -> SeamCounts:
    labels, tiers = (np.stack(pair) for pair in zip(before, after, strict=True))
    return cut.count(labels, tiers, Span(line_px - 1, line_px + 1))


def _join_lines(lines: Sequence[Line]) -> Line:
    labels, tiers = zip(*lines, strict=True)
    return np.concatenate(labels), np.concatenate(tiers)


def _pack_line(line: Line) -> str:
    labels, tiers = line
    return b64encode(compress(labels.astype("<u2").tobytes() + tiers.astype("<u2").tobytes())).decode()


def _unpack_line(text: str) -> Line:
    labels, tiers = np.frombuffer(decompress(b64decode(text)), "<u2").reshape(2, -1)
    return labels, tiers.astype(np.uint8)
