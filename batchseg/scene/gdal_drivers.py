"""Formats: which drivers of GDAL may open scenes and vector files, and which driver a file's first bytes call for."""

from __future__ import annotations

import re
from functools import cache
from pathlib import PurePosixPath

from rasterio.drivers import raster_driver_extensions

from batchseg.recipe.trust import Trust

RASTER_DRIVERS = (
    "GTiff",
    "VRT",
    "JP2OpenJPEG",
    "PNG",
    "JPEG",
    "WEBP",
    "GIF",
    "BIGGIF",
    "BMP",
    "HFA",
    "ENVI",
    "AAIGrid",
    "GPKG",
)
"""Formats whose files hold their pixels themselves, and the VRT, whose references are checked."""
CLASSIC_NETCDF = "netCDF"
"""Opens classic files by default. Files of version 4 are HDF5, which may hold pixels in any other file."""
VECTOR_DRIVERS = (
    "GPKG",
    "GeoJSON",
    "GeoJSONSeq",
    "TopoJSON",
    "ESRI Shapefile",
    "FlatGeobuf",
    "Parquet",
    "KML",
    "LIBKML",
    "SQLite",
    "OpenFileGDB",
)
HEAD_BYTES = 4096
_LEAST_TEXT_BYTES = 64
NEVER_TEXT = ("GTiff", "JP2OpenJPEG", "PNG", "JPEG", "WEBP", "GIF", "BMP", "HFA", "GPKG")

_MAGIC = (
    (rb"II[*+]\0|MM\0[*+]", "GTiff"),
    (rb"\x89PNG", "PNG"),
    (rb"\xff\xd8\xff", "JPEG"),
    (rb"GIF8", "GIF"),
    (rb"RIFF....WEBP", "WEBP"),
    (rb"\0\0\0\x0cjP|\xff\x4f\xff\x51", "JP2OpenJPEG"),
    (rb"EHFA_HEADER_TAG", "HFA"),
    (rb"SQLite format 3\0", "GPKG"),
    (rb"CDF[\x01\x02\x05]|\x89HDF", "netCDF"),
    (rb"NITF|NSIF", "NITF"),
    (rb"GRIB", "GRIB"),
    (rb"\x0e\x03\x13\x01", "HDF4"),
    (rb"%PDF", "PDF"),
    (rb"BM", "BMP"),
    (rb"PCIDSK", "PCIDSK"),
    (rb"DatasetHeader Begin", "ERS"),
    (rb"CCSD|PDS_VERSION_ID|ODL_VERSION_ID", "PDS"),
    (rb"LBLSIZE", "VICAR"),
)
_XML = (
    (rb"<VRTDataset", "VRT"),
    (rb"<GDAL_WMTS|<(?:\w+:)?Capabilities", "WMTS"),
    (rb"<GDAL_WMS|<TiledWMS|<WMS_Tile_Service|<WMT_MS_Capabilities|<WMS_Capabilities", "WMS"),
    (rb"<WCS_GDAL|<WCS", "WCS"),
    (rb"<GDALTileIndexDataset", "GTI"),
    (rb"<MRF_META", "MRF"),
)
_VECTOR_TOKENS = (
    (b"OGRVRTDataSource", "OGR_VRT"),
    (b"OGRWFSDataSource", "WFS"),
    (b"OGCAPI", "OGCAPI"),
    (b"gdal_streamed_alg", "GDALG"),
    (b"GDALTileIndexDataset", "GTI"),
    (b"opengis.net/gml", "GML"),
    (b"csw:GetRecordsResponse", "GML"),
)
_VECTOR_SIGNS = re.compile(
    rb"SQLite format 3\0|fgb.fgb|PAR1|\0\0\x27\x0a|PK\x03\x04|[ \t\r\n\x1e]*[{\[]|[ \t\r\n]*<[^\0]*<(?:\w+:)?kml"
    rb"|[ \t\r\n]*<(?:\w+:)?kml",
    re.DOTALL,
)


