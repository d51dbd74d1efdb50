"""Writes a Cloud Optimized GeoTIFF from a stream of rows: GDAL writes the header, we write the blocks.

Theory of operation
-------------------
GDAL's own COG driver needs the whole raster in a file first, compresses everything several times, and is slow at
overviews by vote. This writer touches every pixel once:

1. GDAL writes a template, a file of one pixel, with all tags that say what the raster is and where it lies
   (`gdal_tags.py`). This happens before the first row, so that a raster without a valid place fails early, and once
   more at the end, with the statistics.
2. The writer reads the caller's rows in stripes. While it reads one stripe, a few threads compress the blocks of the
   stripe before, at all levels, and spool them to one scratch file per level (`pyramid.py`, `overview.py`).
3. The writer assembles the file: the head with all directories, finest level first (`cog_head.py`, `tiff.py`), then
   the blocks of the coarsest level, and so on to full resolution. A reader gets the whole structure and an overview
   with its first request.
4. The writer reads the file back. It parses the directories and compares each block with the bytes that were
   compressed; it also decodes every fourth block and compares the pixels. Decoding costs half of encoding. The end of
   each stream was compared with the checksum of its pixels during compression, and readers compare it again. Only then
   does the file get its name. So a failed encode cannot become an empty block, and a file under its name is whole.

Every block is in the file, also a block of nodata only, which takes a few dozen bytes. The bytes depend on the pixels,
the layer and the place alone, not on stripes, threads or time.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import lru_cache, partial
from hashlib import blake2b
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from isal.isal_zlib import adler32, crc32
from numpy.typing import NDArray

from batchseg.atomic import replace_file
from batchseg.errors import DamagedError, WriteError
from batchseg.layers.layer import Layer
from batchseg.output import tiff
from batchseg.output.block import FRAME_BYTES, BlockChecksums, frame_block
from batchseg.output.cog_head import lay_out_cog
from batchseg.output.deflate import inflate
from batchseg.output.gdal_tags import make_statistics_tags, make_template
from batchseg.output.overview import list_level_sizes_px
from batchseg.output.pyramid import OverviewRows, Pyramid, PyramidLevel
from batchseg.scene.georef import Georef

Rows = Callable[[int, int], NDArray[Any]]
"""Source of the pixels: `rows(start, stop)` returns rows of shape (stop - start, width), in the layer's data type. The
writer calls it from top to bottom, from one thread."""

_COPY_BYTES = 1 << 20
_BATCH = 16
_DECODE_EVERY = 4
_SHORT_BYTES = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class CogOptions:
    """Settings of a GeoTIFF. `threads` and `overview_rows` do not change its bytes."""

    block_px: int = 512
    """Side of a block, and limit of the longer side of the last overview."""
    threads: int = 2
    """Number of threads that compress blocks."""
    force_big: bool = False
    """True if the file is a BigTIFF at any size. By default it is one only where a classic TIFF could overflow."""
    num_overviews: int = 0
    """Smallest number of overviews, however small the raster is."""
    overview_rows: OverviewRows | None = None
    """Second receiver of the rows of the overviews."""


DEFAULTS = CogOptions()


@dataclass(frozen=True, slots=True, kw_only=True)
class CogFile:
    """A GeoTIFF that was written and verified."""

    size_bytes: int
    digest: str
    """Hex digest of the file: BLAKE2b of 16 bytes."""
    counts: tuple[int, ...]
    """Number of pixels per code at full resolution, for every code of the data type, nodata included."""
    srs_xml: str | None
    """Coordinate system for the sidecar (see `sidecars.make_pam`), where a GeoTIFF cannot hold it."""


def write_cog(
    path: Path,
    georef: Georef,
    layer: Layer,
    rows: Rows,
    *,
    scratch: Path,
    stripe_px: int = 2048,
    options: CogOptions = DEFAULTS,
) -> CogFile:
    """Write `path` whole or not at all.

    Args:
        path: The file to write; a file of this name is replaced.
        georef: The size and the place of the raster.
        layer: The meaning of the codes.
        rows: The source of the pixels, see `Rows`.
        scratch: A local folder with room for the compressed blocks, which are deleted at the end.
        stripe_px: Rows per call of `rows`, a multiple of the block size. Two stripes are in memory at once.
        options: How to write the file.

    Raises:
        WriteError: The rows have another shape or type, or a block was not compressed whole.
        DamagedError: The file does not read back as it was written.
        SceneError: GDAL cannot place the raster.
    """
    assert stripe_px % options.block_px == 0, "a stripe must be a whole number of rows of blocks"
    with TemporaryDirectory(dir=scratch) as folder, ThreadPoolExecutor(options.threads) as pool:
        make_template(georef, layer, {}, Path(folder))
        sizes_px = list_level_sizes_px(
            georef.width_px, georef.height_px, largest_px=options.block_px, num_overviews=options.num_overviews
        )
        pyramid = Pyramid(
            sizes_px, layer, block_px=options.block_px, folder=Path(folder), overview_rows=options.overview_rows
        )
        with closing(pyramid):
            _fill_pyramid(pyramid, _read_stripes(rows, georef, layer, stripe_px), pool)
            counts = tuple(pyramid.counts.tolist())
            template = make_template(georef, layer, make_statistics_tags(counts, layer.nodata), Path(folder))
            head = lay_out_cog(
                template.tags,
                pyramid.levels,
                block_px=options.block_px,
                use_predictor=layer.kind == "measure",
                force_big=options.force_big,
            )
            size_bytes, digest = _write_verified(path, head, pyramid.levels, pool)
    return CogFile(size_bytes=size_bytes, digest=digest, counts=counts, srs_xml=template.srs_xml)


def _read_stripes(rows: Rows, georef: Georef, layer: Layer, stripe_px: int) -> Iterator[NDArray[Any]]:
    for start in range(0, georef.height_px, stripe_px):
        stop = min(start + stripe_px, georef.height_px)
        stripe_HW = rows(start, stop)
        expected = ((stop - start, georef.width_px), np.dtype(layer.dtype))
        if (stripe_HW.shape, stripe_HW.dtype) != expected:
            raise WriteError(
                f"rows {start} to {stop} must have the shape and type of their layer",
                where=f"layer {layer.name}",
                expected=f"{expected[0]} {expected[1]}",
                got=f"{stripe_HW.shape} {stripe_HW.dtype}",
            )
        yield stripe_HW


def _fill_pyramid(pyramid: Pyramid, stripes: Iterator[NDArray[Any]], pool: Executor) -> None:
    """Compress each stripe while the next one is read."""
    jobs = None
    for stripe_HW in stripes:
        earlier_jobs, jobs = jobs, pyramid.submit_stripe(stripe_HW, pool)
        if earlier_jobs is not None:
            pyramid.spool_stripe(earlier_jobs, pool)
    if jobs is not None:
        pyramid.spool_stripe(jobs, pool)
    pyramid.finish(pool)


def _write_verified(path: Path, head: bytes, levels: Sequence[PyramidLevel], pool: Executor) -> tuple[int, str]:
    """Assemble the file under another name, verify it, rename it. Returns its size and digest."""
    with replace_file(path) as unverified:
        size_bytes, digest = _assemble(unverified, head, levels)
        verify_cog(unverified, [level.checksums for level in levels], pool)
    return size_bytes, digest


def _assemble(path: Path, head: bytes, levels: Sequence[PyramidLevel]) -> tuple[int, str]:
    digest = blake2b(head, digest_size=16)
    with path.open("wb") as file:
        file.write(head)
        for level in reversed(levels):
            level.spool.seek(0)
            while piece := level.spool.read(_COPY_BYTES):
                digest.update(piece)
                file.write(piece)
        return file.tell(), digest.hexdigest()


def verify_cog(path: Path, checksums: Sequence[Sequence[BlockChecksums]], pool: Executor) -> None:
    """Read every block of a file and compare it with the checksums of what was compressed.

    Args:
        path: The file to verify.
        checksums: The checksums of its blocks, by level and block.
        pool: Threads that decode blocks.

    Raises:
        DamagedError: A level is missing, or a block differs.
    """
    with path.open("rb") as file:
        directories = tiff.read_directories(file, str(path))
        if len(directories) != len(checksums):
            raise DamagedError(
                "a GeoTIFF must have all its levels",
                where=str(path),
                expected=f"{len(checksums)}",
                got=f"{len(directories)}",
                todo="write the file again",
            )
        for directory, expected in zip(directories, checksums, strict=True):
            check = partial(_check_blocks, file.fileno(), str(path), _count_block_bytes(directory))
            offsets = directory[tiff.TILE_OFFSETS].numbers.tolist()
            sizes_bytes = directory[tiff.TILE_BYTE_COUNTS].numbers.tolist()
            blocks = list(zip(offsets, sizes_bytes, expected, strict=True))
            batches = (blocks[start : start + _BATCH] for start in range(0, len(blocks), _BATCH))
            for job in [pool.submit(check, batch) for batch in batches]:
                job.result()


def _count_block_bytes(directory: tiff.Directory) -> int:
    codes = (tiff.TILE_WIDTH, tiff.TILE_LENGTH, tiff.BITS_PER_SAMPLE)
    wide, high, bits = (int(directory[code].numbers[0]) for code in codes)
    return wide * high * bits // 8


def _check_blocks(file: int, where: str, block_bytes: int, blocks: Sequence[tuple[int, int, BlockChecksums]]) -> None:
    for index, (offset, size_bytes, checksums) in enumerate(blocks):
        framed = os.pread(file, size_bytes + 2 * FRAME_BYTES, offset - FRAME_BYTES)
        stream = framed[FRAME_BYTES:-FRAME_BYTES]
        if len(stream) != checksums.size_bytes or frame_block(stream) != framed:
            raise _make_error(where, offset, "another size or end")
        if crc32(stream) != checksums.stream_crc32:
            raise _make_error(where, offset, "another stream")
        if index % _DECODE_EVERY:
            continue
        decode = _decode_short if len(stream) <= _SHORT_BYTES else _decode
        if decode(stream, block_bytes) != checksums.pixels_adler32:
            raise _make_error(where, offset, "other pixels")


def _decode(stream: bytes, block_bytes: int) -> int:
    """Decode a block and return the Adler-32 of its pixels."""
    return adler32(inflate(stream, block_bytes))


@lru_cache(maxsize=64)
def _decode_short(stream: bytes, block_bytes: int) -> int:
    """The same, cached: blocks of a single code are many and have the same bytes each time."""
    return _decode(stream, block_bytes)


def _make_error(where: str, offset: int, got: str) -> DamagedError:
    return DamagedError(
        f"the block at byte {offset} must hold the pixels that were compressed",
        where=where,
        expected="the same bytes",
        got=got,
        todo="write the file again; if the error stays, check the disk and the memory",
    )
