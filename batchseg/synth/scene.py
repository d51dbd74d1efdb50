"""Write one synthetic scene as files: `scene.tif`, `labels.tif` and `priority.geojson`.

Files are written under temporary names and renamed at the end, `scene.tif` last. A folder with it is complete.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import rasterio
from rasterio.enums import ColorInterp
from rasterio.windows import Window

from batchseg.atomic import make_folder, replace_file
from batchseg.egress import write_text
from batchseg.errors import InputError
from batchseg.synth.materials import CLASSES, UNLABELLED
from batchseg.synth.priority import find_priority_areas
from batchseg.synth.render import Labels, Pixels, check_scene, render
from batchseg.synth.scene_files import BAND_NAMES, CRS, NAMES, format_areas, is_synthetic, make_transform

BLOCK_PX = 512
_INTERPRETATION = (ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.nir)
_THREADS = 2  # compress while the next stripe is rendered; the number does not affect the bytes
_CACHE_BYTES = 64 << 20  # without a limit, GDAL keeps written blocks up to a share of the machine's memory


def write_scene(
    folder: Path,
    *,
    size_px: int,
    seed: int,
    bands: int = 3,
    dtype: str = "uint8",
    stripe_px: int = BLOCK_PX,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write a square scene with its labels and priority polygons.

    Args:
        folder: Folder of the three files. It is made if it does not exist; a scene in it is replaced.
        size_px: Side of the scene.
        seed: Seed of the scene.
        bands: 3 (red, green, blue) or 4 (with near-infrared).
        dtype: uint8 or uint16.
        stripe_px: Rows rendered at a time, rounded up to whole blocks of the file; it bounds memory.
        progress: Called after every stripe with the number of finished rows and of all rows.

    Raises:
        InputError: The size, number of bands, data type, stripe or folder is invalid.
    """
    check_scene(size_px, bands, dtype)
    if stripe_px < 1:
        raise InputError("a stripe must have at least one row", expected="1 or more", got=str(stripe_px))
    _make_folder(folder)
    with ExitStack() as stack:
        # The stack gives the files their names in reverse order, so the scene comes last.
        scene, priority, labels = (
            stack.enter_context(replace_file(folder / name, durable=False)) for name in reversed(NAMES)
        )
        _write_rasters(scene, labels, (seed, size_px, bands, dtype), stripe_px, progress)
        areas = find_priority_areas(seed, size_px, CRS, make_transform(seed))
        write_text(priority, format_areas(areas))


def _make_folder(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise InputError(
            "a synthetic scene must be written into a folder", where=str(folder), got="a file", todo="give another path"
        )
    make_folder(folder)
    foreign = [name for name in NAMES if os.path.lexists(folder / name) and not is_synthetic(folder / name)]
    if foreign:
        raise InputError(
            "a synthetic scene must not replace files of others",
            where=str(folder),
            got=", ".join(foreign),
            todo="give another folder, or move these files away",
        )


def _make_profile(seed: int, size_px: int, count: int, dtype: str, nodata: int) -> dict[str, Any]:
    return {
        "driver": "GTiff",
        "width": size_px,
        "height": size_px,
        "count": count,
        "dtype": dtype,
        "nodata": nodata,
        "crs": CRS,
        "transform": make_transform(seed),
        "tiled": True,
        "blockxsize": BLOCK_PX,
        "blockysize": BLOCK_PX,
        "interleave": "pixel",
        "compress": "deflate",
        "zlevel": 1,
        "num_threads": _THREADS,
        "bigtiff": "if_safer",
    }


def _write_rasters(
    scene_path: Path,
    labels_path: Path,
    what: tuple[int, int, int, str],
    stripe_px: int,
    progress: Callable[[int, int], None] | None,
) -> None:
    seed, size_px, bands, dtype = what
    with ExitStack() as stack:
        stack.enter_context(rasterio.Env(GDAL_CACHEMAX=_CACHE_BYTES))
        scene = stack.enter_context(
            rasterio.open(scene_path, "w", **_make_profile(seed, size_px, bands, dtype, 0), predictor=2)
        )
        labels = stack.enter_context(
            rasterio.open(labels_path, "w", **_make_profile(seed, size_px, 1, "uint8", UNLABELLED))
        )
        scene.descriptions = BAND_NAMES[:bands]
        scene.colorinterp = _INTERPRETATION[:bands]
        labels.set_band_description(1, "class")
        labels.write_colormap(1, {entry.id: (*entry.rgb, 255) for entry in CLASSES})
        labels.update_tags(1, **{f"class_{entry.id}": entry.name for entry in CLASSES})
        for row, pixels_BHW, labels_HW in _render_stripes(what, stripe_px):
            height, width = labels_HW.shape
            scene.write(pixels_BHW, window=Window(0, row, width, height))
            labels.write(labels_HW, 1, window=Window(0, row, width, height))
            if progress is not None:
                progress(row + height, size_px)


def _render_stripes(what: tuple[int, int, int, str], stripe_px: int) -> Iterator[tuple[int, Pixels, Labels]]:
    seed, size_px, bands, dtype = what
    step = -(-stripe_px // BLOCK_PX) * BLOCK_PX
    for top in range(0, size_px, step):
        rows = slice(top, min(top + step, size_px))
        yield top, *render(seed, size_px, rows, slice(0, size_px), bands, dtype)
