"""Polygons from any vector file, in the pixel coordinates of one scene."""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyogrio  # type: ignore[import-untyped, unused-ignore]
import pyproj
import shapely
from numpy.typing import NDArray
from pyogrio.errors import DataLayerError, DataSourceError, FieldError, GeometryError  # type: ignore[import-untyped, unused-ignore]
from pyproj.exceptions import CRSError, ProjError

from batchseg.errors import RecipeError, RefusedError, StorageError
from batchseg.remote import is_remote, read, siblings
from batchseg.scene.dataset import gdal_path
from batchseg.scene.georef import Georef
from batchseg.scene.polygons import Geometries, polygonal_parts

ToPx = Callable[[NDArray[np.float64]], NDArray[np.float64]]

_VECTOR_ERRORS = (DataSourceError, DataLayerError, FieldError, GeometryError, ValueError)
"""All that pyogrio raises for a file or a filter that it cannot use."""
_LAYER = "|layername="
"""Between a file and one of its layers, as QGIS writes it."""
_POLYGONAL = (shapely.GeometryType.POLYGON, shapely.GeometryType.MULTIPOLYGON)
_TOLERANCE_PX = 0.125
"""How far a reprojected straight edge may run from the true curve."""
_MAX_SPLITS = 14


def read_polygonal(url: str, where: str | None) -> tuple[Geometries, pyproj.CRS]:
    """All polygons that pass the filter, valid and flat, with their coordinate system."""
    path, _, layer = url.partition(_LAYER)
    if is_remote(path):
        with TemporaryDirectory() as folder:
            return _read(url, _fetched(path, Path(folder)), layer, where)
    return _read(url, path, layer, where)


def _fetched(url: str, folder: Path) -> str:
    """A copy for as long as it is read: pyogrio has a GDAL of its own, which would ask with other settings. Shapefiles
    and their like bring what belongs to them.
    """
    try:
        parts = [url] if url.startswith("http") or PurePosixPath(url).suffix != ".shp" else siblings(url)
        for part in dict.fromkeys((url, *parts)):
            (folder / PurePosixPath(part.partition("?")[0]).name).write_bytes(read(part))
    except FileNotFoundError:
        raise RecipeError("no such file", where=url, todo="check the address") from None
    except (RefusedError, StorageError) as error:
        raise RecipeError(error.what, where=url, got=error.got, todo="check address and credentials") from None
    return str(folder / PurePosixPath(url.partition("?")[0]).name)


def _read(url: str, path: str, layer: str, where: str | None) -> tuple[Geometries, pyproj.CRS]:
    if "://" not in path and not path.startswith("/vsi") and not Path(path).exists():
        raise RecipeError("no such file", where=path, todo="check the path and the current folder")
    # What GDAL warns of in single features is judged below by what was read: types, validity, number.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        try:
            layer = layer or _only_layer(path)
            fields = pyogrio.read_info(gdal_path(path), layer=layer)["fields"]
        except _VECTOR_ERRORS as error:
            raise RecipeError("cannot be read as a vector file", where=url, got=_one_line(error)) from error
        try:
            facts, _, wkb, _ = pyogrio.raw.read(gdal_path(path), layer=layer, columns=[], where=where, force_2d=True)
        except _VECTOR_ERRORS as error:
            raise _unread(url, where, fields, error) from error
    geometries: Geometries = shapely.from_wkb(np.array([], dtype=object) if wkb is None else wkb)
    there = ~shapely.is_missing(geometries) & ~shapely.is_empty(geometries)
    return _polygons_only(url, where, geometries[there]), _crs_of(url, facts["crs"])


def _only_layer(path: str) -> str:
    """Tables without geometry, such as the styles that QGIS keeps in a GeoPackage, are no choice."""
    names = [str(name) for name, kind in pyogrio.list_layers(gdal_path(path)) if kind is not None]
    if len(names) == 1:
        return names[0]
    raise RecipeError(
        "the file has several layers" if names else "the file has no layer with geometry",
        where=path,
        got=", ".join(names) or None,
        todo=f"say which: `{path}{_LAYER}{names[0]}`" if names else None,
    )


