"""Writes the coarser levels of the Zarr over one sheet: the rows of its GeoTIFF's overviews, as stored chunks.

Theory of operation
-------------------
The GeoTIFF's writer passes on the finished rows of each overview. A level collects rows until a row of stored chunks is
full, and then puts them on a few threads. So a level holds the height of one stored chunk, and all levels together hold
about as much as one row of stored chunks of the scene.
"""

from __future__ import annotations

from concurrent.futures import Executor, Future, wait
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batchseg.layers.layer import Layer
from batchseg.ledger.records import StoredObject
from batchseg.output.levels import ZarrLevel
from batchseg.output.stored import ZarrLayout, put_stored
from batchseg.store import Store
from tiling.span import Span, Window


@dataclass(slots=True)
class LevelWriter:
    """Takes the rows of the overviews of one layer, as a `pyramid.OverviewRows`. Call `finish` after the last row."""

    store: Store
    layout: ZarrLayout
    layer: Layer
    window: Window
    """Window of the sheet at full resolution."""
    threads: Executor
    """Threads that compress and put stored chunks."""
    delete_empty: bool
    """True to delete under the keys of empty stored chunks, because a sheet may have put pixels there before."""
    _rows: dict[int, _StoredRow] = field(default_factory=dict)
    """The row of stored chunks that each level is filling, by number of the level."""
    _puts: list[Future[StoredObject | None]] = field(default_factory=list)

    def __call__(self, number: int, rows_HW: NDArray[Any], /) -> None:
        if number > len(self.layout.levels):
            return
        level = self.layout.levels[number - 1]
        row = self._rows.setdefault(number, _StoredRow())
        # Rows arrive in blocks of 512, and stored chunks may be lower than that.
        while len(rows_HW):
            free_px = level.stored_px - row.height_px
            row.parts.append(rows_HW[:free_px].copy())
            if row.height_px == level.stored_px:
                self._put_row(level, row)
            rows_HW = rows_HW[free_px:]

    def finish(self) -> tuple[StoredObject, ...]:
        """Put the rows that are left, and return all objects of all levels."""
        for number, row in self._rows.items():
            if row.parts:
                self._put_row(self.layout.levels[number - 1], row)
        return tuple(stored for put in self._puts if (stored := put.result()) is not None)

    def _put_row(self, level: ZarrLevel, row: _StoredRow) -> None:
        wait(row.puts)  # so that at most two rows of a level are in memory
        rows_HW = np.concatenate(row.parts)
        top_px = (self.window.rows.start >> level.number) + row.num_put_px
        left_px = self.window.cols.start >> level.number
        row.num_put_px += len(rows_HW)
        row.parts.clear()
        whole = Window(Span(top_px, top_px + rows_HW.shape[0]), Span(left_px, left_px + rows_HW.shape[1]))
        row.puts = []
        for place in level.stored_grid.touching(whole):
            part_HW = rows_HW[level.stored_grid.window(*place).within(whole)]
            key = self.layout.object_key(self.layer.name, *place, level=level.number)
            put = partial(put_stored, self.store, key, part_HW, self.layer, level.stored_px)
            row.puts.append(self.threads.submit(put, delete_empty=self.delete_empty))
        self._puts += row.puts


@dataclass(slots=True)
class _StoredRow:
    """The row of stored chunks that a level is filling."""

    parts: list[NDArray[Any]] = field(default_factory=list)
    num_put_px: int = 0
    """Rows of pixels that the level has put so far."""
    puts: list[Future[StoredObject | None]] = field(default_factory=list)
    """Puts of the row before this one."""

    @property
    def height_px(self) -> int:
        return sum(len(part) for part in self.parts)
