"""The requests that a run sends to storage, with their price."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from batchseg.ledger.keys import ChunkKey
from batchseg.resolve.job import Job, SceneJob
from tiling.grid import cells
from tiling.span import Span

READ_USD, WRITE_USD = 0.4e-6, 5e-6
"""List prices of one request: Amazon S3 Standard, us-east-1."""
READ_BLOCKS_PER_REQUEST = 8
"""GDAL joins neighbouring blocks of a row into one request."""
RECORD_WRITES = 2
"""Writes per chunk besides its stored chunks: its record and a heartbeat."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestCount:
    """Requests that a run sends if its scenes and its output are in an object store."""

    num_reads: int
    num_writes: int

    @property
    def usd(self) -> float:
        return self.num_reads * READ_USD + self.num_writes * WRITE_USD


def count_requests(job: Job, chunks: Sequence[ChunkKey]) -> RequestCount:
    """Count the reads of blocks, and the puts of stored chunks, records and heartbeats, of these chunks.

    Both are products: a chunk has rows times columns of blocks, and rows times columns of stored chunks.
    """
    sides = {name: (_count_rows(job, scene), _count_cols(job, scene)) for name, scene in job.scenes.items()}
    num_reads = num_writes = 0
    for key in chunks:
        rows, cols = sides[key.scene]
        row, col = rows[key.row], cols[key.col]
        num_reads += row.num_reads * col.num_reads
        num_writes += row.num_stored * col.num_stored * len(job.scenes[key.scene].zarr.layers) + RECORD_WRITES
    return RequestCount(num_reads=num_reads, num_writes=num_writes)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Side:
    """One row of chunks from top to bottom, or one column from left to right."""

    num_reads: int
    """Number of blocks, or of joined blocks, that the side with its halo spans."""
    num_stored: int
    """Number of stored chunks that the side spans."""


def _count_rows(job: Job, scene: SceneJob) -> list[_Side]:
    grid, height_px = job.chunk_grid(scene), scene.shape_px[0]
    sides = []
    for row in range(grid.shape[0]):
        rows = grid.window(row, 0).rows
        num_stored = len(cells(rows, scene.zarr.stored_px))
        num_blocks = _count_blocks(rows, job.halo_px, height_px, scene.raster.block_px[0])
        sides.append(_Side(num_reads=num_blocks, num_stored=num_stored))
    return sides


def _count_cols(job: Job, scene: SceneJob) -> list[_Side]:
    grid, width_px = job.chunk_grid(scene), scene.shape_px[1]
    sides = []
    for col in range(grid.shape[1]):
        cols = grid.window(0, col).cols
        num_stored = len(cells(cols, scene.zarr.stored_px))
        num_blocks = _count_blocks(cols, job.halo_px, width_px, scene.raster.block_px[1])
        sides.append(_Side(num_reads=-(-num_blocks // READ_BLOCKS_PER_REQUEST), num_stored=num_stored))
    return sides


def _count_blocks(span: Span, halo_px: int, size_px: int, block_px: int) -> int:
    """The most blocks that a span with its halo can touch, wherever its first pixel lies in a block."""
    read_px = min(size_px, span.stop + halo_px) - max(0, span.start - halo_px)
    return -(-read_px // block_px) + 1
