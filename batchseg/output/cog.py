"""Writes one Cloud Optimized GeoTIFF from a stream of rows: GDAL writes the header, we write the blocks.

GDAL's own COG driver wants the whole raster in a file first, compresses everything several times and is slow at
overviews by vote. Here every pixel is touched once:

1. A template, a one-pixel file written by GDAL, gives all tags that say what the raster is and where it lies
   (`gdal_tags.py`). It is made before the first row, so that what cannot be placed fails early, and once more at the
   end, with the statistics.
2. The caller's rows are pulled in stripes; blocks of all levels are packed on a few threads while the next stripe is
   pulled, and spooled to one scratch file a level (`pyramid.py`, `overview.py`).
3. The file is put together: head with all directories, finest level first (`tiff.py`), then the blocks of the coarsest
   level, ..., last those of full resolution. A reader gets the whole structure and an overview with its first request.
4. It is read again: the directories are parsed, every block must lie where they say with the very bytes that were
   packed, and every fourth one is decoded and compared with its pixels (decoding costs half of encoding; every stream
   has been checked to end with the checksum of its pixels when it was packed, and readers check that too). Only then
   the file gets its name. So no failed encode can become an empty block, and a file under its name is whole.

Every block is in the file, also those of nodata only (a few dozen bytes). The bytes depend on pixels, layer and place
only: not on stripes, threads or time.
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

from batchseg.errors import DamagedError, WriteError
from batchseg.layers.layer import Layer
from batchseg.output import tiff
from batchseg.output.cog_head import lay_out_cog
from batchseg.output.deflate import inflate
from batchseg.output.gdal_tags import make_statistics_tags, make_template
from batchseg.output.overview import list_level_sizes_px
from batchseg.output.pyramid import FRAME_BYTES, BlockChecksums, OverviewRows, Pyramid, PyramidLevel, frame_block
from batchseg.scene.georef import Georef

Rows = Callable[[int, int], NDArray[Any]]
"""`rows(start, stop)` gives these rows of the raster, shape (stop - start, width), in the layer's data type. Asked
from top to bottom, from one thread."""

_COPY_BYTES = 1 << 20
_BATCH = 16
_DECODE_EVERY = 4
_SHORT_BYTES = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class CogOptions:
    """How the file is made. Its threads and listeners do not change its bytes."""

    block_px: int = 512
    """Side of a block; the longer side of the last overview is at most this."""
    threads: int = 2
    """Threads that pack blocks."""
    force_big: bool = False
    """BigTIFF whatever the size; otherwise only where a classic TIFF could overflow."""
    num_overviews: int = 0
    """At least so many, however small the raster is."""
    overview_rows: OverviewRows | None = None
    """Who else wants the rows of the overviews."""


DEFAULTS = CogOptions()


@dataclass(frozen=True, slots=True, kw_only=True)
class CogFile:
    """What was written."""

    size_bytes: int
    digest: str
    """BLAKE2b of 16 bytes over the file, as hex."""
    counts: tuple[int, ...]
    """Pixels by code at full resolution: one entry for each code of the data type, nodata included."""
    srs_xml: str | None
    """The coordinate system for the sidecar (see `sidecars.make_pam`), where a GeoTIFF cannot hold it."""


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
        path: The file; a file of this name is replaced.
        georef: Size and place.
        layer: What the codes are.
        rows: Where the pixels come from, see `Rows`.
        scratch: A local folder with room for the compressed blocks; nothing stays there.
        stripe_px: Rows asked for at a time, a multiple of the block size. Two stripes are in memory at once.
        options: How the file is made.
    """
    assert stripe_px % options.block_px == 0, "a stripe is a whole number of rows of blocks"
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
                f"rows {start} to {stop} came in another form",
                where=f"layer {layer.name}",
                expected=f"{expected[0]} {expected[1]}",
                got=f"{stripe_HW.shape} {stripe_HW.dtype}",
            )
        yield stripe_HW


def _fill_pyramid(pyramid: Pyramid, stripes: Iterator[NDArray[Any]], pool: Executor) -> None:
    """One stripe is packed while the next is pulled."""
    jobs = None
    for stripe_HW in stripes:
        before, jobs = jobs, pyramid.submit_stripe(stripe_HW, pool)
        if before is not None:
            pyramid.spool_stripe(before, pool)
    if jobs is not None:
        pyramid.spool_stripe(jobs, pool)
    pyramid.finish(pool)