def _unread(url: str, where: str | None, fields: NDArray[Any], error: Exception) -> RecipeError:
    if where is None:
        return RecipeError("cannot be read as a vector file", where=url, got=_one_line(error))
    return RecipeError(
        "the attribute filter cannot be used",
        where=url,
        expected=f"SQL such as `kind = 'town'` over the fields {', '.join(map(str, fields)) or '(none)'}",
        got=f"`{where}` ({_one_line(error)})",
    )


def _polygons_only(url: str, where: str | None, geometries: Geometries) -> Geometries:
    if not len(geometries):
        raise RecipeError(
            "there is no polygon" + (f" that passes `{where}`" if where else ""), where=url, expected="at least one"
        )
    other = ~np.isin(shapely.get_type_id(geometries), _POLYGONAL)
    if other.any():
        raise RecipeError(
            "only polygons enclose ground",
            where=url,
            got=f"{int(other.sum())} of {len(geometries)} are {geometries[other][0].geom_type}",
            todo="buffer points and lines to polygons first",
        )
    # The library may divide by zero inside, and recover.
    with np.errstate(all="ignore"):
        return polygonal_parts(shapely.make_valid(geometries))


def _crs_of(url: str, text: str | None) -> pyproj.CRS:
    if not text:
        raise RecipeError(
            "the vector file names no coordinate system",
            where=url,
            todo="assign the right one, e.g. `ogr2ogr -a_srs EPSG:32643 new.gpkg old.shp`",
        )
    try:
        return pyproj.CRS(text)
    except CRSError as error:
        raise RecipeError("the coordinate system cannot be used", where=url, got=_one_line(error)) from error


def to_pixels(url: str, polygons: Geometries, crs: pyproj.CRS, georef: Georef) -> Geometries:
    """The parts of polygons near the scene, in pixels: x = column, y = row.

    An edge is straight in the system that it was drawn in, so it gets more points where the scene's bends it.
    """
    if georef.crs_wkt is None or georef.transform is None:
        raise RecipeError(
            "polygons need a scene with a coordinate system and a transform",
            where=url,
            got="neither" if georef.crs_wkt is None and georef.transform is None else "only one of them",
            todo="warp the scene to a grid first, or drop the polygons",
        )
    scene_crs = pyproj.CRS(georef.crs_wkt)
    try:
        forward = pyproj.Transformer.from_crs(crs.to_2d(), scene_crs.to_2d(), always_xy=True)
        backward = pyproj.Transformer.from_crs(scene_crs.to_2d(), crs.to_2d(), always_xy=True)
    except (CRSError, ProjError) as error:
        raise RecipeError("no way from its coordinates to the scene's", where=url, got=_one_line(error)) from error
    to_px = _to_px(forward, georef.transform)
    with np.errstate(all="ignore"):
        near = clip(polygons, _boxes(georef, backward, geographic=crs.is_geographic))
    if not crs.equals(scene_crs, ignore_axis_order=True):
        near = _densified(near, to_px)
    projected = shapely.transform(near, to_px)
    if not np.isfinite(shapely.get_coordinates(projected)).all():
        raise RecipeError("a polygon near the scene reaches where the scene's coordinates end", where=url)
    with np.errstate(all="ignore"):
        pixel_space = polygonal_parts(shapely.make_valid(projected))
    if not scene_crs.is_geographic:
        return pixel_space
    return _all_turns(pixel_space, georef.transform, math.tau / scene_crs.axis_info[0].unit_conversion_factor)


def _all_turns(pixel_space: Geometries, transform: tuple[float, ...], turn: float) -> Geometries:
    """The same ground one turn of the Earth to the left and to the right: longitudes may run from 0 to 360."""
    a, b, _, d, e, _ = transform
    turn_px = np.array([e, -d]) * turn / (a * e - b * d)
    turns = [shapely.transform(pixel_space, functools.partial(np.add, turns * turn_px)) for turns in (-1, 0, 1)]
    return np.concatenate(turns)


