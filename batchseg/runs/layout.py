"""Whether a scene's file is laid out for reading chunks, and what to do where it is not."""

from __future__ import annotations

from batchseg.remote import is_remote
from batchseg.scene.header import SceneHeader

MOST_AMPLIFICATION = 2.0
"""Tiles of 512 px in chunks of 8192 px with a halo of 64 px give 1.27."""


def amplification(header: SceneHeader, chunk_px: int, halo_px: int) -> float:
    """Pixels of all blocks that chunks with their halos touch, over the pixels of the scene."""
    (height, width), (block_rows, block_cols) = header.shape_px, header.block_px
    return _along(height, block_rows, chunk_px, halo_px) * _along(width, block_cols, chunk_px, halo_px)


def _along(size_px: int, block_px: int, chunk_px: int, halo_px: int) -> float:
    read_px = 0
    for start in range(0, size_px, chunk_px):
        first = max(0, start - halo_px) // block_px
        last = -(-min(size_px, start + chunk_px + halo_px) // block_px)
        read_px += min(size_px, last * block_px) - first * block_px
    return read_px / size_px


def layout_warning(header: SceneHeader, chunk_px: int, halo_px: int) -> str | None:
    """Of a scene on a server: there each block that is read twice is paid for twice, in time and in money."""
    factor = amplification(header, chunk_px, halo_px)
    if not is_remote(header.url) or factor < MOST_AMPLIFICATION:
        return None
    rows, cols = header.block_px
    return (
        f"{header.name}: its blocks of {cols} x {rows} px ({header.layout}) make chunks of {chunk_px} px read "
        f"{factor:.1f} times its bytes. Repair: gdal_translate -of COG -co COMPRESS=DEFLATE {header.name}.tif new.tif"
    )
