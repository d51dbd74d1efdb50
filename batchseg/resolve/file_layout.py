"""Finds scenes whose files are stored in a layout that makes chunks read too much, and how to repair them."""

from __future__ import annotations

from shlex import quote

from batchseg.recipe import Tiling
from batchseg.redact import make_public_url
from batchseg.remote import is_remote
from batchseg.resolve.job import Job
from batchseg.scene.names import gdal_path
from batchseg.scene.raster_file import RasterFile

MAX_REMOTE, MAX_LOCAL = 2.0, 6.0
"""The number of times that a byte may be read before a warning. A server charges each read; a disk decodes it again.
Blocks of 512 px in chunks of 2048 px with a halo of 64 px give 2.25, in chunks of 8192 px 1.27."""
COG_BLOCK_PX = 512
"""Side of a block in the repaired file."""


def find_layout_warnings(job: Job) -> dict[str, str]:
    """Find the warning of each scene whose layout needs one, by scene."""
    warnings = {
        name: find_layout_warning(name, scene.raster, job.chunk_px, job.halo_px) for name, scene in job.scenes.items()
    }
    return {name: warning for name, warning in warnings.items() if warning is not None}


def find_layout_warning(name: str, raster: RasterFile, chunk_px: int, halo_px: int) -> str | None:
    """Find what is wrong with the layout of a scene's file, and the command that repairs it; None when nothing is."""
    factor = compute_amplification(raster, chunk_px, halo_px)
    if factor < (MAX_REMOTE if is_remote(raster.url) else MAX_LOCAL):
        return None
    rows, cols = raster.block_px
    problem = (
        f"{name}: its blocks of {cols} x {rows} px ({raster.layout}) make chunks of {chunk_px} px read "
        f"{factor:.1f} times its bytes."
    )
    if rows == cols <= COG_BLOCK_PX:
        default = f"`tiling: chunk`, {Tiling().chunk} by default"
        return f"{problem} There is nothing to repair; larger chunks read less: {default}"
    return (
        f"{problem} Repair: gdal_translate -of COG -co COMPRESS=DEFLATE -co PREDICTOR=YES "
        f"-co BIGTIFF=IF_SAFER {quote(gdal_path(make_public_url(raster.url)))} new.tif"
    )


def compute_amplification(raster: RasterFile, chunk_px: int, halo_px: int) -> float:
    """Compute how often a pixel is read: pixels of all blocks that chunks with their halos touch, per pixel."""
    (height, width), (block_rows, block_cols) = raster.shape_px, raster.block_px
    along_rows = _compute_side(height, block_rows, chunk_px, halo_px)
    return along_rows * _compute_side(width, block_cols, chunk_px, halo_px)


def _compute_side(size_px: int, block_px: int, chunk_px: int, halo_px: int) -> float:
    read_px = 0
    for start in range(0, size_px, chunk_px):
        first = max(0, start - halo_px) // block_px
        last = -(-min(size_px, start + chunk_px + halo_px) // block_px)
        read_px += min(size_px, last * block_px) - first * block_px
    return read_px / size_px
