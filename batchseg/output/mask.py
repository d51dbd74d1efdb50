"""The stitched layers of a scene as Zarr, format 2: the truth that workers commit.

Theory of operation
-------------------
A chunk of the run is a whole number of *stored* chunks of the arrays, so no stored object ever has two writers and a
task can be done again without asking anyone. Arrays are created once, by the driver, before any worker starts; workers
put encoded stored chunks and nothing else. A stored chunk without a single valid pixel is not put: Zarr's fill value is
the nodata code, and the record that lists what was put is what tells absence from loss.

Format 2 with zlib, because everything that analysts have can read it: GDAL since 3.4, QGIS, xarray, zarr 2 and 3.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.storage import MemoryStore

from batchseg.errors import DamagedError
from batchseg.ledger.records import StoredObject
from batchseg.output.deflate import deflate, inflate
from batchseg.output.layer import Layer
from batchseg.scene.georef import Georef
from batchseg.store import Store, digest_of
from tiling.grid import Grid, stored_chunk_px
from tiling.span import Window

ZLIB_LEVEL = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Mask:
    """Where the arrays of one scene are and how they are cut."""

    scene: str
    georef: Georef
    chunk_px: int
    layers: tuple[Layer, ...]
    attributes: dict[str, dict[str, Any]]
    """Of each layer's array, by its name."""

    @property
    def root(self) -> str:
        return f"{self.scene}/mask.zarr"

    @property
    def stored_px(self) -> int:
        return stored_chunk_px(self.chunk_px)

    @property
    def stored_grid(self) -> Grid:
        return Grid((self.georef.height_px, self.georef.width_px), self.stored_px)

    def layer(self, name: str) -> Layer:
        return next(layer for layer in self.layers if layer.name == name)

    def object_key(self, layer: str, row: int, col: int) -> str:
        return f"{self.root}/{layer}/{row}.{col}"


def create(store: Store, mask: Mask) -> None:
    """Put the metadata of all arrays and the coordinates; the same bytes each time, so a resume may repeat it."""
    for key, content in sorted(_metadata(mask).items()):
        store.put(f"{mask.root}/{key}", content)


def write_chunk(store: Store, mask: Mask, window: Window, arrays: dict[str, NDArray[Any]]) -> tuple[StoredObject, ...]:
    """Put the stored chunks of one chunk of the run, whole; wholly invalid ones are left out."""
    if any(start % mask.stored_px for start in (window.rows.start, window.cols.start)):
        raise ValueError(f"{window} does not begin on a stored chunk of {mask.stored_px} px")
    return tuple(_put_all(store, mask, window, arrays))


def _put_all(store: Store, mask: Mask, window: Window, arrays: dict[str, NDArray[Any]]) -> Iterator[StoredObject]:
    for layer in mask.layers:
        for row, col in mask.stored_grid.touching(window):
            part = arrays[layer.name][mask.stored_grid.window(row, col).within(window)]
            if (part != layer.nodata).any():
                content = _encode(part, layer, mask.stored_px)
                key = mask.object_key(layer.name, row, col)
                store.put(key, content)
                yield StoredObject(key=key, size_bytes=len(content), digest=digest_of(content))
            else:
                # An attempt that failed, or an older run, may have put something here.
                store.delete(mask.object_key(layer.name, row, col))


def _encode(part: NDArray[Any], layer: Layer, stored_px: int) -> bytes:
    """A stored chunk is always full size: what hangs over the scene's edge is filled with nodata."""
    if part.shape != (stored_px, stored_px):
        full = np.full((stored_px, stored_px), layer.nodata, layer.dtype)
        full[: part.shape[0], : part.shape[1]] = part
        part = full
    return deflate(part)[0]


def read_stored(store: Store, mask: Mask, layer: Layer, stored: StoredObject) -> NDArray[Any]:
    """A stored chunk, checked against the digest in its record."""
    try:
        content = store.get(stored.key)
    except OSError as error:
        raise DamagedError("a committed object cannot be read", where=stored.key, got=str(error)) from error
    if digest_of(content) != stored.digest:
        raise DamagedError("a committed object has changed", where=stored.key, expected=stored.digest)
    size_bytes = mask.stored_px**2 * np.dtype(layer.dtype).itemsize
    return np.frombuffer(inflate(content, size_bytes), layer.dtype).reshape(mask.stored_px, mask.stored_px)


