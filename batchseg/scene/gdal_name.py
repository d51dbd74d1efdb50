"""GDAL's names of files: what lies behind `/vsizip/a.zip/b.tif`, `NETCDF:"a.nc":red` or `/vsicurl/https://…`.

A name is taken apart here, and nowhere else, so that the file that is checked is the file that GDAL opens. What cannot
be taken apart has no file: such a name has no version, and nothing that it leads to can be checked.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import parse_qs

from batchseg.remote import is_remote
from batchseg.scene.names import gdal_path, url_of_gdal_path

ArchiveKind = Literal["zip", "tar", "gzip", "other"]

_ARCHIVES: dict[str, ArchiveKind] = {
    "/vsizip/": "zip",
    "/vsitar/": "tar",
    "/vsigzip/": "gzip",
    "/vsi7z/": "other",
    "/vsirar/": "other",
}
_ARCHIVE_ENDING = re.compile(r"\.(?:zip|kmz|gpkg\.zip|tar|tgz|tar\.gz|7z|rar|gz)(?=/|$)", re.IGNORECASE)
_PREFIX = re.compile(r"([A-Za-z][A-Za-z0-9_.+-]+):(?!//)")
_INLINE = re.compile(
    r"^\s*[<{]|<\s*(?:vrt|gdal|ogr|wcs|wfs|wms|wmt|tiledwms|mrf|capabilities|\?|!)|[\x00-\x1f]", re.IGNORECASE
)
"""Signs of a whole dataset in place of a name."""
PREFIX_DRIVERS = {
    "GTIFF_DIR": "GTiff",
    "GPKG": "GPKG",
    "NETCDF": "netCDF",
    "HDF5": "HDF5Image",
    "ZARR": "Zarr",
    "NITF_IM": "NITF",
    "DERIVED_SUBDATASET": "DERIVED",
    "HDF4_SDS": "HDF4Image",
    "HDF4_EOS": "HDF4Image",
    "PG": "PostgreSQL",
    "AGS": "WMS",
}
"""Drivers by the prefix of their names, where the two differ or a scene is likely to have one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GdalName:
    """A name, taken apart."""

    file: str
    """The file on disk, or the URL of the object, that the name leads to; of an archive, the archive."""
    archive: ArchiveKind | None = None
    member: str = ""
    """Name inside the archive."""
    prefix: str | None = None
    """Prefix that chooses a driver, in capitals, such as NETCDF."""

    @property
    def is_remote(self) -> bool:
        return is_remote(self.file)

    @property
    def inner_path(self) -> str:
        """GDAL's name of the file without a prefix."""
        path = gdal_path(self.file)
        return path if self.archive is None else f"/vsi{self.archive}/{path}/{self.member}".rstrip("/")

    @property
    def driver(self) -> str | None:
        """The driver that the prefix chooses; None: the content chooses."""
        return None if self.prefix is None else PREFIX_DRIVERS.get(self.prefix, self.prefix)


def parse_gdal_name(name: str) -> GdalName | None:
    """Take a name apart; None where no file behind it can be told.

    Args:
        name: A path, a URL, or a name of GDAL's, as the user or a file wrote it.
    """
    if _INLINE.search(name):
        return None
    path = gdal_path(name)
    if path.startswith("/vsi"):
        return _parse_virtual(path)
    prefix = _PREFIX.match(path)
    if prefix is not None and (prefix[1].upper() in PREFIX_DRIVERS or not Path(path).exists()):
        return _parse_prefixed(prefix[1].upper(), path[prefix.end() :])
    if "://" in path:
        return None
    return GdalName(file=path)


def has_prefix(name: str) -> bool:
    """Test if GDAL may choose a driver by the beginning of a name, even where a file has that name."""
    return not name.startswith("/") and _PREFIX.match(name) is not None


def _parse_virtual(path: str) -> GdalName | None:
    if ".." in path.split("/"):
        return None
    for start, kind in _ARCHIVES.items():
        if path.startswith(start):
            return _parse_archive(kind, path.removeprefix(start))
    if path.startswith("/vsisubfile/"):
        inner = parse_gdal_name(path.partition(",")[2])
        return None if inner is None else GdalName(file=inner.file, archive="other")
    if path.startswith("/vsicurl?"):
        urls = parse_qs(path.removeprefix("/vsicurl?")).get("url", [])
        return GdalName(file=urls[0]) if len(urls) == 1 and re.match(r"https?://", urls[0]) else None
    url = url_of_gdal_path(re.sub(r"^(/vsi[a-z0-9]+)_streaming/", r"\1/", path))
    return GdalName(file=url) if is_remote(url) else None


def _parse_archive(kind: ArchiveKind, rest: str) -> GdalName | None:
    braced = re.match(r"\{(.*)\}(/.*)?$", rest)
    if braced is not None:
        carrier, member = braced[1], braced[2] or ""
    else:
        rest = f"/{rest}" if rest.startswith("vsi") else rest
        carrier, member = (rest, "") if kind == "gzip" else _split_archive(rest)
    inner = parse_gdal_name(carrier)
    if inner is None:
        return None
    return GdalName(file=inner.file, archive=kind if inner.archive is None else "other", member=member.strip("/"))


def _split_archive(path: str) -> tuple[str, str]:
    """The archive is the first part of the path that is a file; on a server, the first that has an archive's ending."""
    if not path.startswith("/vsi"):
        for slash in re.finditer(r"/|$", path):
            if slash.start() and Path(path[: slash.start()]).is_file():
                return path[: slash.start()], path[slash.start() :]
    ending = _ARCHIVE_ENDING.search(path)
    return (path, "") if ending is None else (path[: ending.end()], path[ending.end() :])


def _parse_prefixed(prefix: str, rest: str) -> GdalName | None:
    quoted = re.search(r'"([^"]+)"', rest)
    if quoted is not None:
        candidates = [quoted[1]]
    else:
        words = rest.split(":")
        spans = [(first, last) for first in range(len(words)) for last in range(len(words), first, -1)]
        candidates = [":".join(words[first:last]) for first, last in spans]
    for candidate in candidates:
        if candidate.startswith("/vsi") or re.match(r"(?:https?|s3|gs|az)://", candidate):
            inner = parse_gdal_name(candidate if quoted else re.sub(r":[^/]*$", "", candidate))
        else:
            inner = GdalName(file=candidate) if Path(candidate).exists() else None
        if inner is not None:
            return GdalName(file=inner.file, archive=inner.archive, member=inner.member, prefix=prefix)
    return GdalName(file="", prefix=prefix)
