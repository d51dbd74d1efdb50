"""The tags that say what a raster is and where it lies, as GDAL itself writes them.

A GeoTIFF has many special cases: south-up and rotated grids, control points instead of a transform, sensor models,
coordinate systems without a number, nodata as text, metadata as XML. GDAL knows them all, and GDAL reads our files, so
GDAL writes these tags. rasterio makes a file of one pixel, and we take all its tags except those that describe the
layout of blocks. GDAL puts what a GeoTIFF cannot express (some coordinate systems) into a sidecar, and we take that
element too.
"""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import rasterio
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.errors import CRSError, NotGeoreferencedWarning
from rasterio.transform import Affine

from batchseg.errors import SceneError
from batchseg.layers.layer import Layer
from batchseg.output import tiff
from batchseg.scene.georef import Georef

_LAYOUT = {
    *(tiff.NEW_SUBFILE_TYPE, tiff.IMAGE_WIDTH, tiff.IMAGE_LENGTH, tiff.COMPRESSION, tiff.PREDICTOR),
    *(tiff.STRIP_OFFSETS, tiff.ROWS_PER_STRIP, tiff.STRIP_BYTE_COUNTS),
    *(tiff.TILE_WIDTH, tiff.TILE_LENGTH, tiff.TILE_OFFSETS, tiff.TILE_BYTE_COUNTS),
}


@dataclass(frozen=True, slots=True)
class Template:
    """The tags of a raster, without its pixels."""

    tags: dict[int, tiff.Tag]
    """Tags of the first directory, without those of the layout."""
    srs_xml: str | None
    """Coordinate system as an element of a PAM sidecar, where a GeoTIFF cannot hold it."""


def make_template(georef: Georef, layer: Layer, statistics: dict[str, str], folder: Path) -> Template:
    """Let GDAL write the tags of a raster.

    Args:
        georef: The size and the place of the raster.
        layer: The meaning of its codes.
        statistics: Tags of its band, see `make_statistics_tags`.
        folder: A folder for the file of one pixel.

    Raises:
        SceneError: GDAL cannot read the coordinate system, or a GeoTIFF cannot hold the layer.
    """
    path = folder / "template.tif"
    sidecar = folder / "template.tif.aux.xml"
    sidecar.unlink(missing_ok=True)
    # rasterio warns of a file without a transform or points, which is intended here.
    is_unplaced = georef.transform is None and not georef.gcps
    with warnings.catch_warnings() if is_unplaced else nullcontext():
        if is_unplaced:
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
        _write_one_pixel(path, georef, layer, statistics)
    with path.open("rb") as file:
        tags = tiff.read_directories(file, str(path))[0]
    srs_xml = None
    if sidecar.exists():
        srs_xml = _find_srs_element(sidecar.read_text(encoding="utf-8"), layer)
    return Template({code: tag for code, tag in tags.items() if code not in _LAYOUT}, srs_xml)


def _write_one_pixel(path: Path, georef: Georef, layer: Layer, statistics: dict[str, str]) -> None:
    shape = {"driver": "GTiff", "width": 1, "height": 1, "count": 1, "ENDIANNESS": "LITTLE"}
    shape |= {"dtype": layer.dtype, "nodata": layer.nodata}
    if layer.palette:
        shape["photometric"] = "PALETTE"
    with rasterio.open(path, "w", **shape, **_describe_place(georef)) as one_pixel:
        one_pixel.set_band_description(1, layer.name)
        if layer.palette:
            one_pixel.write_colormap(1, layer.palette)
        if georef.rpcs is not None:
            one_pixel.update_tags(ns="RPC", **georef.rpcs)
        one_pixel.update_tags(**layer.tags)
        one_pixel.update_tags(1, **statistics)


def _describe_place(georef: Georef) -> dict[str, Any]:
    try:
        if georef.gcps:
            crs = CRS.from_wkt(georef.gcps_crs_wkt) if georef.gcps_crs_wkt else CRS()
            return {"gcps": [_make_control_point(*point) for point in georef.gcps], "crs": crs}
        crs = CRS.from_wkt(georef.crs_wkt) if georef.crs_wkt else None
    except CRSError as error:
        raise SceneError(
            "GDAL must be able to read the coordinate system",
            got=str(error),
            todo="assign another one, for instance with gdal_edit.py -a_srs",
        ) from error
    transform = None if georef.transform is None else Affine(*georef.transform)
    return {"crs": crs, "transform": transform}


def _make_control_point(row: float, col: float, x: float, y: float, z: float) -> GroundControlPoint:
    return GroundControlPoint(row=row, col=col, x=x, y=y, z=z)


def _find_srs_element(pam_xml: str, layer: Layer) -> str:
    match = re.search(r"<SRS\b.*?</SRS>", pam_xml, flags=re.DOTALL)
    if match is None:
        raise SceneError("a GeoTIFF must be able to hold this layer", where=f"layer {layer.name}", got=pam_xml)
    return match.group()


def make_statistics_tags(counts: Sequence[int], nodata: int) -> dict[str, str]:
    """Make GDAL's statistics of a band, exact, from its histogram. Viewers stretch colours by them.

    Classes have them too, though their mean has no meaning. A program that finds no statistics reads the whole file to
    compute them, and GDAL then writes them into the sidecar that holds the class names.
    """
    valid = {code: num for code, num in enumerate(counts) if num and code != nodata}
    num_valid = sum(valid.values())
    percent = 100 * num_valid / sum(counts)
    if not valid:
        return {"STATISTICS_VALID_PERCENT": f"{percent:.4g}"}
    mean = sum(code * num for code, num in valid.items()) / num_valid
    variance = math.fsum((code - mean) ** 2 * num for code, num in valid.items()) / num_valid
    return {
        "STATISTICS_MAXIMUM": str(max(valid)),
        "STATISTICS_MEAN": repr(mean),
        "STATISTICS_MINIMUM": str(min(valid)),
        "STATISTICS_STDDEV": repr(math.sqrt(variance)),
        "STATISTICS_VALID_PERCENT": f"{percent:.4g}",
    }
