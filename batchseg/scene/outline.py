"""The outline of a window of a scene in longitudes and latitudes."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pyproj
import shapely

from batchseg.scene.georef import Georef
from batchseg.scene.place import explain_missing_area, locate_corners_m
from tiling.span import Window

STEPS = 8
"""Number of points per side of an outline: a straight line of the scene's system need not be straight in degrees."""


def make_outline(georef: Georef, window: Window) -> Any:
    """Make a polygon of longitudes and latitudes around a window; None where the scene has no place on the Earth."""
    if explain_missing_area(georef) is not None:
        return None
    rows = np.linspace(window.rows.start, window.rows.stop, STEPS + 1)
    cols = np.linspace(window.cols.start, window.cols.stop, STEPS + 1)
    ring_m = _list_rim(locate_corners_m(georef, rows, cols))
    if not np.isfinite(ring_m).all():
        return None
    lon, lat, _ = _make_transformer().transform(*np.append(ring_m, ring_m[:1], axis=0).T)
    # A ring across the antimeridian goes on beyond 180 degrees instead of around the Earth.
    lon = np.unwrap(lon, period=360)
    if abs(lon[-1] - lon[0]) > 180:
        # The ring surrounds a pole, and the pole is an edge of the map.
        lon, lat = np.append(lon, lon[[-1, 0]]), np.append(lat, np.copysign([90.0, 90.0], lat[0]))
    return shapely.Polygon(np.column_stack([lon, lat]))


def _list_rim(grid: Any) -> Any:
    """List the outer points of a grid of points, in order around it."""
    return np.concatenate([grid[0, :-1], grid[:-1, -1], grid[-1, :0:-1], grid[:0:-1, 0]])


@cache
def _make_transformer() -> pyproj.Transformer:
    return pyproj.Transformer.from_crs("EPSG:4978", "EPSG:4979", always_xy=True)
