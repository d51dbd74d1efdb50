"""The head of a COG: the directories of all levels, pointing at blocks that follow it from the coarsest level on.

    head | blocks of the coarsest level | ... | blocks of full resolution

Within a level the blocks lie row by row. Each lies between its own size (4 bytes, little-endian) and a copy of its last
4 bytes. A note in front of the directories, by GDAL's rules, describes this structure. Because of it GDAL recognises
the file as a COG, fetches less of it over a network, and refuses to edit it in place.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from batchseg.output import tiff
from batchseg.output.block import FRAME_BYTES
from batchseg.output.pyramid import PyramidLevel

_STRUCTURE = (
    "LAYOUT=IFDS_BEFORE_DATA\nBLOCK_ORDER=ROW_MAJOR\nBLOCK_LEADER=SIZE_AS_UINT4\n"
    "BLOCK_TRAILER=LAST_4_BYTES_REPEATED\nKNOWN_INCOMPATIBLE_EDITION=NO\n "
)
_LEAD = f"GDAL_STRUCTURAL_METADATA_SIZE={len(_STRUCTURE):06d} bytes\n{_STRUCTURE}".encode()
_CLASSIC_LIMIT_BYTES = 4_000_000_000
_DEFLATE = 8
_HORIZONTAL = 2
_REDUCED_IMAGE = 1
_TAGS_OF_OVERVIEWS = (
    *(tiff.BITS_PER_SAMPLE, tiff.PHOTOMETRIC, tiff.SAMPLES_PER_PIXEL, tiff.PLANAR_CONFIG),
    *(tiff.COLOR_MAP, tiff.SAMPLE_FORMAT, tiff.GDAL_NODATA),
)

Tags = dict[int, tiff.Tag]


def lay_out_cog(
    tags: Tags, levels: Sequence[PyramidLevel], *, block_px: int, use_predictor: bool, force_big: bool
) -> bytes:
    """Lay out all bytes before the first block.

    Args:
        tags: The tags that GDAL wrote for this raster, see `gdal_tags.make_template`.
        levels: The spooled levels, finest first.
        block_px: The side of a block.
        use_predictor: Whether blocks hold differences between neighbours.
        force_big: Whether the file is a BigTIFF at any size.
    """
    directories = [
        _make_size_tags(level, block_px) | (tags if number == 0 else _select_overview_tags(tags))
        for number, level in enumerate(levels)
    ]
    if use_predictor:
        for directory in directories:
            directory[tiff.PREDICTOR] = tiff.make_tag(tiff.SHORT, _HORIZONTAL)
    pixels_bytes = sum(sum(level.sizes_bytes) + 2 * FRAME_BYTES * len(level.checksums) for level in levels)
    if not force_big:
        head = _lay_out_with_offsets(directories, levels, big=False)
        if len(head) + pixels_bytes < _CLASSIC_LIMIT_BYTES:
            return head
    return _lay_out_with_offsets(directories, levels, big=True)


def _make_size_tags(level: PyramidLevel, block_px: int) -> Tags:
    return {
        tiff.IMAGE_WIDTH: tiff.make_tag(tiff.LONG, level.width_px),
        tiff.IMAGE_LENGTH: tiff.make_tag(tiff.LONG, level.height_px),
        tiff.COMPRESSION: tiff.make_tag(tiff.SHORT, _DEFLATE),
        tiff.TILE_WIDTH: tiff.make_tag(tiff.SHORT, block_px),
        tiff.TILE_LENGTH: tiff.make_tag(tiff.SHORT, block_px),
        tiff.TILE_BYTE_COUNTS: tiff.make_tag(tiff.LONG, level.sizes_bytes),
    }


def _select_overview_tags(tags: Tags) -> Tags:
    reduced = {tiff.NEW_SUBFILE_TYPE: tiff.make_tag(tiff.LONG, _REDUCED_IMAGE)}
    return reduced | {code: tags[code] for code in _TAGS_OF_OVERVIEWS if code in tags}


def _lay_out_with_offsets(directories: Sequence[Tags], levels: Sequence[PyramidLevel], *, big: bool) -> bytes:
    """Lay the head out twice: offsets begin at its length, and the length does not depend on their values."""
    kind = tiff.LONG8 if big else tiff.LONG

    def lay_out(offsets: Sequence[NDArray[np.uint64]]) -> bytes:
        complete = [
            directory | {tiff.TILE_OFFSETS: tiff.Tag(kind, starts.astype(tiff.ITEM_TYPE[kind]).tobytes())}
            for directory, starts in zip(directories, offsets, strict=True)
        ]
        return tiff.lay_out_head(complete, lead=_LEAD, big=big)

    offsets = _compute_block_offsets(levels)
    head_bytes = np.uint64(len(lay_out(offsets)))
    return lay_out([starts + head_bytes for starts in offsets])


def _compute_block_offsets(levels: Sequence[PyramidLevel]) -> list[NDArray[np.uint64]]:
    """Compute where each block of each level begins, counted from the end of the head."""
    offsets, offset = [], 0
    for level in reversed(levels):
        framed_bytes = np.asarray(level.sizes_bytes, np.uint64) + np.uint64(2 * FRAME_BYTES)
        ends = np.cumsum(framed_bytes) + np.uint64(offset)
        offsets.append(ends - framed_bytes + np.uint64(FRAME_BYTES))
        offset = int(ends[-1])
    return offsets[::-1]
