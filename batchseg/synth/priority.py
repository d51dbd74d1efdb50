"""Priority areas of a scene: outlines around the dense parts of its towns, as GeoJSON."""

from __future__ import annotations

from typing import Any

import numpy as np
import shapely
from rasterio.transform import Affine
from rasterio.warp import transform as reproject

from batchseg.schema import JsonObject
from batchseg.synth import houses, town
from batchseg.synth.noise import Bounds

_AROUND_PX = 38.0  # ground this close to a building belongs to it
_SMOOTH_PX = 12.0
_LEAST_PX2 = 6_000.0


def find_priority_areas(seed: int, size_px: int, crs: str, transform: Affine) -> JsonObject:
    """A GeoJSON feature collection in longitude and latitude, with one feature per town."""
    scene = shapely.box(0.0, 0.0, float(size_px), float(size_px))
    features: list[JsonObject] = []
    for t in town.find_towns(seed, Bounds(0.0, float(size_px), 0.0, float(size_px))):
        buildings = houses.place_houses(seed, *t.node)
        area = shapely.intersection(_outline_dense_part(buildings), scene)
        polygons = [p for p in shapely.get_parts(area) if p.geom_type == "Polygon" and p.area >= _LEAST_PX2]
        if polygons:
            features.append(
                {
                    "type": "Feature",
                    "properties": {"name": f"town {len(features) + 1}", "buildings": len(buildings.word)},
                    "geometry": _make_geometry(polygons, crs, transform),
                }
            )
    return {"type": "FeatureCollection", "features": features}


def _outline_dense_part(buildings: houses.Houses) -> Any:
    """The ground around a town's buildings, without its thin parts."""
    at = shapely.points(buildings.table[:, 1].astype(np.float64), buildings.table[:, 0].astype(np.float64))
    reach = np.maximum(_AROUND_PX, buildings.table[:, 4:6].max(axis=1, initial=0.0).astype(np.float64))
    built = shapely.union_all(shapely.buffer(at, reach, quad_segs=4))
    solid = shapely.polygons(shapely.get_exterior_ring(shapely.get_parts(built)))  # no holes
    smooth = shapely.buffer(shapely.buffer(solid, -_SMOOTH_PX, quad_segs=4), _SMOOTH_PX, quad_segs=4)
    return shapely.simplify(shapely.union_all(smooth), 3.0)


def _make_geometry(polygons: list[Any], crs: str, transform: Affine) -> JsonObject:
    coordinates = [[_make_ring(np.asarray(p.exterior.coords), crs, transform)] for p in polygons]
    if len(coordinates) == 1:
        return {"type": "Polygon", "coordinates": coordinates[0]}
    return {"type": "MultiPolygon", "coordinates": coordinates}


def _make_ring(pixels: np.ndarray, crs: str, transform: Affine) -> list[list[float]]:
    """A closed outer ring in degrees, anticlockwise as GeoJSON requires."""
    east = transform.c + pixels[:, 0] * transform.a
    north = transform.f + pixels[:, 1] * transform.e
    lon, lat = reproject(crs, "EPSG:4326", east.tolist(), north.tolist())
    ring = shapely.LinearRing(np.column_stack([lon, lat]))
    points = list(ring.coords) if ring.is_ccw else list(ring.coords)[::-1]
    return [[round(x, 7), round(y, 7)] for x, y in points]
