"""Whether a scene's file is laid out for reading chunks, and what to do where it is not."""

from __future__ import annotations

from shlex import quote

from batchseg.recipe import Tiling
from batchseg.redact import make_public_url
from batchseg.remote import is_remote
from batchseg.resolve.job import Job
from batchseg.scene.names import gdal_path
from batchseg.scene.raster_file import RasterFile

MOST_REMOTE, MOST_LOCAL = 2.0, 6.0
"""How often a byte may be read. On a server each time is paid for, in money too; on a disk it is only decoded again.
Blocks of 512 px in chunks of 2048 px with a halo of 64 px give 2.25, in chunks of 8192 px 1.27."""
COG_BLOCK_PX = 512
"""What the repair gives."""


def amplification(raster: RasterFile, chunk_px: int, halo_px: int) -> float:
    """Pixels of all blocks that chunks with their halos touch, over the pixels of the scene."""
    (height, width), (block_rows, block_cols) = raster.shape_px, raster.block_px
    return _along(height, block_rows, chunk_px, halo_px) * _along(width, block_cols, chunk_px, halo_px)


def _along(size_px: int, block_px: int, chunk_px: int, halo_px: int) -> float:
    read_px = 0
    for start in range(0, size_px, chunk_px):
        first = max(0, start - halo_px) // block_px
        last = -(-min(size_px, start + chunk_px + halo_px) // block_px)
        read_px += min(size_px, last * block_px) - first * block_px
    return read_px / size_px


def layout_warnings(job: Job) -> dict[str, str]:
    """By scene; scenes that are laid out well are left out."""
    found = {name: layout_warning(name, scene.raster, job.chunk_px, job.halo_px) for name, scene in job.scenes.items()}
    return {name: text for name, text in found.items() if text is not None}


def layout_warning(name: str, raster: RasterFile, chunk_px: int, halo_px: int) -> str | None:
    """What is wrong with the way a scene's file is laid out for chunks like these, and the command that repairs it."""
    factor, most = amplification(raster, chunk_px, halo_px), MOST_REMOTE if is_remote(raster.url) else MOST_LOCAL
    if factor < most:
        return None
    rows, cols = raster.block_px
    found = (
        f"{name}: its blocks of {cols} x {rows} px ({raster.layout}) make chunks of {chunk_px} px read "
        f"{factor:.1f} times its bytes."
    )
    if rows == cols <= COG_BLOCK_PX:
        return (
            f"{found} There is nothing to repair; larger chunks read less: `tiling: chunk`, {Tiling().chunk} by default"
        )
    return (
        f"{found} Repair: gdal_translate -of COG -co COMPRESS=DEFLATE -co PREDICTOR=YES "
        f"-co BIGTIFF=IF_SAFER {quote(gdal_path(make_public_url(raster.url)))} new.tif"
    )
