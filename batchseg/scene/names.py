"""The names of a raster: as URL, as GDAL path, and as a local file with its whole path."""

from __future__ import annotations

import re
from pathlib import Path

from batchseg.errors import SceneError

_SCHEMES = {"s3": "/vsis3/", "gs": "/vsigs/", "az": "/vsiaz/", "http": "/vsicurl/http://", "https": "/vsicurl/https://"}


def gdal_path(url: str) -> str:
    """Return GDAL's name for a URL; a path, or a name that is GDAL's already, stays as it is."""
    scheme, separator, rest = url.partition("://")
    if not separator or not re.fullmatch(r"[a-z0-9]+", scheme):
        return url
    if scheme == "file":
        return rest
    return _SCHEMES[scheme] + rest if scheme in _SCHEMES else url


def url_of_gdal_path(path: str) -> str:
    """Return the URL of a file that GDAL names; a local path stays as it is."""
    for scheme, prefix in _SCHEMES.items():
        if path.startswith(prefix):
            return f"{scheme}://{path.removeprefix(prefix)}"
    return path


def make_absolute(url: str) -> str:
    """Return a local file's whole path, because a worker may run in another folder; any other URL stays as it is."""
    path = Path(gdal_path(url))
    try:
        return str(path.absolute()) if path.exists() else url
    except (OSError, ValueError) as error:
        raise SceneError("no file can have this name", where=url, got=str(error), todo="check the path") from None
