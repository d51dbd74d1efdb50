"""Small pictures of large rasters as data URIs: of the levels of the Zarr, and of the scene below them."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from shlex import quote
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.io import MemoryFile
from rasterio.windows import Window as GdalWindow

from batchseg.classes import RGB
from batchseg.errors import AbsentSceneError, BatchsegError, DamagedError
from batchseg.layers.layer import RAMP, Layer
from batchseg.output.deflate import inflate
from batchseg.output.stored import ZarrLayout
from batchseg.recipe import NO_TRUST, Trust
from batchseg.redact import redact
from batchseg.remote import is_remote
from batchseg.scene.dataset import GDAL_ERRORS, find_reason, gdal
from batchseg.scene.limited_source import read_within
from batchseg.scene.names import gdal_path
from batchseg.scene.raster_door import open_raster
from batchseg.store import Store
from tiling.grid import Grid
from tiling.span import Window

_SLOW_PX = 64_000_000
"""The largest scene without overviews that gets a picture: it must be read whole, which takes half a second."""
_SAMPLED_PX = 250_000
"""The number of pixels from which a sixteenth of them is enough to find the brightness."""
PICTURE_S = 60.0
"""The time limit for the pixels of one picture."""
_HUNG: set[str] = set()
"""The scenes that a picture has waited for in vain; the report does not wait for them again."""
_STRIPE_PX = 4_000_000
"""The number of pixels that are read at once, so that GDAL's cache keeps a block until all bands are read from it."""


def find_level(layout: ZarrLayout, longest_px: int) -> int:
    """The finest level of the Zarr that is no longer than this; the coarsest where all levels are longer."""
    sizes = [(layout.georef.height_px, layout.georef.width_px), *(level.shape_px for level in layout.levels)]
    return next((number for number, size in enumerate(sizes) if max(size) <= longest_px), len(sizes) - 1)


def read_level(
    store: Store, layout: ZarrLayout, layer: Layer, level: int, window: Window | None = None
) -> NDArray[Any]:
    """Read a window of one level; ground that was never stored is nodata.

    Raises:
        DamagedError: An object cannot be decoded.
    """
    grid = layout.levels[level - 1].stored_grid if level else layout.stored_grid
    window = window or Window.of(0, grid.shape_px[0], 0, grid.shape_px[1])
    whole_HW = np.full(window.shape, layer.nodata, layer.dtype)
    for row, col in grid.touching(window):
        stored_HW = _read_object(store, layout.object_key(layer.name, row, col, level=level), layer, grid)
        if stored_HW is not None:
            shared = grid.window(row, col).meet(window)
            whole_HW[shared.within(window)] = stored_HW[shared.within(grid.full_window(row, col))]
    return whole_HW


def _read_object(store: Store, key: str, layer: Layer, grid: Grid) -> NDArray[Any] | None:
    try:
        content = store.get(key)
    except FileNotFoundError:
        return None
    size_bytes = grid.cell_px**2 * np.dtype(layer.dtype).itemsize
    try:
        raw = inflate(content, size_bytes)
    except DamagedError as error:
        todo = "delete this object and run the recipe again, which makes its chunk anew"
        raise DamagedError(error.what, where=key, got=error.got, todo=todo) from error
    return np.frombuffer(raw, layer.dtype).reshape(grid.cell_px, grid.cell_px)


def draw_classes(codes_HW: NDArray[Any], palette: Mapping[int, RGB]) -> str:
    """Draw codes in the colours of their classes; codes without a colour are transparent."""
    table = np.zeros((int(np.iinfo(codes_HW.dtype).max) + 1, 4), np.uint8)
    for code, rgb in palette.items():
        table[code] = (*rgb, 255)
    return _draw_codes(codes_HW, table)


def draw_measure(codes_HW: NDArray[Any], layer: Layer) -> str:
    """Draw codes on the colour ramp; nodata is transparent."""
    codes, stops = np.arange(layer.highest + 1), [layer.top * share for share, _ in layer.ramp]
    table = np.full((len(codes), 4), 255, np.uint8)
    for part in range(3):
        table[:, part] = np.interp(codes, stops, [rgb[part] for rgb in RAMP]).round()
    table[layer.nodata] = 0
    return _draw_codes(codes_HW, table)


def _draw_codes(codes_HW: NDArray[Any], table: NDArray[np.uint8]) -> str:
    """Draw codes by a table of colours. Bytes get a PNG with a palette: a tenth of the time and half the size."""
    if len(table) > 256:
        return _encode(table[codes_HW].transpose(2, 0, 1), "PNG")
    return _encode(codes_HW[np.newaxis], "PNG", {code: tuple(map(int, rgba)) for code, rgba in enumerate(table)})


def draw_scene(
    url: str,
    bands: Sequence[int],
    shape_px: tuple[int, int],
    window: Window | None = None,
    trust: Trust = NO_TRUST,
) -> str | None:
    """Draw the scene in natural brightness.

    Args:
        url: The scene.
        bands: Numbers of its bands, up to three of which are drawn.
        shape_px: Rows and columns of the picture.
        window: Part of the scene; None: all of it.
        trust: What the author of the recipe allows the scene to refer to.

    Returns:
        The picture as a data URL; None where the scene cannot be read any more, or may not, or not quickly.
    """
    picture_BHW = read_scene_picture(url, bands, shape_px, window, trust)
    return None if picture_BHW is None else _encode(picture_BHW, "JPEG")


