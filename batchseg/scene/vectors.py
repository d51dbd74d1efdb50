"""Polygons, points and their attributes from any vector file."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyogrio  # type: ignore[import-untyped, unused-ignore]
import pyproj
import shapely
from pyogrio.errors import DataLayerError, DataSourceError, FieldError, GeometryError  # type: ignore[import-untyped, unused-ignore]
from pyproj.exceptions import CRSError

from batchseg.errors import RecipeError, RefusedError, StorageError
from batchseg.remote import is_remote, list_siblings, read_object
from batchseg.scene.geometries import Geometries, extract_polygons
from batchseg.scene.names import gdal_path

_VECTOR_ERRORS = (DataSourceError, DataLayerError, FieldError, GeometryError, ValueError)
"""All that pyogrio raises for a file or a filter that it cannot use."""
_LAYER = "|layername="
"""Between a file and one of its layers, as QGIS writes it."""
_POLYGONAL = (shapely.GeometryType.POLYGON, shapely.GeometryType.MULTIPOLYGON)


@dataclass(frozen=True, slots=True)
class VectorLayer:
    """A layer of a vector file that lies on this machine while it is open."""

    url: str
    """As the user named it."""
    path: str
    name: str
    fields: tuple[str, ...]

    def polygons(self, where: str | None) -> tuple[Geometries, pyproj.CRS]:
        """All polygons that pass the filter, valid and flat, with their coordinate system."""
        geometries, crs = self._read(where)
        return _polygons_only(self.url, where, geometries), crs

    def polygons_and_points(self, where: str | None) -> tuple[Geometries, Geometries, pyproj.CRS]:
        """As above, and single points."""
        geometries, crs = self._read(where)
        whole = np.isin(shapely.get_type_id(geometries), _POLYGONAL)
        parts = shapely.get_parts(geometries[~whole])
        are_points = shapely.get_type_id(parts) == shapely.GeometryType.POINT
        points, others = parts[are_points], np.concatenate([geometries[whole], parts[~are_points]])
        # A file of points alone is one; a file of nothing is still told what it lacks.
        drawn = others if len(points) and not len(others) else _polygons_only(self.url, where, others)
        return drawn, points, crs

    def _read(self, where: str | None) -> tuple[Geometries, pyproj.CRS]:
        """Flat geometries that are not empty, whatever they are."""
        # What GDAL warns of in single features is judged below by what was read: types, validity, number.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            try:
                facts, _, wkb, _ = pyogrio.raw.read(
                    gdal_path(self.path), layer=self.name, columns=[], where=where, force_2d=True
                )
            except _VECTOR_ERRORS as error:
                raise self._unread(where, error) from error
        geometries: Geometries = shapely.from_wkb(np.array([], dtype=object) if wkb is None else wkb)
        there = ~shapely.is_missing(geometries) & ~shapely.is_empty(geometries)
        return geometries[there], _parse_crs(self.url, facts["crs"])

    def values(self, attribute: str, where: str | None) -> list[Any]:
        """What an attribute holds, each value once."""
        if attribute not in self.fields:
            raise RecipeError(
                "the polygons have no such attribute",
                where=self.url,
                expected=", ".join(self.fields) or "a layer with attributes",
                got=attribute,
                todo="name the attribute with their classes, or give one class to all of them",
            )
        try:
            _, _, _, (values,) = pyogrio.raw.read(
                gdal_path(self.path), layer=self.name, columns=[attribute], where=where, read_geometry=False
            )
        except _VECTOR_ERRORS as error:
            raise self._unread(where, error) from error
        return sorted(set(values.tolist()), key=repr)

    def _unread(self, where: str | None, error: Exception) -> RecipeError:
        if where is None:
            return RecipeError("cannot be read as a vector file", where=self.url, got=_one_line(error))
        return RecipeError(
            "the attribute filter cannot be used",
            where=self.url,
            expected=f"SQL such as `kind = 'town'` over the fields {', '.join(self.fields) or '(none)'}",
            got=f"`{where}` ({_one_line(error)})",
        )


@contextmanager
def open_layer(url: str) -> Iterator[VectorLayer]:
    """What is remote is fetched once, however much is asked of it."""
    path, _, name = url.partition(_LAYER)
    with ExitStack() as stack:
        if is_remote(path):
            path = _fetch(path, Path(stack.enter_context(TemporaryDirectory())))
        yield VectorLayer(url, path, *_layer_and_fields(url, path, name))


def _fetch(url: str, folder: Path) -> str:
    """A copy for as long as it is read: pyogrio has a GDAL of its own, which would ask with other settings. Shapefiles
    and their like bring what belongs to them.
    """
    try:
        parts = [url] if url.startswith("http") or PurePosixPath(url).suffix != ".shp" else list_siblings(url)
        for part in dict.fromkeys((url, *parts)):
            (folder / PurePosixPath(part.partition("?")[0]).name).write_bytes(read_object(part))
    except FileNotFoundError:
        raise RecipeError("no such file", where=url, todo="check the address") from None
    except (RefusedError, StorageError) as error:
        raise RecipeError(error.what, where=url, got=error.got, todo="check address and credentials") from None
    return str(folder / PurePosixPath(url.partition("?")[0]).name)


def _layer_and_fields(url: str, path: str, layer: str) -> tuple[str, tuple[str, ...]]:
    if "://" not in path and not path.startswith("/vsi") and not Path(path).exists():
        raise RecipeError("no such file", where=path, todo="check the path and the current folder")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        try:
            layer = layer or _only_layer(path)
            return layer, tuple(map(str, pyogrio.read_info(gdal_path(path), layer=layer)["fields"]))
        except _VECTOR_ERRORS as error:
            raise RecipeError("cannot be read as a vector file", where=url, got=_one_line(error)) from error


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
        return extract_polygons(shapely.make_valid(geometries))


def _parse_crs(url: str, text: str | None) -> pyproj.CRS:
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


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
