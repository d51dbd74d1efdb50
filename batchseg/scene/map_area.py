"""Finds maps whose projection does not keep areas, so that areas that are counted from pixels are wrong."""

from __future__ import annotations

import math

import pyproj
from pyproj.exceptions import CRSError

from batchseg.scene.area import measure_gsd_m
from batchseg.scene.georef import Georef

NOTEWORTHY_SHARE = 0.01
"""Least error of an area that is worth a note; systems for surveying, such as UTM, stay far below."""
EQUAL_AREA = "EPSG:6933"
"""A projection of the whole Earth, but for the poles, that keeps areas."""


def measure_map_excess(georef: Georef) -> float | None:
    """Measure by which share a pixel at the centre of a scene is larger on the map than on the ground.

    Returns:
        The share, below zero where the map shows it smaller; None where the scene is on no map in units of length.
    """
    if georef.transform is None or georef.crs_wkt is None:
        return None
    side_m = measure_gsd_m(georef)
    try:
        crs = pyproj.CRS(georef.crs_wkt)
    except CRSError:
        return None
    if side_m is None or not crs.is_projected:
        return None
    a, b, _, d, e, _ = georef.transform
    unit_m = float(crs.axis_info[0].unit_conversion_factor)
    return float(abs(a * e - b * d) * unit_m**2 / side_m**2 - 1)


def explain_map_areas(georef: Georef, file: str) -> str | None:
    """Explain why areas that are counted from pixels are wrong, and which command makes a file for right ones.

    Args:
        georef: Grid of the scene.
        file: Name of its map, for the command.

    Returns:
        A sentence, or None where such areas are right.
    """
    excess = measure_map_excess(georef)
    if excess is None or not math.isfinite(excess) or abs(excess) < NOTEWORTHY_SHARE:
        return None
    crs = pyproj.CRS(georef.crs_wkt)
    code = crs.to_authority(min_confidence=20)
    name = crs.name if code is None else f"{':'.join(code)} ({crs.name})"
    size = f"{abs(excess):.0%} too {'large' if excess > 0 else 'small'}"
    return (
        f"areas that are counted from pixels are {size} here, because {name} does not keep areas; the areas of this "
        f"report are those of the ground. For areas of your own, first run `gdalwarp -t_srs {EQUAL_AREA} -r near "
        f"{file} equal_area.tif`, and count the pixels of equal_area.tif"
    )
