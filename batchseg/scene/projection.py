"""Projects coordinates of a vector file to the pixels of one scene."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import numpy as np
import pyproj
import shapely
from numpy.typing import NDArray
from pyproj.exceptions import CRSError, ProjError

from batchseg.errors import RecipeError
from batchseg.scene.geometries import Geometries, extract_polygons
from batchseg.scene.georef import Georef

ToPx = Callable[[NDArray[np.float64]], NDArray[np.float64]]

_TOLERANCE_PX = 0.125
"""Largest distance of a reprojected edge from the true curve."""
_MAX_SPLITS = 14
"""Number of times that an edge may be halved."""


def project_polygons(url: str, polygons: Geometries, crs: pyproj.CRS, georef: Georef) -> Geometries:
    """Project the parts of polygons near the scene to pixels: x = column, y = row.

    An edge is straight in the system that it was drawn in, so it gets more points where the scene's system bends it.
    """
    scene_crs, transform = _require_place(url, georef)
    forward, backward = _make_transformer(url, crs, scene_crs), _make_transformer(url, scene_crs, crs)
    to_px = _make_to_px(forward, transform)
    with np.errstate(all="ignore"):
        near = clip_polygons(polygons, _find_boxes(georef, backward, geographic=crs.is_geographic))
    if not crs.equals(scene_crs, ignore_axis_order=True):
        near = _densify(near, to_px)
    projected = shapely.transform(near, to_px)
    if not np.isfinite(shapely.get_coordinates(projected)).all():
        raise RecipeError(
            "a polygon near the scene reaches beyond the end of the scene's coordinates",
            where=url,
            todo="clip the polygons to the surroundings of the scene",
        )
    with np.errstate(all="ignore"):
        pixel_space = extract_polygons(shapely.make_valid(projected))
    if not scene_crs.is_geographic:
        return pixel_space
    return _repeat_turns(pixel_space, transform, scene_crs)


def project_points(url: str, points: Geometries, crs: pyproj.CRS, georef: Georef) -> Geometries:
    """Project points to squares around the centres of their pixels; some may be outside of the scene."""
    scene_crs, transform = _require_place(url, georef)
    xy_N2 = shapely.get_coordinates(points)
    near_N = np.zeros(len(xy_N2), bool)
    for box in _find_boxes(georef, _make_transformer(url, scene_crs, crs), geographic=crs.is_geographic):
        near_N |= ((xy_N2 >= box[:2]) & (xy_N2 <= box[2:])).all(axis=1)
    xy_N2 = _make_to_px(_make_transformer(url, crs, scene_crs), transform)(xy_N2[near_N])
    pixel_space: Geometries = shapely.points(xy_N2[np.isfinite(xy_N2).all(axis=1)])
    if scene_crs.is_geographic:
        pixel_space = _repeat_turns(pixel_space, transform, scene_crs)
    col_N, row_N = np.floor(shapely.get_coordinates(pixel_space)).T
    squares: Geometries = shapely.box(col_N + 0.25, row_N + 0.25, col_N + 0.75, row_N + 0.75)
    return squares


def _require_place(url: str, georef: Georef) -> tuple[pyproj.CRS, tuple[float, ...]]:
    if georef.crs_wkt is None or georef.transform is None:
        raise RecipeError(
            "polygons need a scene with a coordinate system and a transform",
            where=url,
            got="neither" if georef.crs_wkt is None and georef.transform is None else "only one of them",
            todo="warp the scene to a grid first, or drop the polygons",
        )
    return pyproj.CRS(georef.crs_wkt), georef.transform


def _make_transformer(url: str, from_: pyproj.CRS, to: pyproj.CRS) -> pyproj.Transformer:
    try:
        return pyproj.Transformer.from_crs(from_.to_2d(), to.to_2d(), always_xy=True)
    except (CRSError, ProjError) as error:
        raise RecipeError(
            "its coordinates cannot be transformed to the scene's",
            where=url,
            got=" ".join(str(error).split()),
            todo="save the polygons in the coordinate system of the scene",
        ) from error


def _repeat_turns(pixel_space: Geometries, transform: tuple[float, ...], scene_crs: pyproj.CRS) -> Geometries:
    """Repeat the ground one turn of the Earth to the left and to the right: longitudes may run from 0 to 360."""
    a, b, _, d, e, _ = transform
    turn = math.tau / scene_crs.axis_info[0].unit_conversion_factor
    turn_px = np.array([e, -d]) * turn / (a * e - b * d)
    turns = [shapely.transform(pixel_space, functools.partial(np.add, turns * turn_px)) for turns in (-1, 0, 1)]
    return np.concatenate(turns)


def _make_to_px(forward: pyproj.Transformer, transform: tuple[float, ...]) -> ToPx:
    a, b, c, d, e, f = transform
    scale = a * e - b * d

    def to_px(xy_N2: NDArray[np.float64]) -> NDArray[np.float64]:
        x, y = forward.transform(xy_N2[:, 0], xy_N2[:, 1])
        x, y = np.asarray(x) - c, np.asarray(y) - f
        return np.stack([(e * x - b * y) / scale, (a * y - d * x) / scale], axis=1)

    return to_px


def _find_boxes(
    georef: Georef, backward: pyproj.Transformer, *, geographic: bool
) -> list[tuple[float, float, float, float]]:
    """Find the scene's extent in the polygons' system, with a margin; two boxes where it crosses the antimeridian.

    Far from the scene a projection may fold or end, so only polygons near the scene are projected.
    """
    assert georef.transform is not None
    a, b, c, d, e, f = georef.transform
    cols, rows = np.meshgrid(np.linspace(0, georef.width_px, 65), np.linspace(0, georef.height_px, 65))
    x, y = backward.transform(a * cols + b * rows + c, d * cols + e * rows + f)
    known = np.isfinite(x) & np.isfinite(y)
    x, y = np.asarray(x)[known], np.asarray(y)[known]
    if not len(x):
        return []
    low, high = float(y.min()), float(y.max())
    margin = 0.05 * max(high - low, 1e-9)
    spans = _find_longitude_spans(x) if geographic else [(float(x.min()), float(x.max()))]
    if geographic:
        # The file may count from 0 to 360, or run on beyond 180.
        spans = [(left + turn, right + turn) for left, right in spans for turn in (-360, 0, 360)]
    return [
        (left - margin - 0.05 * (right - left), low - margin, right + margin + 0.05 * (right - left), high + margin)
        for left, right in spans
    ]


def _find_longitude_spans(lon: NDArray[np.float64]) -> list[tuple[float, float]]:
    """Find the shortest arcs that hold all longitudes: the widest gap between longitudes is outside."""
    ordered = np.unique(np.mod(lon + 180, 360) - 180)
    gaps = np.diff(ordered)
    if not len(gaps) or gaps.max() <= ordered[0] + 360 - ordered[-1]:
        return [(float(ordered[0]), float(ordered[-1]))]
    widest = int(gaps.argmax())
    return [(float(ordered[widest + 1]), 180.0), (-180.0, float(ordered[widest]))]


def clip_polygons(polygons: Geometries, boxes: list[tuple[float, float, float, float]]) -> Geometries:
    """Clip polygons to boxes; a polygon inside a box stays as it is."""
    low_N2, high_N2 = np.split(shapely.bounds(polygons), 2, axis=1)
    kept: list[Geometries] = []
    for box in boxes:
        inside = ((low_N2 >= box[:2]) & (high_N2 <= box[2:])).all(axis=1)
        cut = ((low_N2 <= box[2:]) & (high_N2 >= box[:2])).all(axis=1) & ~inside
        kept += [polygons[inside], shapely.intersection(polygons[cut], shapely.box(*box))]
    return extract_polygons(np.concatenate(kept)) if kept else np.array([], dtype=object)


def _densify(polygons: Geometries, to_px: ToPx) -> Geometries:
    """Add points to polygons until each projected edge is straight to an eighth of a pixel."""
    xy_N2, owner_N = shapely.get_coordinates(polygons, return_index=True)
    bent = _find_bent(xy_N2, to_px) & (owner_N[1:] == owner_N[:-1])
    # Most layers hold small things, such as roofs, without bent edges.
    for number in np.unique(owner_N[1:][bent]):
        outer, *holes = (
            _densify_ring(shapely.get_coordinates(ring), to_px)
            for ring in (polygons[number].exterior, *polygons[number].interiors)
        )
        polygons[number] = shapely.Polygon(outer, holes)
    return polygons


def _densify_ring(xy_N2: NDArray[np.float64], to_px: ToPx) -> NDArray[np.float64]:
    for _ in range(_MAX_SPLITS):
        bent = _find_bent(xy_N2, to_px)
        if not bent.any():
            break
        middles = (xy_N2[:-1] + xy_N2[1:])[bent] / 2
        xy_N2 = np.insert(xy_N2, np.flatnonzero(bent) + 1, middles, axis=0)
    return xy_N2


def _find_bent(xy_N2: NDArray[np.float64], to_px: ToPx) -> NDArray[np.bool_]:
    """Find edges that, projected, run too far from the straight line between their ends."""
    start, step = xy_N2[:-1], np.diff(xy_N2, axis=0)
    bent = np.zeros(len(step), bool)
    # The line between two polygons is no edge, and the projection may end on it.
    with np.errstate(invalid="ignore"):
        ends_px = to_px(xy_N2)
        for part in (0.25, 0.5, 0.75):
            straight_px = ends_px[:-1] + part * np.diff(ends_px, axis=0)
            bent |= np.hypot(*(to_px(start + part * step) - straight_px).T) > _TOLERANCE_PX
    return bent