def _write_verified(path: Path, head: bytes, levels: Sequence[PyramidLevel], pool: Executor) -> tuple[int, str]:
    """Put the file together under another name, read it again, rename it. Returns size and digest."""
    unproven = path.with_name(f".{path.name}.unproven")
    try:
        written = _assemble(unproven, head, levels)
        verify_cog(unproven, [level.checksums for level in levels], pool)
        unproven.replace(path)
    finally:
        unproven.unlink(missing_ok=True)
    return written


def _assemble(path: Path, head: bytes, levels: Sequence[PyramidLevel]) -> tuple[int, str]:
    digest = blake2b(head, digest_size=16)
    with path.open("wb") as file:
        file.write(head)
        for level in reversed(levels):
            level.spool.seek(0)
            while piece := level.spool.read(_COPY_BYTES):
                digest.update(piece)
                file.write(piece)
        file.flush()
        os.fsync(file.fileno())
        return file.tell(), digest.hexdigest()


def verify_cog(path: Path, checksums: Sequence[Sequence[BlockChecksums]], pool: Executor) -> None:
    """Read every block of a written file and compare it with what was packed; raise DamagedError if one differs.

    Args:
        path: The file.
        checksums: What its blocks must be, by level and block.
        pool: Where blocks are decoded.
    """
    with path.open("rb") as file:
        directories = tiff.read_directories(file, str(path))
        if len(directories) != len(checksums):
            raise DamagedError(
                "levels are missing", where=str(path), expected=f"{len(checksums)}", got=f"{len(directories)}"
            )
        for directory, expected in zip(directories, checksums, strict=True):
            check = partial(_check_blocks, file.fileno(), str(path), _count_block_bytes(directory))
            offsets = directory[tiff.TILE_OFFSETS].numbers.tolist()
            sizes_bytes = directory[tiff.TILE_BYTE_COUNTS].numbers.tolist()
            blocks = list(zip(offsets, sizes_bytes, expected, strict=True))
            batches = (blocks[start : start + _BATCH] for start in range(0, len(blocks), _BATCH))
            for done in [pool.submit(check, batch) for batch in batches]:
                done.result()


def _count_block_bytes(directory: tiff.Directory) -> int:
    codes = (tiff.TILE_WIDTH, tiff.TILE_LENGTH, tiff.BITS_PER_SAMPLE)
    wide, high, bits = (int(directory[code].numbers[0]) for code in codes)
    return wide * high * bits // 8


def _check_blocks(file: int, where: str, block_bytes: int, blocks: Sequence[tuple[int, int, BlockChecksums]]) -> None:
    for index, (offset, size_bytes, proof) in enumerate(blocks):
        found = os.pread(file, size_bytes + 2 * FRAME_BYTES, offset - FRAME_BYTES)
        stream = found[FRAME_BYTES:-FRAME_BYTES]
        if len(stream) != proof.size_bytes or frame_block(stream) != found:
            raise _make_error(where, offset, "another size or end")
        if crc32(stream) != proof.stream_crc32:
            raise _make_error(where, offset, "another stream")
        if index % _DECODE_EVERY:
            continue
        decoded = _compute_short_adler32 if len(stream) <= _SHORT_BYTES else _compute_adler32
        if decoded(stream, block_bytes) != proof.pixels_adler32:
            raise _make_error(where, offset, "other pixels")


def _compute_adler32(stream: bytes, block_bytes: int) -> int:
    return adler32(inflate(stream, block_bytes))


@lru_cache(maxsize=64)
def _compute_short_adler32(stream: bytes, block_bytes: int) -> int:
    """Of blocks of one code, which are many and the same bytes each time."""
    return _compute_adler32(stream, block_bytes)


def _make_error(where: str, offset: int, got: str) -> DamagedError:
    return DamagedError(
        f"the block at byte {offset} does not decode to what was packed",
        where=where,
        expected="the same bytes",
        got=got,
        todo="write the file again; if it stays, suspect the disk or the memory",
    )