def read_scene_picture(
    url: str, bands: Sequence[int], shape_px: tuple[int, int], window: Window | None, trust: Trust
) -> NDArray[np.uint8] | None:
    """Read what `draw_scene` draws, as red, green and blue; None where it cannot be read."""
    if url in _HUNG:
        return None
    try:
        drawn = read_within(lambda: _read_scene(url, bands, shape_px, window, trust), PICTURE_S, url)
    except AbsentSceneError:
        _HUNG.add(url)
        return None
    except (*GDAL_ERRORS, BatchsegError, FileNotFoundError):
        return None
    return None if drawn is None else _stretch(drawn)


def _read_scene(
    url: str, bands: Sequence[int], shape_px: tuple[int, int], window: Window | None, trust: Trust
) -> NDArray[Any] | None:
    """Read the pixels of a picture; None where that would take long."""
    with gdal(), open_raster(url, trust) as raster:
        dataset = raster.dataset
        indexes = list(bands[:3]) or [1]
        if window is None and not dataset.overviews(1) and dataset.width * dataset.height > _SLOW_PX:
            return None
        whole = Window.of(0, dataset.height, 0, dataset.width)
        dtype = np.result_type(np.float32, *dataset.dtypes)  # twice as quick as float64, for eight and sixteen bits
        values_BHW = np.full((len(indexes), *shape_px), np.nan, dtype)
        for rows, part in _cut_stripes(window or whole, shape_px[0]):
            shape = values_BHW[:, rows].shape
            masked = dataset.read(indexes, out_shape=shape, window=_gdal_window(part), masked=True)
            values_BHW[:, rows] = np.ma.filled(masked.astype(dtype), np.nan)
    return values_BHW


def explain_missing_picture(url: str, trust: Trust = NO_TRUST) -> str:
    """Say why `draw_scene` has no picture of a whole scene, and what gives it one."""
    if url in _HUNG:
        return f"its file could not be read within {PICTURE_S:g} s"
    try:
        with gdal(), open_raster(url, trust) as raster:
            dataset = raster.dataset
            mpx, has_overviews = dataset.width * dataset.height / 1e6, bool(dataset.overviews(1))
    except (*GDAL_ERRORS, BatchsegError, FileNotFoundError) as error:
        return f"its file cannot be opened ({redact(find_reason(error))})"
    if has_overviews or mpx * 1e6 <= _SLOW_PX:
        return "a part of its file cannot be read"
    remedy = (
        "a Cloud Optimized GeoTIFF has them"
        if is_remote(url)
        else f"`gdaladdo -ro -r average {quote(gdal_path(url))}` puts them beside the file, which stays as it is, and "
        "`batchseg report` then shows the scene"
    )
    return f"it has {mpx:.0f} Mpx and no overviews; {remedy}"


def _cut_stripes(window: Window, num_rows: int) -> Iterator[tuple[slice, Window]]:
    """Cut a window into parts from top to bottom; each comes with the rows of the picture that it makes."""
    num = min(num_rows, -(-len(window.rows) * len(window.cols) // _STRIPE_PX))
    for part in range(num):
        first, last = part * num_rows // num, (part + 1) * num_rows // num
        top, bottom = (window.rows.start + row * len(window.rows) // num_rows for row in (first, last))
        yield slice(first, last), Window.of(top, bottom, window.cols.start, window.cols.stop)


def _gdal_window(window: Window) -> GdalWindow:
    return GdalWindow(window.cols.start, window.rows.start, len(window.cols), len(window.rows))


def _stretch(values_BHW: NDArray[Any]) -> NDArray[np.uint8]:
    # The darkest and the brightest percent of a large picture can be found on a sixteenth of its pixels.
    step = 4 if values_BHW[0].size > _SAMPLED_PX else 1
    sample = values_BHW[:, ::step, ::step]
    known = sample[np.isfinite(sample)]
    low, high = map(float, np.percentile(known, (1, 99))) if known.size else (0.0, 1.0)
    values_BHW = (values_BHW - low) * (255 / max(high - low, 1e-9))
    np.clip(values_BHW, 0, 255, out=values_BHW)
    values_BHW[np.isnan(values_BHW)] = 255
    bytes_BHW = values_BHW.astype(np.uint8)
    return bytes_BHW if len(bytes_BHW) == 3 else np.repeat(bytes_BHW[:1], 3, axis=0)


def _encode(pixels_BHW: NDArray[np.uint8], driver: str, palette: Mapping[int, tuple[int, ...]] | None = None) -> str:
    bands, height, width = pixels_BHW.shape
    profile = {"driver": driver, "dtype": "uint8", "count": bands, "height": height, "width": width}
    with rasterio.Env(GDAL_PAM_ENABLED="NO"), MemoryFile() as memory:
        with memory.open(**profile) as file:
            file.write(pixels_BHW)
            if palette is not None:
                file.write_colormap(1, palette)
        content = bytes(memory.read())
    return f"data:image/{driver.lower()};base64,{base64.b64encode(content).decode()}"
