"""The scenes that a recipe names: patterns expanded to files, headers read, names checked."""

from __future__ import annotations

import glob
from collections.abc import Sequence
from pathlib import Path

from batchseg.errors import SceneError
from batchseg.paths import RESERVED_NAMES
from batchseg.recipe import NO_TRUST, Trust
from batchseg.remote import is_remote, list_matching
from batchseg.scene.header import SceneHeader, read_header


def read_headers(patterns: Sequence[str], trust: Trust = NO_TRUST) -> list[SceneHeader]:
    """Read the header of each scene of a recipe; raise SceneError when two scenes would share an output folder."""
    headers = [read_header(url, trust) for url in expand_scenes(patterns)]
    _check_names(headers)
    return headers


def expand_scenes(patterns: Sequence[str]) -> list[str]:
    """Expand patterns to the files that match them, in sorted order; GDAL interprets anything else."""
    urls: list[str] = []
    for pattern in patterns:
        if not any(sign in pattern for sign in "*?[") or Path(pattern).exists() or _is_literal(pattern):
            urls.append(pattern)
            continue
        matches = list_matching(pattern) if is_remote(pattern) else sorted(glob.glob(pattern, recursive=True))  # noqa: PTH207 - the user's own pattern, absolute or not
        if not matches:
            raise SceneError("no file matches", where=pattern, todo="check the pattern and the current folder")
        urls += matches
    return urls


def _is_literal(pattern: str) -> bool:
    """Test if an address with `*`, `?` or `[` is no pattern: `?` begins a query in HTTP, whose servers cannot list."""
    if pattern.startswith("/vsicurl"):
        return True
    return "://" in pattern and (pattern.startswith("http") or not is_remote(pattern))


def _check_names(headers: Sequence[SceneHeader]) -> None:
    urls_by_name: dict[str, str] = {}
    for header in headers:
        if header.name in RESERVED_NAMES:
            raise SceneError(
                f"a scene must not be called {header.name}, because a run writes its own files under this name",
                where="scenes",
                got=header.raster.url,
                todo="rename the file",
            )
        if header.name in urls_by_name:
            raise SceneError(
                f"two scenes are called {header.name}, and would share an output folder",
                where="scenes",
                got=f"{urls_by_name[header.name]} and {header.raster.url}",
                todo="rename one of the files, or run the scenes into different output folders",
            )
        urls_by_name[header.name] = header.raster.url