def read_chunk(
    store: Store, mask: Mask, layer: Layer, window: Window, objects: tuple[StoredObject, ...]
) -> NDArray[Any]:
    """One layer of one committed chunk, put together from its stored chunks."""
    of_key = {stored.key: stored for stored in objects}
    whole_HW = np.full(window.shape, layer.nodata, layer.dtype)
    for row, col in mask.stored_grid.touching(window):
        stored = of_key.get(mask.object_key(layer.name, row, col))
        if stored is not None:
            part = mask.stored_grid.window(row, col)
            stored_HW = read_stored(store, mask, layer, stored)
            whole_HW[part.within(window)] = stored_HW[: len(part.rows), : len(part.cols)]
    return whole_HW


def _metadata(mask: Mask) -> dict[str, bytes]:
    """Let zarr write the metadata into memory; only the bytes matter to us."""
    memory: dict[str, Any] = {}
    group = zarr.open_group(MemoryStore(memory), mode="w", zarr_format=2)
    shape = (mask.georef.height_px, mask.georef.width_px)
    place = _placement(mask.georef)
    for layer in mask.layers:
        array = group.create_array(
            layer.name,
            shape=shape,
            chunks=(mask.stored_px, mask.stored_px),
            dtype=layer.dtype,
            fill_value=layer.nodata,
            compressors=_compressor(),
        )
        array.attrs.update({"_ARRAY_DIMENSIONS": ["y", "x"], **place, **mask.attributes.get(layer.name, {})})
    for axis, values in _coordinates(mask.georef).items():
        array = group.create_array(axis, data=values, chunks=values.shape, compressors=_compressor())
        array.attrs.update({"_ARRAY_DIMENSIONS": [axis], **_axis_attributes(axis, mask.georef)})
    zarr.consolidate_metadata(group.store, zarr_format=2)
    return {key: buffer.to_bytes() for key, buffer in memory.items()}


def _compressor() -> dict[str, Any]:
    return {"id": "zlib", "level": ZLIB_LEVEL}


def _placement(georef: Georef) -> dict[str, Any]:
    """GDAL reads `_CRS`; the transform is for people and for grids that x and y cannot describe."""
    place: dict[str, Any] = {}
    if georef.crs_wkt:
        place["_CRS"] = {"wkt": georef.crs_wkt}
    if georef.transform is not None:
        a, b, c, d, e, f = georef.transform
        place["GeoTransform"] = [c, a, b, f, d, e]
    return place


def _coordinates(georef: Georef) -> dict[str, NDArray[Any]]:
    """Pixel centres; without a transform, or with a rotated one, pixel numbers."""
    rows = np.arange(georef.height_px) + 0.5
    cols = np.arange(georef.width_px) + 0.5
    if georef.transform is None or georef.transform[1] or georef.transform[3]:
        return {"y": rows, "x": cols}
    a, _, c, _, e, f = georef.transform
    return {"y": f + e * rows, "x": c + a * cols}


def _axis_attributes(axis: str, georef: Georef) -> dict[str, Any]:
    if georef.crs_wkt is None or georef.transform is None:
        return {"long_name": f"{axis} in pixels"}
    geographic = georef.crs_wkt.startswith(("GEOGCS", "GEOGCRS", "GEODCRS"))
    names = {"x": "longitude", "y": "latitude"} if geographic else {a: f"projection_{a}_coordinate" for a in "xy"}
    return {"standard_name": names[axis]}


def flag_attributes(ids: tuple[int, ...], names: tuple[str, ...], title: str) -> dict[str, Any]:
    """CF's way to name the values of a layer."""
    meanings = " ".join(json.dumps(name)[1:-1].replace(" ", "_") for name in names)
    return {"long_name": title, "flag_values": list(ids), "flag_meanings": meanings}
