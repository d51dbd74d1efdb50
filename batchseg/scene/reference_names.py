"""GDAL's reading of a reference of a VRT: the names that it may open, and which of them are one file."""

from __future__ import annotations

import os
from pathlib import Path

from batchseg.scene.gdal_name import has_prefix
from batchseg.scene.names import gdal_path
from batchseg.scene.references import Reference


def resolve_reference(path: str, reference: Reference) -> list[str]:
    """The names that GDAL may make of a reference of the VRT `path`. Each of them is to be within reach."""
    name = reference.name
    if name.startswith("/") or "://" in name:
        names = [gdal_path(name)]
    elif has_prefix(name):
        names = [name]  # GDAL finds the file inside the name; relative ones count from the current folder
    else:
        # GDAL follows a VRT that is a link to its end.
        vrt = path.partition("?")[0] if path.startswith("/vsi") else os.path.realpath(path)
        beside, here = f"{vrt.rpartition('/')[0]}/{name}", str(Path.cwd() / name)
        names = [beside, here] if reference.is_relative is None else [beside if reference.is_relative else here]
    # GDAL may take `..` out of a name before the system sees it, which is another file where the folder is a link.
    return list({make_key(each): each for name in names for each in _spell(name)}.values())


def _spell(name: str) -> list[str]:
    return [name] if name.startswith("/vsi") or "://" in name or has_prefix(name) else [os.path.normpath(name), name]


def make_key(path: str) -> str:
    path = gdal_path(path)
    return path if path.startswith("/vsi") or has_prefix(path) or "://" in path else os.path.realpath(path)
