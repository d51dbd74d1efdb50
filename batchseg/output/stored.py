"""The stitched layers of a scene as Zarr, format 2: the truth that workers commit.

Theory of operation
-------------------
A chunk of the run is a whole number of *stored* chunks of the arrays, so no stored object ever has two writers and a
task can be done again without asking anyone. Arrays are created once, by the driver (`zarrmeta.py`), before any worker
starts; workers put encoded stored chunks and nothing else. A stored chunk without a single valid pixel is not put:
Zarr's fill value is the nodata code, and the record that lists what was put is what tells absence from loss.

So what lies under the key of an empty stored chunk shows. Which pixels are valid is a function of the fingerprint: no
worker of this run ever puts anything there, and no request is spent on what cannot be. There are three exceptions, and
only there something is deleted: an output that another recipe left behind without its records (`clear`, once, before
the recipe is written down), a chunk's second attempt (cheap, as they are few, should a file have changed unnoticed),
and coarser levels of a sheet where a chunk was given up, which may have been made with that chunk before.

Format 2 with zlib, because everything that analysts have can read it: GDAL since 3.4, QGIS, xarray, zarr 2 and 3.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batchseg.errors import DamagedError
from batchseg.layers.layer import Layer
from batchseg.ledger.records import StoredObject
from batchseg.output.deflate import deflate, inflate
from batchseg.output.levels import ZarrLevel, choose_zarr_levels
from batchseg.paths import zarr_key
from batchseg.scene.georef import Georef
from batchseg.store import Store, compute_digest
from tiling.grid import Grid, stored_chunk_px
from tiling.span import Window

DELETES_AT_ONCE = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class ZarrLayout:
    """Where the arrays of one scene are and how they are cut."""

    scene: str
    georef: Georef
    chunk_px: int
    sheet_px: int
    """Side of one GeoTIFF sheet; at least the longer side of a scene that is one sheet."""
    layers: tuple[Layer, ...]

    @property
    def root(self) -> str:
        return zarr_key(self.scene)

    @property
    def stored_px(self) -> int:
        return stored_chunk_px(self.chunk_px)

    @property
    def stored_grid(self) -> Grid:
        return Grid((self.georef.height_px, self.georef.width_px), self.stored_px)

    @property
    def sheets(self) -> Grid:
        return Grid((self.georef.height_px, self.georef.width_px), self.sheet_px)

    @property
    def is_one_sheet(self) -> bool:
        return len(self.sheets) == 1

    @property
    def levels(self) -> tuple[ZarrLevel, ...]:
        return choose_zarr_levels((self.georef.height_px, self.georef.width_px), self.sheet_px)

    def layer(self, name: str) -> Layer:
        return next(layer for layer in self.layers if layer.name == name)

    def object_key(self, layer: str, row: int, col: int, *, level: int = 0) -> str:
        group = f"{level}/" if level else ""
        return f"{self.root}/{group}{layer}/{row}.{col}"


def clear_zarr(store: Store, layout: ZarrLayout) -> int:
    """Delete all of a Zarr: of an output that holds no recipe yet, so that nobody else's chunks show."""
    keys = [key for key, _ in store.names(layout.root)]
    with ThreadPoolExecutor(DELETES_AT_ONCE) as threads:
        for _ in threads.map(store.delete, keys):
            pass
    return len(keys)


def write_chunk(
    store: Store, layout: ZarrLayout, window: Window, arrays: dict[str, NDArray[Any]], *, delete_empty: bool = False
) -> tuple[StoredObject, ...]:
    """Put the stored chunks of one chunk of the run, whole; wholly invalid ones are left out.

    `again`: an earlier attempt may have put some of them.
    """
    if any(start % layout.stored_px for start in (window.rows.start, window.cols.start)):
        raise ValueError(f"{window} does not begin on a stored chunk of {layout.stored_px} px")
    return tuple(_put_chunk(store, layout, window, arrays, delete_empty=delete_empty))


def _put_chunk(
    store: Store, layout: ZarrLayout, window: Window, arrays: dict[str, NDArray[Any]], *, delete_empty: bool
) -> Iterator[StoredObject]:
    for layer in layout.layers:
        for row, col in layout.stored_grid.touching(window):
            part = arrays[layer.name][layout.stored_grid.window(row, col).within(window)]
            stored = put_stored(
                store, layout.object_key(layer.name, row, col), part, layer, layout.stored_px, delete_empty=delete_empty
            )
            if stored is not None:
                yield stored


def _encode_stored(part: NDArray[Any], layer: Layer, stored_px: int) -> bytes:
    """A stored chunk is always full size: what hangs over the scene's edge is filled with nodata."""
    if part.shape != (stored_px, stored_px):
        full = np.full((stored_px, stored_px), layer.nodata, layer.dtype)
        full[: part.shape[0], : part.shape[1]] = part
        part = full
    return deflate(part)[0]


def put_stored(
    store: Store, key: str, part: NDArray[Any], layer: Layer, stored_px: int, *, delete_empty: bool
) -> StoredObject | None:
    """Put one stored chunk; None where nothing in it is valid.

    `again`: something else may have been put under this key, and must not stay there.
    """
    if _is_empty(part, layer.nodata):
        if delete_empty:
            store.delete(key)
        return None
    content = _encode_stored(part, layer, stored_px)
    store.put(key, content)
    return StoredObject(key=key, size_bytes=len(content), digest=compute_digest(content))


def _is_empty(part: NDArray[Any], nodata: int) -> bool:
    """By a look at two corners first, and without any array on the way."""
    return bool(part[0, 0] == nodata == part[-1, -1] and part.min() == nodata == part.max())


def read_stored(store: Store, layout: ZarrLayout, layer: Layer, stored: StoredObject) -> NDArray[Any]:
    """A stored chunk, checked against the digest in its record."""
    try:
        content = store.get(stored.key)
    except OSError as error:
        raise DamagedError("a committed object cannot be read", where=stored.key, got=str(error)) from error
    if compute_digest(content) != stored.digest:
        raise DamagedError("a committed object has changed", where=stored.key, expected=stored.digest)
    size_bytes = layout.stored_px**2 * np.dtype(layer.dtype).itemsize
    return np.frombuffer(inflate(content, size_bytes), layer.dtype).reshape(layout.stored_px, layout.stored_px)


def read_chunk(
    store: Store, layout: ZarrLayout, layer: Layer, window: Window, objects: tuple[StoredObject, ...]
) -> NDArray[Any]:
    """One layer of one committed chunk, put together from its stored chunks."""
    of_key = {stored.key: stored for stored in objects}
    whole_HW = np.full(window.shape, layer.nodata, layer.dtype)
    for row, col in layout.stored_grid.touching(window):
        stored = of_key.get(layout.object_key(layer.name, row, col))
        if stored is not None:
            part = layout.stored_grid.window(row, col)
            stored_HW = read_stored(store, layout, layer, stored)
            whole_HW[part.within(window)] = stored_HW[: len(part.rows), : len(part.cols)]
    return whole_HW
