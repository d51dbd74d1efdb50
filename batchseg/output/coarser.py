"""The Zarr's coarser levels over one sheet: the rows of its GeoTIFF's overviews, put as stored chunks.

A level gathers rows until a row of stored chunks is full, so it holds one stored chunk's height of itself; all levels
together hold about as much as one row of stored chunks of the scene.
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
    """Give it rows of overviews as `pyramid.OverviewRows`, then `finish` it."""

    store: Store
    layout: ZarrLayout
    layer: Layer
    window: Window
    """Of the sheet, at full resolution."""
    threads: Executor
    """Who packs and puts."""
    again: bool
    """Stored chunks that are empty now may have been made with more before."""
    _bands: dict[int, _Gathered] = field(default_factory=dict)
    _puts: list[Future[StoredObject | None]] = field(default_factory=list)

    def __call__(self, number: int, rows_HW: NDArray[Any], /) -> None:
        if number > len(self.layout.levels):
            return
        level = self.layout.levels[number - 1]
        gathered = self._bands.setdefault(number, _Gathered())
        # Rows come in blocks of 512, stored chunks may be lower than that.
        while len(rows_HW):
            free_px = level.stored_px - gathered.height_px
            gathered.parts.append(rows_HW[:free_px].copy())
            if gathered.height_px == level.stored_px:
                self._put_row(level, gathered)
            rows_HW = rows_HW[free_px:]

    def finish(self) -> tuple[StoredObject, ...]:
        """What was put, of all levels."""
        for number, gathered in self._bands.items():
            if gathered.parts:
                self._put_row(self.layout.levels[number - 1], gathered)
        return tuple(stored for put in self._puts if (stored := put.result()) is not None)

    def _put_row(self, level: ZarrLevel, gathered: _Gathered) -> None:
        wait(gathered.under_way)  # so that no more than two rows of a level are in memory
        rows_HW = np.concatenate(gathered.parts)
        top_px = (self.window.rows.start >> level.number) + gathered.num_put_px
        left_px = self.window.cols.start >> level.number
        gathered.num_put_px += len(rows_HW)
        gathered.parts.clear()
        whole = Window(Span(top_px, top_px + rows_HW.shape[0]), Span(left_px, left_px + rows_HW.shape[1]))
        puts = []
        for row, col in level.stored_grid.touching(whole):
            part_HW = rows_HW[level.stored_grid.window(row, col).within(whole)]
            key = self.layout.object_key(self.layer.name, row, col, level=level.number)
            put = partial(put_stored, self.store, key, part_HW, self.layer, level.stored_px, again=self.again)
            puts.append(self.threads.submit(put))
        gathered.under_way = puts
        self._puts += puts


@dataclass(slots=True)
class _Gathered:
    """The row of stored chunks that a level is filling."""

    parts: list[NDArray[Any]] = field(default_factory=list)
    num_put_px: int = 0
    under_way: list[Future[StoredObject | None]] = field(default_factory=list)

    @property
    def height_px(self) -> int:
        return sum(len(part) for part in self.parts)
