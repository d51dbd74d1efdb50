"""The pyramid of a GeoTIFF: from rows to compressed blocks of every level, in one pass and in bounded memory.

Theory of operation
-------------------
Each block is one job (`block.py`), which counts its codes, compresses it and halves it:

    stripe of full-resolution rows -> rows of blocks -> jobs -> compressed blocks, appended to the spool of level 0
                                                             -> quarters, laid side by side in the row of level 1
    a row of level 1 is full after two rows of level 0      -> jobs -> spool of level 1, quarters for level 2 -> ...

So a level holds one row of blocks, and all levels together hold about two such rows, beside the caller's stripe. Blocks
at the right and lower edge are padded with nodata, which takes no part in votes and averages. Each level has a spool
file of its own, because the GeoTIFF begins with the coarsest level, which is known last. Results are taken in the order
of the blocks, so the bytes do not depend on the number of threads or on the height of the stripes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from batchseg.layers.layer import Layer
from batchseg.output.block import BlockChecksums, PackedBlock, frame_block, pack_block

OverviewRows = Callable[[int, NDArray[Any]], None]
"""Receiver of overviews: `overview_rows(level, rows_HW)` gets the finished rows of every coarser level, from top to
bottom within a level. The pyramid changes the array afterwards, so the receiver must copy what it keeps."""


@dataclass(slots=True)
class PyramidLevel:
    """One resolution: the blocks that are spooled, and the row of blocks that is being filled."""

    width_px: int
    height_px: int
    spool: BinaryIO
    row_HW: NDArray[Any]
    """Pixels of the row of blocks that is being filled."""
    num_filled_px: int = 0
    """Height of its part that holds pixels."""
    top_px: int = 0
    """First row of pixels of that row of blocks."""
    checksums: list[BlockChecksums] = field(default_factory=list)
    """Checksums of the spooled blocks, in their order."""

    @property
    def sizes_bytes(self) -> list[int]:
        return [checksums.size_bytes for checksums in self.checksums]


class Pyramid:
    """All levels of one layer. Submit and spool the stripes from top to bottom, then call `finish`."""

    def __init__(
        self,
        sizes_px: Sequence[tuple[int, int]],
        layer: Layer,
        *,
        block_px: int,
        folder: Path,
        overview_rows: OverviewRows | None = None,
    ) -> None:
        """Open the spools.

        Args:
            sizes_px: Width and height of each level, full resolution first.
            layer: The meaning of the codes.
            block_px: The side of a block.
            folder: Where the spools are.
            overview_rows: A receiver of the rows of the overviews.
        """
        self._layer = layer
        self._block_px = block_px
        self._overview_rows = overview_rows
        self.counts: NDArray[np.int64] = np.zeros(layer.highest + 1, np.int64)
        self.levels: list[PyramidLevel] = []
        for number, (wide, high) in enumerate(sizes_px):
            # Level 0 has no row to fill: its rows arrive as stripes.
            row_px = -(-wide // block_px) * block_px if number else 0
            row_HW = np.full((block_px, row_px), layer.nodata, layer.dtype)
            spool = (folder / f"level{number}.blocks").open("w+b")
            self.levels.append(PyramidLevel(wide, high, spool, row_HW))

    def submit_stripe(self, stripe_HW: NDArray[Any], pool: Executor) -> list[list[Future[PackedBlock]]]:
        """Submit the blocks of a stripe to the pool. Returns its rows of blocks, from top to bottom."""
        height_px, block_px = stripe_HW.shape[0], self._block_px
        rows = (stripe_HW[top : top + block_px] for top in range(0, height_px, block_px))
        return [self._submit_row(row_HW, pool, count_codes=True) for row_HW in rows]

    def spool_stripe(self, jobs: list[list[Future[PackedBlock]]], pool: Executor) -> None:
        """Spool the blocks of a stripe that was submitted, and of every coarser row that they complete."""
        for row in jobs:
            self._spool_row(0, [job.result() for job in row], pool)

    def finish(self, pool: Executor) -> None:
        """Spool the rows of blocks that the last stripe left incomplete, finest first."""
        for number in range(1, len(self.levels)):
            if self.levels[number].num_filled_px:
                self._flush_row(number, pool)
        for level in self.levels:
            level.spool.flush()

    def close(self) -> None:
        for level in self.levels:
            level.spool.close()

    def _submit_row(self, row_HW: NDArray[Any], pool: Executor, *, count_codes: bool) -> list[Future[PackedBlock]]:
        job = partial(pack_block, layer=self._layer, block_px=self._block_px, count_codes=count_codes)
        return [pool.submit(job, block_HW) for block_HW in _split_row(row_HW, self._block_px)]

    def _spool_row(self, number: int, blocks: Sequence[PackedBlock], pool: Executor) -> None:
        level = self.levels[number]
        for block in blocks:
            level.spool.write(frame_block(block.stream))
            level.checksums.append(block.checksums)
            if block.counts is not None:
                self.counts += block.counts
        if number + 1 < len(self.levels):
            self._fill_row(number + 1, blocks, pool)

    def _fill_row(self, number: int, finer: Sequence[PackedBlock], pool: Executor) -> None:
        """Lay the quarters of a row of finer blocks into the row of this level."""
        level, half_px = self.levels[number], self._block_px // 2
        rows = slice(level.num_filled_px, level.num_filled_px + half_px)
        for column, block in enumerate(finer):
            level.row_HW[rows, column * half_px : (column + 1) * half_px] = block.quarter_HW
        level.num_filled_px += half_px
        if level.num_filled_px == self._block_px:
            self._flush_row(number, pool)

    def _flush_row(self, number: int, pool: Executor) -> None:
        level = self.levels[number]
        if self._overview_rows is not None:
            num_rows_px = min(self._block_px, level.height_px - level.top_px)
            self._overview_rows(number, level.row_HW[:num_rows_px, : level.width_px])
        level.top_px += self._block_px
        jobs = self._submit_row(level.row_HW, pool, count_codes=False)
        blocks = [job.result() for job in jobs]
        level.row_HW[:] = self._layer.nodata
        level.num_filled_px = 0
        self._spool_row(number, blocks, pool)


def _split_row(row_HW: NDArray[Any], block_px: int) -> Iterator[NDArray[Any]]:
    for left in range(0, row_HW.shape[1], block_px):
        yield row_HW[:, left : left + block_px]
