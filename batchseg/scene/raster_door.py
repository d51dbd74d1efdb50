"""The door through which every raster is opened: its driver is allowed, and so is every file that it refers to.

Theory of operation
-------------------
GDAL opens what a file refers to with any of its drivers, without asking. So this happens before GDAL sees a pixel:

1. The named file is opened with the allowed drivers only. A VRT is not opened: it is read here first.
2. Every reference of a VRT, every sidecar that GDAL would open as a raster (.msk, .ovr), and every overview that a file
   names is visited (`RasterVisitor`).
3. Afterwards, all files that GDAL lists for the open dataset must lie within reach, after links are followed.

Workers do not repeat this. They open the file with the driver that was found, and compare the version of each file that
was visited with the version of the plan.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rasterio.io import DatasetReader

from batchseg.known_secrets import learn_credentials
from batchseg.recipe.trust import Trust
from batchseg.remote import read_facts
from batchseg.scene.dataset import GDAL_ERRORS, gdal, ignore_missing_georeference
from batchseg.scene.gdal_drivers import (
    CLASSIC_NETCDF,
    HEAD_BYTES,
    RASTER_DRIVERS,
    guess_driver_by_name,
    guess_raster_driver,
    is_vrt,
    list_raster_drivers,
    starts_as_text,
)
from batchseg.scene.gdal_name import GdalName, parse_gdal_name
from batchseg.scene.heads import check_regular, read_head
from batchseg.scene.identity import refuse_unknown_version
from batchseg.scene.names import gdal_path
from batchseg.scene.raster_visitor import RasterVisitor, leave_vrt_out, refuse_driver
from batchseg.scene.reach import Reach
from batchseg.scene.references import MAX_VRT_BYTES
from tiling.span import Window


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenRaster:
    """A raster that came through the door."""

    dataset: Any
    files: tuple[str, ...]
    """All files that GDAL reads for it: the file itself, sidecars, sources of a VRT."""
    visited: dict[str, tuple[Window, ...]]
    """Other files that hold pixels of it, with the parts of the raster that show them; no part: not known."""


@contextmanager
def open_raster(url: str, trust: Trust) -> Iterator[OpenRaster]:
    """Open a raster and check everything that it refers to.

    Args:
        url: A file, a URL, or a name of GDAL's.
        trust: What the author of the recipe allows beyond the defaults.

    Raises:
        SceneError: The driver is not allowed, or a reference leads out of reach.
        RasterioError: GDAL cannot open it.
    """
    learn_credentials(url)
    name = parse_gdal_name(url)
    if name is None or name.archive == "other":
        raise refuse_unknown_version(url, "a name that no file can be told from")
    visitor = RasterVisitor(Reach.of(url, name.file, trust), trust)
    with gdal(), ignore_missing_georeference(), _open_root(visitor, url, name) as dataset:
        if dataset.driver == "GPKG":
            visitor.check_tables(url, name)
        files = visitor.visit_dataset(dataset, gdal_path(url), depth=0)
        yield OpenRaster(
            dataset=dataset, files=files, visited={file: tuple(parts) for file, parts in visitor.visited.items()}
        )


def _open_root(visitor: RasterVisitor, url: str, name: GdalName) -> Any:
    """Open the named file. A VRT is opened once its references are checked."""
    path = gdal_path(url)
    is_netcdf = name.driver == CLASSIC_NETCDF and name.file != ""
    drivers = visitor.check_prefix(url, name, (is_netcdf and read_head(name, HEAD_BYTES)) or b"")
    if not name.is_remote:
        check_regular(url, name.file)
    elif name.file.startswith("http"):
        visitor.reach.check_host(name.file, ask_dns=True)
        read_facts(name.file)  # GDAL would follow any redirect
    visitor.visit_sidecars(path, name, depth=0)
    if visitor.trust.drivers:
        _check_text(visitor.reach, name)
    try:
        return _open_by_sign(visitor, path, name, drivers)
    except GDAL_ERRORS as error:
        if "not recognized as" not in str(error):
            raise
        return _open_other(visitor, path, name, error)


def _open_by_sign(visitor: RasterVisitor, path: str, name: GdalName, drivers: list[str]) -> Any:
    """Open a file with the drivers that are allowed; a VRT on this machine, once its references are checked."""
    if name.is_remote:
        # The first bytes would be one more request. Raw formats have no sign, so that they take a VRT for pixels.
        return DatasetReader(path, driver=[driver for driver in leave_vrt_out(drivers) if driver != "ENVI"])
    if name.driver is None and Path(name.file).exists() and is_vrt(read_head(name, HEAD_BYTES) or b""):
        return _open_vrt(visitor, path, name)
    return DatasetReader(path, driver=leave_vrt_out(drivers))


def _open_vrt(visitor: RasterVisitor, path: str, name: GdalName) -> Any:
    visitor.visit_references(path, name, depth=0)
    return DatasetReader(path, driver="VRT")


def _open_other(visitor: RasterVisitor, path: str, name: GdalName, error: Exception) -> Any:
    """Open a VRT on a server, a raw file there, or a classic netCDF file; raise for other formats."""
    head = b"" if name.file == "" else read_head(name, HEAD_BYTES) or b""
    if is_vrt(head):
        return _open_vrt(visitor, path, name)
    driver = guess_raster_driver(head) or _guess_folder(name.file)
    if driver is None and head:
        driver = guess_driver_by_name(path)
    allowed = list_raster_drivers(visitor.trust, head)
    if driver is not None and driver not in allowed:
        raise refuse_driver(visitor.reach.url, visitor.reach.url, driver)
    if driver in RASTER_DRIVERS and not name.is_remote:
        raise error
    return DatasetReader(path, driver=leave_vrt_out(allowed))


def _guess_folder(file: str) -> str | None:
    folder = Path(file)
    is_zarr = folder.is_dir() and any((folder / key).exists() for key in (".zgroup", ".zarray", "zarr.json"))
    return "Zarr" if is_zarr else None


def _check_text(reach: Reach, name: GdalName) -> None:
    """Check the addresses in a text file, such as the description of a service, that a trusted driver may open."""
    head = read_head(name, HEAD_BYTES) if name.is_remote or Path(name.file).is_file() else None
    if head and starts_as_text(head):
        reach.check_addresses(read_head(name, MAX_VRT_BYTES) or b"")