def _to_px(forward: pyproj.Transformer, transform: tuple[float, ...]) -> ToPx:
    a, b, c, d, e, f = transform
    scale = a * e - b * d

    def to_px(xy_N2: NDArray[np.float64]) -> NDArray[np.float64]:
        x, y = forward.transform(xy_N2[:, 0], xy_N2[:, 1])
        x, y = np.asarray(x) - c, np.asarray(y) - f
        return np.stack([(e * x - b * y) / scale, (a * y - d * x) / scale], axis=1)

    return to_px


def _boxes(
    georef: Georef, backward: pyproj.Transformer, *, geographic: bool
) -> list[tuple[float, float, float, float]]:
    """The scene's extent in the polygons' system, with room around it; two boxes where it crosses the antimeridian.

    Far from the scene a projection may fold or end, so only what is near is ever projected.
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
    spans = _longitudes(x) if geographic else [(float(x.min()), float(x.max()))]
    if geographic:
        # The file may count from 0 to 360, or run on beyond 180.
        spans = [(left + turn, right + turn) for left, right in spans for turn in (-360, 0, 360)]
    return [
        (left - margin - 0.05 * (right - left), low - margin, right + margin + 0.05 * (right - left), high + margin)
        for left, right in spans
    ]


def _longitudes(lon: NDArray[np.float64]) -> list[tuple[float, float]]:
    """The shortest arcs that hold all longitudes: the widest gap between them is outside."""
    ordered = np.unique(np.mod(lon + 180, 360) - 180)
    gaps = np.diff(ordered)
    if not len(gaps) or gaps.max() <= ordered[0] + 360 - ordered[-1]:
        return [(float(ordered[0]), float(ordered[-1]))]
    widest = int(gaps.argmax())
    return [(float(ordered[widest + 1]), 180.0), (-180.0, float(ordered[widest]))]


def clip(polygons: Geometries, boxes: list[tuple[float, float, float, float]]) -> Geometries:
    low_N2, high_N2 = np.split(shapely.bounds(polygons), 2, axis=1)
    kept: list[Geometries] = []
    for box in boxes:
        inside = ((low_N2 >= box[:2]) & (high_N2 <= box[2:])).all(axis=1)
        cut = ((low_N2 <= box[2:]) & (high_N2 >= box[:2])).all(axis=1) & ~inside
        kept += [polygons[inside], shapely.intersection(polygons[cut], shapely.box(*box))]
    return polygonal_parts(np.concatenate(kept)) if kept else np.array([], dtype=object)


def _densified(polygons: Geometries, to_px: ToPx) -> Geometries:
    """The polygons with points added until each edge, projected, is straight to an eighth of a pixel."""
    xy_N2, owner_N = shapely.get_coordinates(polygons, return_index=True)
    bent = _bent(xy_N2, to_px) & (owner_N[1:] == owner_N[:-1])
    # Most layers are of small things, such as roofs, of which none is bent.
    for number in np.unique(owner_N[1:][bent]):
        outer, *holes = (
            _densified_ring(shapely.get_coordinates(ring), to_px)
            for ring in (polygons[number].exterior, *polygons[number].interiors)
        )
        polygons[number] = shapely.Polygon(outer, holes)
    return polygons


def _densified_ring(xy_N2: NDArray[np.float64], to_px: ToPx) -> NDArray[np.float64]:
    for _ in range(_MAX_SPLITS):
        bent = _bent(xy_N2, to_px)
        if not bent.any():
            break
        middles = (xy_N2[:-1] + xy_N2[1:])[bent] / 2
        xy_N2 = np.insert(xy_N2, np.flatnonzero(bent) + 1, middles, axis=0)
    return xy_N2


def _bent(xy_N2: NDArray[np.float64], to_px: ToPx) -> NDArray[np.bool_]:
    """Edges that run too far from where their ends, projected, say they run."""
    start, step = xy_N2[:-1], np.diff(xy_N2, axis=0)
    bent = np.zeros(len(step), bool)
    # Between two polygons, which is no edge, the projection may end.
    with np.errstate(invalid="ignore"):
        ends_px = to_px(xy_N2)
        for part in (0.25, 0.5, 0.75):
            straight_px = ends_px[:-1] + part * np.diff(ends_px, axis=0)
            bent |= np.hypot(*(to_px(start + part * step) - straight_px).T) > _TOLERANCE_PX
    return bent


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
