"""One block of a GeoTIFF: its pixels are counted, compressed and halved while they are in the cache of a core."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from isal.isal_zlib import crc32
from numpy.typing import NDArray

from batchseg.layers.layer import Layer
from batchseg.output.deflate import deflate
from batchseg.output.overview import halve_classes, halve_measures

FRAME_BYTES = 4
"""Bytes of the size before each block, and of the copy of its last bytes behind it (see `cog_head.py`)."""


@dataclass(frozen=True, slots=True)
class BlockChecksums:
    """Bytes that the file must hold for a block."""

    size_bytes: int
    stream_crc32: int
    """CRC-32 of the compressed bytes."""
    pixels_adler32: int
    """Adler-32 of the bytes before compression; zlib puts the same number at the end of a stream."""


@dataclass(frozen=True, slots=True)
class PackedBlock:
    """Result of one job."""

    stream: bytes
    """Compressed bytes, as they go into the file."""
    checksums: BlockChecksums
    quarter_HW: NDArray[Any]
    """Pixels of the block at half the resolution."""
    counts: NDArray[np.int64] | None
    """Number of pixels per code; None except at full resolution."""


def pack_block(block_HW: NDArray[Any], layer: Layer, *, block_px: int, count_codes: bool) -> PackedBlock:
    """Count, compress and halve one block. At the edges of a grid it may be smaller than `block_px`."""
    if _is_constant(block_HW, block_px, layer.nodata):
        code = int(block_HW[0, 0])
        stream, checksums = _compress_constant(code, layer.dtype, block_px, use_predictor=layer.kind == "measure")
        quarter_HW = np.broadcast_to(np.array(code, layer.dtype), (block_px // 2, block_px // 2))
        counts = np.zeros(layer.highest + 1, np.int64)
        counts[code] = block_HW.size
        return PackedBlock(stream, checksums, quarter_HW, counts if count_codes else None)
    whole_HW = _pad(block_HW, block_px, layer.nodata)
    stream, checksums = _compress(whole_HW, use_predictor=layer.kind == "measure")
    halve = halve_classes if layer.kind == "classes" else halve_measures
    quarter_HW = halve(whole_HW, layer.nodata)
    if not count_codes:
        return PackedBlock(stream, checksums, quarter_HW, None)
    counts = _count_codes(whole_HW, layer.highest + 1)
    counts[layer.nodata] -= whole_HW.size - block_HW.size
    return PackedBlock(stream, checksums, quarter_HW, counts)


def frame_block(stream: bytes) -> bytes:
    """Put its size before a block and a copy of its last bytes behind it, as the file holds it."""
    return len(stream).to_bytes(FRAME_BYTES, "little") + stream + stream[-FRAME_BYTES:]


def _is_constant(block_HW: NDArray[Any], block_px: int, nodata: int) -> bool:
    """Test if the padded block has a single code. Such blocks are many, so this makes no temporary array."""
    code = block_HW[0, 0]
    if code != block_HW[-1, -1] or (code != nodata and block_HW.shape != (block_px, block_px)):
        return False
    if block_HW.strides[0] == 0:
        block_HW = block_HW[:1]  # one row, repeated
    return bool(block_HW.min() == block_HW.max())


def _count_codes(block_HW: NDArray[Any], num_codes: int) -> NDArray[np.int64]:
    """Count the pixels per code. Bytes are counted in pairs, because `bincount` takes the same time for any integer."""
    if block_HW.dtype == np.uint16:
        return np.bincount(block_HW.ravel(), minlength=num_codes)
    pairs = np.bincount(block_HW.view(np.uint16).ravel(), minlength=num_codes**2).reshape(num_codes, num_codes)
    counts: NDArray[np.int64] = pairs.sum(axis=0) + pairs.sum(axis=1)
    return counts


def _pad(block_HW: NDArray[Any], block_px: int, nodata: int) -> NDArray[Any]:
    """Fill a block at an edge up to full size with nodata."""
    if block_HW.shape == (block_px, block_px):
        return np.ascontiguousarray(block_HW)
    whole_HW = np.full((block_px, block_px), nodata, block_HW.dtype)
    whole_HW[: block_HW.shape[0], : block_HW.shape[1]] = block_HW
    return whole_HW


def _compress(block_HW: NDArray[Any], *, use_predictor: bool) -> tuple[bytes, BlockChecksums]:
    """Compress a block to a zlib stream.

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
def _compress_constant(code: int, dtype: str, block_px: int, *, use_predictor: bool) -> tuple[bytes, BlockChecksums]:
    """Compress a block of one code. Such blocks are many (open land, nodata, one tier) and always the same bytes."""
    return _compress(np.full((block_px, block_px), code, dtype), use_predictor=use_predictor)
