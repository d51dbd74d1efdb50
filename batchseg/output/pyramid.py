"""From rows to compressed blocks of every level, in one pass and in bounded memory.

One block is one job. While its pixels are in the cache of a core, the job counts its codes, packs it and halves it:

    stripe of full-resolution rows -> rows of blocks -> jobs -> compressed blocks, appended to the spool of level 0
                                                             -> quarters, laid side by side in the row of level 1
    a row of level 1 is full after two rows of level 0      -> jobs -> spool of level 1, quarters for level 2 -> ...

So a level holds one row of blocks, all levels together about as much as two such rows, and the caller's stripe comes on
top. Blocks at the right and lower edge are filled up with nodata, which takes no part in votes and averages. Spools are
files, one a level, because the file proper begins with the smallest level, which is known last. Results are taken in
the order of the blocks, so the bytes do not depend on the number of threads or on the height of the stripes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from isal.isal_zlib import crc32
from numpy.typing import NDArray

from batchseg.layers.layer import Layer
from batchseg.output.deflate import deflate
from batchseg.output.overview import halve_classes, halve_measures

FRAME_BYTES = 4
"""Before a block lies its size, after it a copy of its last bytes (see `head.py`)."""


@dataclass(frozen=True, slots=True)
class BlockChecksums:
    """What a block in the file must be."""

    size_bytes: int
    stream_crc32: int
    """Of the compressed bytes."""
    pixels_adler32: int
    """Of the bytes before compression; zlib puts the same number at the end of a stream."""


OverviewRows = Callable[[int, NDArray[Any]], None]
"""`overview_rows(level, rows_HW)` is given the finished rows of every coarser level, from top to bottom within
a level. What comes may be changed afterwards: keep copies."""


@dataclass(frozen=True, slots=True)
class PackedBlock:
    """What one job makes of one block."""

    stream: bytes
    """Compressed, as it goes into the file."""
    proof: BlockChecksums
    quarter_HW: NDArray[Any]
    """The block at half the resolution."""
    counts: NDArray[np.int64] | None
    """Pixels by code; at full resolution only."""


def pack_block(block_HW: NDArray[Any], layer: Layer, *, block_px: int, count_codes: bool) -> PackedBlock:
    """Count, compress and halve one block; a block at an edge of the grid may come smaller than `block_px`."""
    if _is_constant(block_HW, block_px, layer.nodata):
        value = int(block_HW[0, 0])
        stream, proof = _compress_constant(value, layer.dtype, layer.kind == "measure", block_px)
        quarter_HW = np.broadcast_to(np.array(value, layer.dtype), (block_px // 2, block_px // 2))
        counts = np.zeros(layer.highest + 1, np.int64)
        counts[value] = block_HW.size
        return PackedBlock(stream, proof, quarter_HW, counts if count_codes else None)
    whole_HW = _fill_up(block_HW, block_px, layer.nodata)
    stream, proof = _compress(whole_HW, use_predictor=layer.kind == "measure")
    halve = halve_classes if layer.kind == "classes" else halve_measures
    quarter_HW = halve(whole_HW, layer.nodata)
    if not count_codes:
        return PackedBlock(stream, proof, quarter_HW, None)
    counts = _count_codes(whole_HW, layer.highest + 1)
    counts[layer.nodata] -= whole_HW.size - block_HW.size
    return PackedBlock(stream, proof, quarter_HW, counts)


def _is_constant(block_HW: NDArray[Any], block_px: int, nodata: int) -> bool:
    """Whether the block is of one code when it is filled up. Without any array on the way, as such blocks are many."""
    value = block_HW[0, 0]
    if value != block_HW[-1, -1] or (value != nodata and block_HW.shape != (block_px, block_px)):
        return False
    if block_HW.strides[0] == 0:
        block_HW = block_HW[:1]  # one row, repeated
    return bool(block_HW.min() == block_HW.max())


def _count_codes(block_HW: NDArray[Any], num_codes: int) -> NDArray[np.int64]:
    """Pixels by code. Bytes are count_codes as pairs, because `bincount` takes the same time for any integer."""
    if block_HW.dtype == np.uint16:
        return np.bincount(block_HW.ravel(), minlength=num_codes)
    pairs = np.bincount(block_HW.view(np.uint16).ravel(), minlength=num_codes**2).reshape(num_codes, num_codes)
    counts: NDArray[np.int64] = pairs.sum(axis=0) + pairs.sum(axis=1)
    return counts


def _fill_up(block_HW: NDArray[Any], block_px: int, nodata: int) -> NDArray[Any]:
    if block_HW.shape == (block_px, block_px):
        return np.ascontiguousarray(block_HW)
    whole_HW = np.full((block_px, block_px), nodata, block_HW.dtype)
    whole_HW[: block_HW.shape[0], : block_HW.shape[1]] = block_HW
    return whole_HW


def _compress(block_HW: NDArray[Any], *, use_predictor: bool) -> tuple[bytes, BlockChecksums]:
    """The zlib stream of a block and how to know it again.

    TIFF's predictor 2 stores each pixel of a row as the difference to its left neighbour, which halves smooth data.
    """
    stored_HW = block_HW
    if use_predictor:
        stored_HW = block_HW.copy()
        np.subtract(block_HW[:, 1:], block_HW[:, :-1], out=stored_HW[:, 1:])
    if stored_HW.dtype == np.uint16:
        stored_HW = stored_HW.astype("<u2", copy=False)
    stream, adler32 = deflate(stored_HW)
    return stream, BlockChecksums(len(stream), crc32(stream), adler32)


@lru_cache(maxsize=256)
def _compress_constant(value: int, dtype: str, use_predictor: bool, block_px: int) -> tuple[bytes, BlockChecksums]:  # noqa: FBT001
    """Blocks of one code are many (open land, nodata, one tier) and always the same bytes."""
    return _compress(np.full((block_px, block_px), value, dtype), use_predictor=use_predictor)


@dataclass(slots=True)
class PyramidLevel:
    """One resolution: the blocks already spooled and the row of blocks that is being filled."""

    width_px: int
    height_px: int
    spool: BinaryIO
    row_HW: NDArray[Any]
    num_filled_px: int = 0
    top_px: int = 0
    """Where the row of blocks that is being filled lies."""
    checksums: list[BlockChecksums] = field(default_factory=list)

    @property
    def sizes_bytes(self) -> list[int]:
        return [proof.size_bytes for proof in self.checksums]


class Pyramid:
    """All levels of one layer. Give it rows from top to bottom, then `finish` it."""

    def __init__(
        self,
        sizes_px: Sequence[tuple[int, int]],
        layer: Layer,
        *,
        block_px: int,
        folder: Path,
        overview_rows: OverviewRows | None = None,
    ) -> None:
        """`sizes_px` are width and height by level, full resolution first."""
        self._layer = layer
        self._block_px = block_px
        self._overview_rows = overview_rows
        self.counts: NDArray[np.int64] = np.zeros(layer.highest + 1, np.int64)
        self.levels: list[PyramidLevel] = []
        for number, (wide, high) in enumerate(sizes_px):
            # PyramidLevel 0 is never filled: its rows come as stripes.
            row_px = -(-wide // block_px) * block_px if number else 0
            row_HW = np.full((block_px, row_px), layer.nodata, layer.dtype)
            spool = (folder / f"level{number}.blocks").open("w+b")
            self.levels.append(PyramidLevel(wide, high, spool, row_HW))

    def submit_stripe(self, stripe_HW: NDArray[Any], pool: Executor) -> list[list[Future[PackedBlock]]]:
        """Give the blocks of a stripe to the pool: rows of blocks, from top to bottom."""
        height_px, block_px = stripe_HW.shape[0], self._block_px
        rows = (stripe_HW[top : top + block_px] for top in range(0, height_px, block_px))
        return [self._submit_row(row_HW, pool, count_codes=True) for row_HW in rows]

    def spool_stripe(self, jobs: list[list[Future[PackedBlock]]], pool: Executor) -> None:
        """Spool the blocks of a stripe that was started, and of every coarser row that it completes."""
        for row in jobs:
            self._spool_row(0, [job.result() for job in row], pool)

    def finish(self, pool: Executor) -> None:
        """Close the rows that the last stripe left unfilled, finest first."""
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
            level.checksums.append(block.proof)
            if block.counts is not None:
                self.counts += block.counts
        if number + 1 < len(self.levels):
            self._fill_row(number + 1, blocks, pool)

    def _fill_row(self, number: int, finer: Sequence[PackedBlock], pool: Executor) -> None:
        """Lay the quarters of a row of finer blocks into this level."""
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


def frame_block(stream: bytes) -> bytes:
    """A block as it lies in the file."""
    return len(stream).to_bytes(FRAME_BYTES, "little") + stream + stream[-FRAME_BYTES:]


def _split_row(row_HW: NDArray[Any], block_px: int) -> Iterator[NDArray[Any]]:
    for left in range(0, row_HW.shape[1], block_px):
        yield row_HW[:, left : left + block_px]