def list_raster_drivers(trust: Trust, head: bytes = b"") -> list[str]:
    """List the drivers that may open a raster which begins with these bytes."""
    classic = (CLASSIC_NETCDF,) if re.match(rb"CDF[\x01\x02\x05]", head) else ()
    return list(dict.fromkeys((*RASTER_DRIVERS, *classic, *trust.drivers)))


def is_trusted(driver: str, trust: Trust) -> bool:
    """Test if the author of the recipe names a driver, whatever the case."""
    return driver.casefold() in {name.casefold() for name in trust.drivers}


def is_vector_driver_allowed(driver: str, trust: Trust) -> bool:
    return driver in VECTOR_DRIVERS or is_trusted(driver, trust)


def guess_raster_driver(head: bytes) -> str | None:
    """The driver that the first bytes call for; None where they are no known sign. VRT only where GDAL sees one too."""
    for pattern, driver in _MAGIC:
        if re.match(pattern, head, re.DOTALL):
            return driver
    text = _strip_to_text(head)
    if text.startswith(b"<"):
        return next((driver for pattern, driver in _XML if re.search(pattern, text)), None)
    if text.startswith(b"{"):
        return "STACTA" if b"tiled-assets" in text or b"asset_templates" in text else "STACIT"
    return None


def is_vrt(head: bytes) -> bool:
    """Test if GDAL takes a file for a VRT."""
    return guess_raster_driver(head) == "VRT"


def guess_source_driver(path: str, head: bytes) -> str | None:
    """The driver that GDAL may choose for a file inside another one; None: a raw format, which has no sign."""
    driver = guess_raster_driver(head)
    return (guess_driver_by_name(path) or "unknown") if driver is None and starts_as_text(head) else driver


def may_be_taken_for_another(driver: str, head: bytes) -> bool:
    """Test if a file without a known sign, which opens with this driver, may open with another one if GDAL chooses.

    Descriptions of other formats are text, which a raw format takes for pixels.
    """
    is_text = bool(head) and re.fullmatch(rb"[\t\r\n\x20-\x7e]+", head[:_LEAST_TEXT_BYTES]) is not None
    return driver in NEVER_TEXT or (driver != "AAIGrid" and is_text)


def is_tile_index(path: str) -> bool:
    """Test if GDAL takes a file for an index of tiles because of its name."""
    return path.lower().partition("?")[0].endswith((".gti.gpkg", ".gti.fgb", ".gti.parquet", ".gti"))


def starts_as_text(head: bytes) -> bool:
    """Test if a file begins as XML or JSON does."""
    return _strip_to_text(head)[:1] in (b"<", b"{", b"[")


def _strip_to_text(head: bytes) -> bytes:
    """Drop leading spaces, zeros and marks of the byte order, which some drivers skip."""
    return head.lstrip(b" \t\r\n\v\f\0\xef\xbb\xbf\xfe\xff")


def guess_driver_by_name(name: str) -> str | None:
    """The driver of a name's ending; None where there is none or several."""
    suffix = PurePosixPath(name.partition("?")[0]).suffix.lower().lstrip(".")
    if suffix in ("h5", "hdf5", "he5"):
        return "HDF5"
    return "Zarr" if suffix == "zarr" else _drivers_by_suffix().get(suffix)


@cache
def _drivers_by_suffix() -> dict[str, str]:
    return {suffix.lower(): driver for suffix, driver in raster_driver_extensions().items()}


def looks_like_vectors(head: bytes) -> bool:
    """Test if the first bytes are those of a format that vector files may have."""
    return _VECTOR_SIGNS.match(head.removeprefix(b"\xef\xbb\xbf")) is not None


def find_forbidden_vector_driver(head: bytes, trust: Trust) -> str | None:
    """A driver that follows references and that the first bytes of a vector file call for, unless it is trusted.

    GDAL's drivers look for their sign anywhere in the first bytes, so that a sign inside of a comment or of another
    format's text counts too.
    """
    for token, driver in _VECTOR_TOKENS:
        if token.lower() in head.lower() and not is_trusted(driver, trust):
            return driver
    return None
