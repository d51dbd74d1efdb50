"""The files that hold the pixels of a raster: masks, parts of a VRT and theirs, members of a folder."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from batchseg.errors import SceneError
from batchseg.remote import is_remote
from batchseg.scene.identity import find_file
from tiling.span import Window

MAX_FOLDER_FILES = 100_000
SIDECARS_WITHOUT_PIXELS = (".ovr", ".aux.xml", ".aux", ".rrd")
"""Endings of overviews and statistics of a raster; the last two are those of Erdas."""


def list_pixel_files(
    url: str, listed: Iterable[str], visited: Mapping[str, tuple[Window, ...]]
) -> dict[str, tuple[Window, ...]]:
    """List the other files that hold pixels of a raster, with the parts of the raster that show them.

    Sidecars without pixels are left out: the header says what they say, and programs that only look at a raster write
    them.

    Args:
        url: The raster.
        listed: GDAL's list of its files.
        visited: Files that it refers to, directly or through others.
    """
    windows = {_make_key(file): parts for file, parts in visited.items()}
    files = {name: windows.get(_make_key(name), ()) for name in listed if _holds_pixels(name)}
    own = find_file(url)
    # GDAL names no member of an archive and no file behind a source; of what it names, its own spelling stays.
    known = {_make_key(name) for name in files} | {_make_key(own)}
    files |= {file: parts for file, parts in visited.items() if _make_key(file) not in known}
    if own and not is_remote(own) and Path(own).is_dir():
        files |= dict.fromkeys(_list_folder(url, own), ())
    return {name: parts for name, parts in files.items() if find_file(name) not in (own, "")}


def _holds_pixels(name: str) -> bool:
    return not name.lower().endswith(SIDECARS_WITHOUT_PIXELS)


def _make_key(name: str) -> str:
    file = find_file(name)
    return file if is_remote(file) else os.path.realpath(file)


def _list_folder(url: str, folder: str) -> list[str]:
    files = []
    for path in Path(folder).rglob("*"):
        if path.is_file():
            files.append(str(path))
        if len(files) > MAX_FOLDER_FILES:
            raise SceneError(
                "the folder has too many files to watch them for changes",
                where=url,
                expected=f"{MAX_FOLDER_FILES} or fewer",
                todo="make a GeoTIFF of it with gdal_translate",
            )
    return sorted(files)
