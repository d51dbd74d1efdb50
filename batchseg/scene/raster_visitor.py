"""Visits the files that a raster refers to, directly or through others, before GDAL opens them.

Each must lie within reach (`Reach`), its first bytes must call for an allowed driver, and it is opened with the allowed
drivers only. What it refers to is visited in turn.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rasterio.io import DatasetReader

from batchseg.errors import SceneError
from batchseg.recipe.trust import Trust
from batchseg.scene.dataset import GDAL_ERRORS, gdal
from batchseg.scene.gdal_drivers import (
    HEAD_BYTES,
    RASTER_DRIVERS,
    guess_source_driver,
    is_tile_index,
    is_trusted,
    list_raster_drivers,
    may_be_taken_for_another,
)
from batchseg.scene.gdal_name import GdalName, has_prefix, parse_gdal_name
from batchseg.scene.heads import check_regular, find_existing, read_head
from batchseg.scene.identity import REQUESTS_AT_ONCE
from batchseg.scene.names import gdal_path
from batchseg.scene.pixel_files import SIDECARS_WITHOUT_PIXELS
from batchseg.scene.reach import Reach
from batchseg.scene.reference_names import make_key, resolve_reference
from batchseg.scene.references import MAX_VRT_BYTES, Reference, find_references
from batchseg.scene.sqlite_tables import SQLITE_SIGN, find_reaching_table
from tiling.span import Window

MAX_DEPTH, MAX_FILES = 8, 200_000
_SIDECARS = (".msk", ".MSK", ".ovr", ".OVR")
"""Endings of sidecars that GDAL opens as rasters."""
_TEXT_ENDINGS = (".aux.xml", ".tfw", ".wld", ".prj", ".xml", ".txt", ".imd", ".rpb", ".hdr")
_WEB_PAGE = re.compile(rb"\s*<(?:!doctype html|html)", re.IGNORECASE)


@dataclass(slots=True)
class RasterVisitor:
    """Visits all that one raster refers to."""

    reach: Reach
    trust: Trust
    visited: dict[str, list[Window]] = field(default_factory=dict)
    """Files that hold pixels, with the parts of the raster that show them; no part: not known."""
    keys: set[str] = field(default_factory=set)
    """Keys of all files that were visited: the real path, or GDAL's name of what is no file on disk."""

    def visit_references(self, path: str, name: GdalName, *, depth: int, is_copied: bool = True) -> None:
        """Visit what a VRT refers to."""
        references = find_references(read_head(name, MAX_VRT_BYTES + 1) or b"", path)

        def visit(reference: Reference) -> None:
            with gdal():
                part = reference.window if depth == 0 else None
                below = replace(reference, is_copied=reference.is_copied and is_copied)
                for target in resolve_reference(path, reference):
                    self._visit(below, target, part, depth=depth + 1)

        _do_all(visit, references, at_once=REQUESTS_AT_ONCE if name.is_remote or depth == 0 else 1)

    def visit_sidecars(self, path: str, name: GdalName, *, depth: int, is_copied: bool = True) -> None:
        """Visit the files beside a file that GDAL opens as rasters: masks and overviews."""
        for sidecar in find_existing(name, [each for each in _name_sidecars(path, name) if each != path]):
            self._visit_sidecar(sidecar, sidecar, depth=depth, is_copied=is_copied)

    def _visit_sidecar(self, written: str, path: str, *, depth: int, is_copied: bool) -> None:
        """Visit a mask or an overview. Overviews of a source decide pixels where a VRT resamples it."""
        is_noted = depth > 0 and (path.lower().endswith(".msk") or not is_copied)
        reference = Reference(name=written, is_relative=None, is_copied=is_copied)
        self._visit(reference, path, None, depth=depth + 1, is_noted=is_noted)

    def visit_dataset(self, dataset: Any, path: str, *, depth: int, is_copied: bool = True) -> tuple[str, ...]:
        """Check and return the files that an open dataset names.

        GDAL opens an overview when it lists the files, not before. On servers it asks for each of them again.
        """
        overview = dataset.tags(ns="OVERVIEWS").get("OVERVIEW_FILE")
        if overview:
            target = overview.replace(":::BASE:::", f"{path.rpartition('/')[0]}/")
            self._visit_sidecar(overview, target, depth=depth, is_copied=is_copied)
        files = tuple(dataset.files)
        for file in files:
            key, name = make_key(file), parse_gdal_name(file)
            if name is None:
                raise self._refuse_reference(file, "a file that can be found")
            if key in self.keys or key == make_key(path):
                continue
            if file.lower().endswith(_TEXT_ENDINGS):
                self.reach.check(file, name.file)
                if depth > 0 and (not is_copied or file.lower().endswith(".hdr")):
                    self._note(name, None)
            elif file.lower().endswith((".msk", ".ovr")):
                self._visit_sidecar(file, file, depth=depth, is_copied=is_copied)
            else:
                holds_pixels = not file.lower().endswith(SIDECARS_WITHOUT_PIXELS)
                self._check_listed(file, name, is_noted=holds_pixels or (depth > 0 and not is_copied))
        self._check_links(path)
        return files

    def check_tables(self, written: str, name: GdalName) -> None:
        """Raise SceneError for a database whose tables may read other files."""
        if is_trusted("GPKG", self.trust):
            return
        is_file = not name.is_remote and name.archive is None
        table = find_reaching_table(name.file) if is_file else "a database that is no file on this machine"
        if table is not None:
            raise self._refuse_reference(written if table == "" else table, "a database of plain tables in a file")

    def _visit(
        self, reference: Reference, path: str, window: Window | None, *, depth: int, is_noted: bool = True
    ) -> None:
        """Check a file that another one refers to, and all that it refers to.

        Args:
            reference: The reference, as it was written.
            path: The same as GDAL will name it.
            window: Part of the raster that shows pixels of the file; None: not known.
            depth: Number of files that led to this one.
            is_noted: Whether the file holds pixels, even where GDAL does not list it.
        """
        name = parse_gdal_name(path)
        if name is None or path.startswith("/vsicurl?") or (has_prefix(path) and name.prefix is None):
            raise self._refuse_reference(reference.name, "a file, or an address of http, https, s3, gs or az")
        if not name.file:
            self.check_prefix(reference.name, name)
            raise self._refuse_reference(reference.name, "a file")
        self.reach.check(reference.name, name.file)
        if is_noted:
            self._note(name, window)
        key = make_key(path)
        if key in self.keys:
            return
        self.keys.add(key)
        if depth > MAX_DEPTH or len(self.keys) > MAX_FILES:
            raise self._refuse_reference(reference.name, f"{MAX_DEPTH} files in a row and {MAX_FILES} in all, or fewer")
        if not name.is_remote:
            check_regular(self.reach.url, name.file)
            if not Path(name.file).exists():
                return  # GDAL says so when it reads it
        if not reference.is_raw:
            self._visit_raster(reference, path, name, depth=depth)

    def _note(self, name: GdalName, window: Window | None) -> None:
        parts = self.visited.setdefault(name.file, [] if window is None else [window])
        if window is None:
            parts.clear()
        elif parts and window not in parts:
            parts.append(window)

    def _visit_raster(self, reference: Reference, path: str, name: GdalName, *, depth: int) -> None:
        head = read_head(name, HEAD_BYTES)
        if head is None:
            raise self._refuse_reference(reference.name, "a file, or a member of a zip or tar archive")
        if path.endswith(_SIDECARS) and _WEB_PAGE.match(head):
            return  # servers answer so for files that they do not have
        driver, allowed = guess_source_driver(path, head), self.check_prefix(reference.name, name, head)
        if is_tile_index(path) and not is_trusted("GTI", self.trust):
            driver = "GTI"
        if driver is not None and not any(driver.casefold() == known.casefold() for known in allowed):
            raise refuse_driver(self.reach.url, reference.name, driver)
        if head.startswith(SQLITE_SIGN):
            self.check_tables(reference.name, name)
        if driver == "VRT":
            self.visit_references(path, name, depth=depth, is_copied=reference.is_copied)
        self.visit_sidecars(path, name, depth=depth, is_copied=reference.is_copied)
        try:
            # One driver where the sign is plain: a mosaic has thousands of files.
            drivers = driver if driver in ("VRT", "GTiff") else leave_vrt_out(allowed)
            with DatasetReader(path, driver=drivers) as dataset:
                if driver is None and may_be_taken_for_another(dataset.driver, head):
                    raise self._refuse_reference(reference.name, f"a file that begins as {dataset.driver} does")
                self.visit_dataset(dataset, path, depth=depth, is_copied=reference.is_copied)
        except GDAL_ERRORS as error:
            if "not recognized as" in str(error):
                raise self._refuse_reference(reference.name, f"a raster of {', '.join(allowed)}") from error

    def _check_links(self, path: str) -> None:
        """Check the links in a folder that is a raster."""
        for member in Path(path).rglob("*") if Path(path).is_dir() else ():
            if member.is_symlink():
                self.reach.check(str(member), str(member))

    def _check_listed(self, file: str, name: GdalName, *, is_noted: bool) -> None:
        """Check a part of a format of several files. It needs no driver of its own."""
        own = parse_gdal_name(gdal_path(self.reach.url))
        if own is None or name.file != own.file:
            self.reach.check(file, name.file)
            if is_noted:
                self._note(name, None)

    def check_prefix(self, written: str, name: GdalName, head: bytes = b"") -> list[str]:
        """Raise SceneError where the prefix of a name chooses a driver that is not allowed; return those that are."""
        allowed = list_raster_drivers(self.trust, head)
        if name.driver is not None and name.driver.casefold() not in map(str.casefold, allowed):
            raise refuse_driver(self.reach.url, written, name.driver)
        return allowed

    def _refuse_reference(self, written: str, expected: str) -> SceneError:
        return SceneError(
            "the file refers to something that cannot be checked",
            where=self.reach.url,
            expected=expected,
            got=written,
            todo="refer to the file itself, or make a GeoTIFF of the whole with gdal_translate",
        )


def refuse_driver(url: str, got: str, driver: str) -> SceneError:
    """Make the error for a driver that is not allowed; its advice names the line that allows it."""
    return SceneError(
        f"GDAL's driver {driver} is not allowed for scenes",
        where=url,
        expected=f"one of {', '.join(RASTER_DRIVERS)}",
        got=f"{driver}" if got == url else f"{got} ({driver})",
        todo=f"if you trust the file, and all that it refers to, add to the recipe: `trust: {{drivers: [{driver}]}}`",
    )


def leave_vrt_out(drivers: list[str]) -> list[str]:
    return [driver for driver in drivers if driver.casefold() != "vrt"]


def _name_sidecars(path: str, name: GdalName) -> Iterator[str]:
    base = path if name.prefix is None else name.inner_path
    yield from (base + ending for ending in _SIDECARS)


def _do_all(do: Callable[[Reference], None], references: list[Reference], *, at_once: int) -> None:
    is_any_remote = any(r.name.startswith("/vsi") or "://" in r.name for r in references)
    if at_once == 1 or len(references) == 1 or not is_any_remote:
        for reference in references:
            do(reference)
        return
    with ThreadPoolExecutor(at_once) as threads:
        list(threads.map(do, references))
