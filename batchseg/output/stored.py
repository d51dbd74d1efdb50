"""The stored layers of a scene: a Zarr of format 2, which workers commit and everything else is made from.

Theory of operation
-------------------
A chunk of the run is a whole number of *stored chunks* of the arrays. So no stored object ever has two writers, and a
worker can do a task again without asking anyone. The driver creates the arrays once, before any worker starts
(`zarr_metadata.py`); workers put compressed stored chunks and nothing else. A worker does not put a stored chunk
without a valid pixel: Zarr's fill value is the nodata code, and the record that lists the objects of the chunk tells an
empty stored chunk from a lost one.

So an object that lies under the key of an empty stored chunk would be visible. Which pixels are valid is a function of
the fingerprint: no worker of this run ever puts an object there, and no request is spent on deleting what cannot be
there. A run does not begin in a folder where objects lie under its keys already (`runs/output_check.py`). There are two
exceptions, where objects are deleted:

- An input file may have changed before the second attempt of a chunk. Deleting is cheap then, as such chunks are few.
- A sheet with a chunk that was given up may have been made with that chunk before; its coarser levels are deleted.

The format is 2 with zlib, because every program of an analyst can read it: GDAL since 3.4, QGIS, xarray, zarr 2 and 3.
"""

from __future__ import annotations

from collections.abc import Iterator
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
from batchseg.seals import compute_digest
from batchseg.store import Store
from tiling.grid import Grid, stored_chunk_px
from tiling.span import Window


@dataclass(frozen=True, slots=True, kw_only=True)
class ZarrLayout:
    """Places of a scene's arrays, and their cuts."""

    scene: str
    georef: Georef
    chunk_px: int
    sheet_px: int
    """Side of a GeoTIFF sheet; at least the longer side of the scene where one sheet holds it."""
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
    """Compress a stored chunk. It is always full size, padded with nodata beyond the edge of the scene."""
    if part.shape != (stored_px, stored_px):
        full = np.full((stored_px, stored_px), layer.nodata, layer.dtype)
        full[: part.shape[0], : part.shape[1]] = part
        part = full
    return deflate(part)[0]


def put_stored(
    store: Store, key: str, part: NDArray[Any], layer: Layer, stored_px: int, *, delete_empty: bool
) -> StoredObject | None:
    """Put one stored chunk, or nothing if it is empty.

    Args:
        store: The output folder.
        key: The key of the stored chunk.
        part: Its pixels; at the edge of a scene they are fewer than a stored chunk has.
        layer: The meaning of the codes.
        stored_px: The side of a stored chunk.
        delete_empty: Whether to delete under the key of an empty stored chunk, because pixels may have been put there.
    """
    if _is_empty(part, layer.nodata):
        if delete_empty:
            store.delete(key)
        return None
    content = _encode_stored(part, layer, stored_px)
    store.put(key, content)
    return StoredObject(key=key, size_bytes=len(content), digest=compute_digest(content))


def _is_empty(part: NDArray[Any], nodata: int) -> bool:
    """Test if no pixel is valid. Looks at two corners first, and makes no temporary array."""
    return bool(part[0, 0] == nodata == part[-1, -1] and part.min() == nodata == part.max())


def read_stored(store: Store, layout: ZarrLayout, layer: Layer, stored: StoredObject) -> NDArray[Any]:
    """Read a stored chunk and check it against the digest in its record.

    Raises:
        DamagedError: The object is gone or has changed.
    """
    try:
        content = store.get(stored.key)
    except OSError as error:
        raise DamagedError("a committed object must be readable", where=stored.key, got=str(error)) from error
    if compute_digest(content) != stored.digest:
        raise DamagedError("a committed object must not change", where=stored.key, expected=stored.digest)
    size_bytes = layout.stored_px**2 * np.dtype(layer.dtype).itemsize
    return np.frombuffer(inflate(content, size_bytes), layer.dtype).reshape(layout.stored_px, layout.stored_px)


def read_chunk(
    store: Store, layout: ZarrLayout, layer: Layer, window: Window, objects: tuple[StoredObject, ...]
) -> NDArray[Any]:
    """Read one layer of a committed chunk from its stored chunks.

    Args:
        store: The output folder.
        layout: The Zarr of the scene.
        layer: The layer to read.
        window: The window of the chunk.
        objects: The objects that the record of the chunk lists.

    Raises:
        DamagedError: An object is gone or has changed.
    """
    objects_by_key = {stored.key: stored for stored in objects}
    whole_HW = np.full(window.shape, layer.nodata, layer.dtype)
    for row, col in layout.stored_grid.touching(window):
        stored = objects_by_key.get(layout.object_key(layer.name, row, col))
        if stored is not None:
            part = layout.stored_grid.window(row, col)
            stored_HW = read_stored(store, layout, layer, stored)
            whole_HW[part.within(window)] = stored_HW[: len(part.rows), : len(part.cols)]
    return whole_HW
