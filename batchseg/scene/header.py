"""Reads what a scene's file holds besides pixels: grid, place, bands, data type, and marks of invalid pixels.

Nothing in this module is a decision of the run. A file that cannot be a scene is refused with one line; no warning and
no exception of GDAL leaves this module.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from rasterio.enums import MaskFlags
from rasterio.errors import CRSError
from rasterio.windows import Window as GdalWindow

from batchseg.errors import ReadError, RefusedError, SceneError, StorageError
from batchseg.recipe.trust import NO_TRUST, Trust
from batchseg.redact import make_public_url, redact
from batchseg.remote import is_remote
from batchseg.scene.dataset import (
    GDAL_ERRORS,
    check_rights,
    find_reason,
    gdal,
    retry_if_remote,
)
from batchseg.scene.georef import IDENTITY, Georef
from batchseg.scene.identity import check_identity, read_identity, read_parts
from batchseg.scene.names import gdal_path, make_absolute
from batchseg.scene.pixel_files import list_pixel_files
from batchseg.scene.raster_door import OpenRaster, open_raster
from batchseg.scene.raster_file import Band, MaskFacts, RasterFile

_COMMON_NAMES = (
    # The first match counts: "red edge" before "red", "short-wave infrared" before "infrared".
    ("alpha", r"alpha|opacity|transparency"),
    ("rededge", r"red ?edge ?\d*"),
    ("swir", r"swir ?\d*|short ?wave infra ?red"),
    ("lwir", r"lwir ?\d*|tir ?\d*|thermal|long ?wave infra ?red"),
    ("nir", r"nir ?\d*|near ?infra ?red|near ir|infra ?red"),
    ("coastal", r"coastal|coastal blue|aerosol"),
    ("pan", r"pan|panchromatic"),
    ("yellow", r"yellow"),
)
_COLOURS = ("red", "green", "blue")
_NOT_NAMES = frozenset({"undefined", "gray", "grey"})


@dataclass(frozen=True, slots=True, kw_only=True)
class SceneHeader:
    """Contents of the header of a scene's file: the grid that the scene is mapped on, and the file that is read."""

    name: str
    """Name of the scene's output folder, made from the file's name."""
    grid: Georef
    raster: RasterFile


def read_header(url: str, trust: Trust = NO_TRUST) -> SceneHeader:
    """Read the header of a scene.

    Args:
        url: A local file, a URL, or GDAL's own name of a raster.
        trust: What the author of the recipe allows the file to refer to.

    Raises:
        SceneError: GDAL cannot read it, it is no single raster with bands of plain numbers, its driver is not allowed,
            it refers to files that are not allowed, or its version cannot be known.
    """
    whole = make_absolute(url)
    _check_scheme(url)
    try:
        return retry_if_remote(whole, lambda: _read_header(url, whole, trust))
    except ReadError as error:
        raise _make_refusal(url, error.__cause__ or error) from error
    except FileNotFoundError:
        raise SceneError("there is no such object", where=url, todo="check the address") from None
    except (RefusedError, StorageError) as error:
        raise SceneError(error.what, where=url, got=error.got, todo="check address and credentials") from None


def _read_header(url: str, whole: str, trust: Trust) -> SceneHeader:
    with gdal():
        try:
            with open_raster(whole, trust) as raster:
                return _make_header(whole, raster)
        except GDAL_ERRORS as error:
            if not is_remote(whole) or "not recognized as" in str(error):
                raise _make_refusal(url, error) from error
            check_rights(whole)
            raise ReadError("the header could not be read", where=url) from error
        except UnicodeDecodeError as error:
            raise SceneError(
                "text in the header must be UTF-8",
                where=url,
                got=repr(error.object),
                todo="write the file again with its text in UTF-8",
            ) from error


def _check_scheme(url: str) -> None:
    if is_remote(url) and gdal_path(url) == url:
        raise SceneError(
            "GDAL has no reader for this kind of address",
            where=url,
            expected="s3://, gs://, az://, http:// or https://, a file, or GDAL's own name for it",
            todo="copy the file to one of these places",
        )


def _make_refusal(url: str, error: BaseException) -> SceneError:
    if "://" not in url and not url.startswith("/vsi") and isinstance(error, OSError) and not Path(url).exists():
        return SceneError("no such file", where=url, todo="check the path and the current folder")
    return SceneError("GDAL cannot open it as a raster", where=url, got=find_reason(error))


def _make_header(url: str, opened: OpenRaster) -> SceneHeader:
    dataset = opened.dataset
    if dataset.count == 0:
        raise _make_bands_refusal(url, dataset)
    dtype = _find_common_dtype(url, dataset.dtypes)
    bands = _read_bands(dataset)
    files = list_pixel_files(url, opened.files, opened.visited)
    identity = read_identity(url, tuple(files), by_text=True)
    check_identity(url, identity)
    raster = RasterFile(
        url=url,
        shape_px=(dataset.height, dataset.width),
        bands=bands,
        dtype=dtype,
        masks=_read_masks(dataset, bands),
        driver=dataset.driver,
        block_px=tuple(dataset.block_shapes[0]),
        layout="tiled" if dataset.block_shapes[0][1] < dataset.width or dataset.profile.get("tiled") else "striped",
        interleave="pixel" if dataset.tags(ns="IMAGE_STRUCTURE").get("INTERLEAVE") == "PIXEL" else "band",
        compression=dataset.tags(ns="IMAGE_STRUCTURE").get("COMPRESSION"),
        palette=any(band.common == "palette" for band in bands),
        identity=identity,
        files=opened.files,
        parts=read_parts(files),
    )
    return SceneHeader(name=_find_scene_name(url), grid=_read_grid(url, dataset), raster=raster)


