"""Arrays of geometries."""

from __future__ import annotations

import numpy as np
import shapely
from numpy.typing import NDArray

Geometries = NDArray[np.object_]


def extract_polygons(geometries: Geometries) -> Geometries:
    """Extract single polygons; lines and points that repairing or clipping left over are dropped."""
    parts = shapely.get_parts(shapely.get_parts(geometries))
    enclose = (shapely.get_type_id(parts) == shapely.GeometryType.POLYGON) & ~shapely.is_empty(parts)
    kept: Geometries = parts[enclose]
    return kept
