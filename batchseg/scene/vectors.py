"""Reads polygons, points and their attributes from any vector file."""

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
from batchseg.known_secrets import learn_credentials
from batchseg.link_local import is_link_local, split_host
from batchseg.recipe.trust import NO_TRUST, Trust
from batchseg.remote import is_remote, list_siblings, read_object
from batchseg.scene.geometries import Geometries, extract_polygons
from batchseg.scene.names import gdal_path, url_of_gdal_path
from batchseg.scene.vector_door import check_vector, check_vector_driver, names_driver

_VECTOR_ERRORS = (DataSourceError, DataLayerError, FieldError, GeometryError, ValueError)
"""All errors that pyogrio raises for a file or a filter that it cannot use."""
_LAYER = "|layername="
"""Separator between a file and one of its layers, as QGIS writes it."""
_POLYGONAL = (shapely.GeometryType.POLYGON, shapely.GeometryType.MULTIPOLYGON)


@dataclass(frozen=True, slots=True)
class VectorLayer:
    """A layer of a vector file, which lies on this machine while it is open."""

    url: str
    """Address of the file, as the user wrote it."""
    path: str
    """Local path of the file, or of its copy."""
    name: str
    fields: tuple[str, ...]

    def read_polygons(self, where: str | None) -> tuple[Geometries, pyproj.CRS]:
        """Read all polygons that pass the filter, valid and flat, with their coordinate system."""
        geometries, crs = self._read(where)
        return _require_polygons(self.url, where, geometries), crs

    def read_polygons_and_points(self, where: str | None) -> tuple[Geometries, Geometries, pyproj.CRS]:
        """Read polygons and single points that pass the filter, with their coordinate system."""
        geometries, crs = self._read(where)
        are_polygons = np.isin(shapely.get_type_id(geometries), _POLYGONAL)
        parts = shapely.get_parts(geometries[~are_polygons])
        are_points = shapely.get_type_id(parts) == shapely.GeometryType.POINT
        points, others = parts[are_points], np.concatenate([geometries[are_polygons], parts[~are_points]])
        # A file may hold points only, but not nothing at all.
        polygons = others if len(points) and not len(others) else _require_polygons(self.url, where, others)
        return polygons, points, crs

    def _read(self, where: str | None) -> tuple[Geometries, pyproj.CRS]:
        """Read flat geometries of any type that are not empty."""
        # GDAL warns about single features; what was read is checked later: types, validity, number.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            try:
                facts, _, wkb, _ = pyogrio.raw.read(
                    gdal_path(self.path), layer=self.name, columns=[], where=where, force_2d=True
                )
            except _VECTOR_ERRORS as error:
                raise self._make_error(where, error) from error
        geometries: Geometries = shapely.from_wkb(np.array([], dtype=object) if wkb is None else wkb)
        is_there = ~shapely.is_missing(geometries) & ~shapely.is_empty(geometries)
        return geometries[is_there], _parse_crs(self.url, facts["crs"])

    def read_values(self, attribute: str, where: str | None) -> list[Any]:
        """Read the values of an attribute, each value once."""
        if attribute not in self.fields:
            raise RecipeError(
                f"the file has no attribute `{attribute}`, which should hold the class of each polygon",
                where=self.url,
                got=f"the attributes {', '.join(self.fields)}" if self.fields else "no attributes",
                todo="name the attribute that holds the class, or give one class to all polygons",
            )
        try:
            _, _, _, (values,) = pyogrio.raw.read(
                gdal_path(self.path), layer=self.name, columns=[attribute], where=where, read_geometry=False
            )
        except _VECTOR_ERRORS as error:
            raise self._make_error(where, error) from error
        return sorted(set(values.tolist()), key=repr)

    def _make_error(self, where: str | None, error: Exception) -> RecipeError:
        if where is None:
            return _make_file_error(self.url, error)
        return RecipeError(
            "the attribute filter cannot be used",
            where=self.url,
            expected=f"SQL such as `kind = 'town'` over the fields {', '.join(self.fields) or '(none)'}",
            got=f"`{where}` ({_join_lines(error)})",
            todo="correct the filter",
        )


@contextmanager
def open_layer(url: str, trust: Trust = NO_TRUST) -> Iterator[VectorLayer]:
    """Open a layer of a vector file. A remote file is fetched once, however often the layer is read.

    Args:
        url: The file, or a layer of it as `file|layername=name`.
        trust: What the author of the recipe allows the file to refer to.

    Raises:
        RecipeError: The file is missing or no vector file, it has several layers and none is named, or it could lead to
            files or servers that are not allowed.
    """
    learn_credentials(url)
    path, _, name = url.partition(_LAYER)
    path = url_of_gdal_path(path)
    with ExitStack() as stack:
        if is_remote(path):
            _check_host(path)
            path = _fetch(path, Path(stack.enter_context(TemporaryDirectory())))
        check_vector(url, path, trust)
        yield VectorLayer(url, path, *_find_layer(url, path, name, trust))


def _check_host(url: str) -> None:
    scheme, host, _ = split_host(url)
    if scheme in ("http", "https") and is_link_local(host, ask_dns=True):
        raise RecipeError(
            "link-local addresses are never read", where=url, todo="copy the file to a folder or a bucket"
        )


def _fetch(url: str, folder: Path) -> str:
    """Copy a file into a folder, and return its path. A shapefile is copied with its sidecars.

    pyogrio has a GDAL of its own, which would request the file with other settings.
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


def _find_layer(url: str, path: str, layer: str, trust: Trust) -> tuple[str, tuple[str, ...]]:
    if "://" not in path and not path.startswith("/vsi") and not Path(path).exists() and not names_driver(path):
        raise RecipeError("no such file", where=path, todo="check the path and the current folder")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        try:
            layer = layer or _find_only_layer(path)
            info = pyogrio.read_info(gdal_path(path), layer=layer)
        except _VECTOR_ERRORS as error:
            raise _make_file_error(url, error) from error
    check_vector_driver(url, str(info["driver"]), trust)
    return layer, tuple(map(str, info["fields"]))


def _find_only_layer(path: str) -> str:
    """Find the only layer with geometry; tables without geometry, such as the styles of QGIS, do not count."""
    names = [str(name) for name, kind in pyogrio.list_layers(gdal_path(path)) if kind is not None]
    if len(names) == 1:
        return names[0]
    raise RecipeError(
        "the file has several layers" if names else "the file has no layer with geometry",
        where=path,
        got=", ".join(names) or None,
        todo=f"say which: `{path}{_LAYER}{names[0]}`" if names else "give a file with polygons",
    )


def _require_polygons(url: str, where: str | None, geometries: Geometries) -> Geometries:
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
    # GEOS may divide by zero inside, and recovers.
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
        raise RecipeError("the coordinate system cannot be used", where=url, got=_join_lines(error)) from error


def _make_file_error(url: str, error: Exception) -> RecipeError:
    return RecipeError(
        "cannot be read as a vector file", where=url, got=_join_lines(error), todo="give a file of polygons"
    )


def _join_lines(error: Exception) -> str:
    return " ".join(str(error).split())