def _make_bands_refusal(url: str, dataset: Any) -> SceneError:
    if not dataset.subdatasets:
        return SceneError("the raster must have a band, but it has none", where=url, todo="give another file")
    return SceneError(
        "the file is a container of several rasters",
        where=url,
        got=", ".join(dataset.subdatasets[:8]),
        todo="give one of them as the scene",
    )


def _find_common_dtype(url: str, dtypes: tuple[str, ...]) -> str:
    """Find one data type that holds the values of all bands exactly."""
    if any(dtype.startswith("complex") for dtype in dtypes):
        raise SceneError(
            "complex pixels are not supported", where=url, got=dtypes[0], todo="save amplitude or phase as a raster"
        )
    common = np.result_type(*dtypes)
    if not all(np.can_cast(dtype, common, "safe") for dtype in dtypes) or (
        common == np.float64 and {"int64", "uint64"} & set(dtypes) and len(set(dtypes)) > 1
    ):
        raise SceneError(
            "no type holds the values of all bands",
            where=url,
            got=", ".join(dtypes),
            todo="save the bands with one data type",
        )
    return str(common)


def _read_bands(dataset: Any) -> tuple[Band, ...]:
    facts = zip(_read_descriptions(dataset), dataset.colorinterp, dataset.dtypes, dataset.nodatavals, strict=True)
    return tuple(
        Band(index=index, name=name or None, common=find_common_name(name, colour.name), dtype=dtype, nodata=nodata)
        for index, (name, colour, dtype, nodata) in enumerate(facts, start=1)
    )


def _read_descriptions(dataset: Any) -> tuple[str | None, ...]:
    """Read the names of the bands. They only help to find bands, so names that are not UTF-8 are dropped."""
    try:
        return tuple(dataset.descriptions)
    except UnicodeDecodeError:
        return (None,) * int(dataset.count)


def find_common_name(description: str | None, colour: str) -> str | None:
    """Find the common name of a band. The description wins, because writers flag any fourth band as alpha."""
    text = " ".join(re.split(r"[^a-z0-9]+", (description or "").casefold())).strip()
    for name, pattern in _COMMON_NAMES:
        if re.search(rf"\b(?:{pattern})\b", text):
            return name
    colours = [name for name in _COLOURS if re.search(rf"\b{name}\b", text)]
    if len(colours) == 1:
        return colours[0]
    return None if colour in _NOT_NAMES else colour


def _read_masks(dataset: Any, bands: tuple[Band, ...]) -> MaskFacts:
    alpha = next((band.index for band in bands if band.common == "alpha"), None)
    flags = dataset.mask_flag_enums
    return MaskFacts(
        alpha=alpha,
        alpha_shades=0.0 if alpha is None else _sample_alpha_shades(dataset, alpha),
        per_dataset=any(MaskFlags.per_dataset in band and MaskFlags.alpha not in band for band in flags),
        per_band=any(not band for band in flags),
    )


def _sample_alpha_shades(dataset: Any, band: int) -> float:
    """Measure the share of alpha values between the ends, in nine small windows over the scene."""
    parts: list[Any] = []
    for row in _choose_starts(dataset.height):
        for col in _choose_starts(dataset.width):
            try:
                parts.append(
                    dataset.read(band, window=GdalWindow(col, row, 64, 64).intersection(_make_whole_window(dataset)))
                )
            except GDAL_ERRORS:
                # This is a sample; the chunk that needs a damaged block reports it.
                continue
    values = np.concatenate([part.ravel() for part in parts]) if parts else np.zeros(1)
    return float(np.mean((values != 0) & (values != values.max())))


def _choose_starts(size_px: int) -> list[int]:
    return sorted({0, max(0, size_px // 2 - 32), max(0, size_px - 64)})


def _make_whole_window(dataset: Any) -> GdalWindow:
    return GdalWindow(0, 0, dataset.width, dataset.height)


def _read_grid(url: str, dataset: Any) -> Georef:
    transform = tuple(dataset.transform)[:6]
    has_transform = transform != IDENTITY
    points, points_crs = dataset.gcps
    try:
        crs_wkt = dataset.crs.to_wkt() if dataset.crs else None
        gcps_crs_wkt = points_crs.to_wkt() if points and points_crs else None
    except CRSError as error:
        raise SceneError(
            "the coordinate system must be one that PROJ knows",
            where=url,
            got=find_reason(error),
            todo="assign the right one, e.g. `gdal_edit.py -a_srs EPSG:32643`",
        ) from error
    return Georef(
        width_px=dataset.width,
        height_px=dataset.height,
        crs_wkt=crs_wkt,
        transform=transform if has_transform else None,
        # In a file that has both, the transform was made from the control points.
        gcps=() if has_transform else tuple((p.row, p.col, p.x, p.y, p.z or 0.0) for p in points),
        gcps_crs_wkt=None if has_transform else gcps_crs_wkt,
        rpcs=dict(dataset.tags(ns="RPC")) or None,
    )


def _find_scene_name(url: str) -> str:
    """The name of a scene; SceneError where it holds a credential, because folders and files are called by it."""
    name = make_scene_name(url)
    if redact(name) != name:
        raise SceneError(
            "the name of a scene must not hold a credential, because its files in the output are called by it",
            where=url,
            got=name,
            todo="rename the file, or remove the environment variable that holds the same value",
        )
    return name


def make_scene_name(url: str) -> str:
    """Make the name of a scene's folder from its file: without the ending, and valid on any system."""
    base = PurePosixPath(make_public_url(url).partition("?")[0].rstrip("/")).name
    stem = base.rsplit(".", 1)[0] or base
    return re.sub(r"[^\w.-]+", "_", stem).strip("._") or "scene"
