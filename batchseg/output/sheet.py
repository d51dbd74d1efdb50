"""A sheet: the GeoTIFFs over a block of chunks of a scene, and the Zarr's coarser levels there, from the stored layers.

Rows are pulled from the Zarr a stripe at a time, so memory is a few stripes however high the scene is. Each stored
chunk is checked against the digest in its chunk's record while it is read; what does not match is named, so that its
chunk can be made again, and no sheet is written (invariant I3). Ground whose chunk was given up is nodata in the files,
and listed in the sheet's record (invariant I7). Seams are counted on the way (`seams.py`), since here all pixels pass
side by side.

A scene of one sheet has its files in its own folder. The files of several have names that no other content ever had,
`SCENE/sheets/labels_0_1-DIGEST.tif`: what the scene's mosaic shows (`mosaic.py`) is whole at any moment, whatever sheet
is being made again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batchseg.errors import DamagedError
from batchseg.layers.layer import Layer
from batchseg.ledger.keys import ChunkKey, SheetKey
from batchseg.ledger.records import Brief, Edges, Record, Seams, StoredObject
from batchseg.output.cog import CogFile, CogOptions, Rows, write_cog
from batchseg.output.level_writer import LevelWriter
from batchseg.output.sheet_seams import MapCut, SeamCounter
from batchseg.output.sidecars import make_sidecars
from batchseg.output.stored import ZarrLayout, read_stored
from batchseg.paths import sheets_folder
from batchseg.store import Store, compute_digest
from batchseg.tiers import BULK
from tiling.span import Span, Window

STORE_THREADS = 4
"""How many stored chunks are read or put at once: on an object store most of that time is waiting."""


STRIPE_BYTES = 1 << 25
"""Of a stripe, some of which are in memory at once. Sheets so wide that they do not fit read stored chunks twice."""
STRIPES_PX = (2048, 1024, 512)


class DamagedChunksError(DamagedError):
    """Committed chunks whose objects are gone or changed."""

    def __init__(self, what: str, chunks: tuple[ChunkKey, ...] = (), where: str | None = None) -> None:
        super().__init__(what, where=where)
        self.chunks = chunks

    def __reduce__(self) -> tuple[object, ...]:
        return DamagedChunksError, (self.what, self.chunks, self.where)


@dataclass(frozen=True, slots=True, kw_only=True)
class SheetWork:
    layout: ZarrLayout
    key: SheetKey
    core_px: int
    areas_km2: dict[str, dict[int, float]]
    """Ground by layer and class id, for the attribute tables; without the layers whose ground is not known."""

    @property
    def window(self) -> Window:
        return self.layout.sheets.window(self.key.row, self.key.col)

    def file_stem(self, layer: Layer, digest: str) -> str:
        """The key of a layer's files, without what tells them apart."""
        if self.layout.is_one_sheet:
            return f"{self.layout.scene}/{layer.name}"
        return f"{sheets_folder(self.layout.scene)}/{layer.name}_{self.key.row}_{self.key.col}-{digest[:12]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sheet:
    inputs_digest: str
    missing: tuple[ChunkKey, ...]
    objects: tuple[StoredObject, ...]
    seams: Seams
    edges: Edges | None


def digest_inputs(chunks: Mapping[ChunkKey, Brief | None]) -> str:
    """What a sheet is made of: the digests of everything that its chunks put."""
    hasher = hashlib.blake2b(digest_size=16)
    for key, brief in sorted(chunks.items()):
        hasher.update(f"{key} {'missing' if brief is None else brief.objects_digest}\n".encode())
    return hasher.hexdigest()


def make_sheet(store: Store, work: SheetWork, records: Mapping[ChunkKey, Record | None]) -> Sheet:
    layout = work.layout
    digest = digest_inputs({key: None if record is None else Brief.of(record) for key, record in records.items()})
    cut = MapCut(core_px=work.core_px, chunk_px=layout.chunk_px, nodata=layout.layer("labels").nodata)
    seams = SeamCounter(cut, work.window)
    georef = layout.georef.part(work.window)
    top_px = work.window.rows.start
    missing = tuple(key for key, record in sorted(records.items()) if record is None)
    objects: list[StoredObject] = []
    with TemporaryDirectory(dir=store.scratch()) as folder, ThreadPoolExecutor(STORE_THREADS) as threads:
        reader = _Rows(store, layout, work.window.cols, _index(records), threads)
        for layer in layout.layers:
            rows = _CountedRows(seams, reader) if layer.name == "labels" else reader.of(layer)
            coarser = LevelWriter(store, layout, layer, work.window, threads, delete_empty=bool(missing))
            path = Path(folder) / f"{layer.name}.tif"
            made = write_cog(
                path,
                georef,
                layer,
                partial(_moved, rows, top_px),
                scratch=Path(folder),
                stripe_px=choose_stripe_px(work.window, layer),
                options=CogOptions(
                    num_overviews=0 if layout.is_one_sheet else len(layout.levels), overview_rows=coarser
                ),
            )
            objects += coarser.finish()
            objects += _publish(store, work.file_stem(layer, digest), layer, path, made, work.areas_km2.get(layer.name))
    return Sheet(
        inputs_digest=digest,
        missing=missing,
        objects=tuple(objects),
        seams=seams.counts.to_seams(),
        edges=None if layout.is_one_sheet else seams.edges(),
    )


def choose_stripe_px(window: Window, layer: Layer) -> int:
    """Rows that are pulled at once: as many as a stored chunk has, so that each is read once, where they fit."""
    fitting = STRIPE_BYTES // (len(window.cols) * np.dtype(layer.dtype).itemsize)
    return next((px for px in STRIPES_PX if px <= fitting), STRIPES_PX[-1])


def _moved(rows: Rows, top_px: int, start: int, stop: int) -> NDArray[Any]:
    """Rows counted from the top of the sheet."""
    return rows(start + top_px, stop + top_px)


def _publish(
    store: Store, stem: str, layer: Layer, path: Path, made: CogFile, area_km2: Mapping[int, float] | None
) -> list[StoredObject]:
    """Sidecars first: whoever sees the raster sees its names and colours too."""
    objects = []
    for suffix, text in make_sidecars(layer, made, area_km2).items():
        content = text.encode()
        key = f"{stem}{suffix}" if suffix == ".qml" else f"{stem}.tif{suffix}"
        store.put(key, content)
        objects.append(StoredObject(key=key, size_bytes=len(content), digest=compute_digest(content)))
    key = f"{stem}.tif"
    store.put_file(key, path)
    return [*objects, StoredObject(key=key, size_bytes=made.size_bytes, digest=made.digest)]


def _index(records: Mapping[ChunkKey, Record | None]) -> dict[str, tuple[StoredObject, ChunkKey]]:
    return {
        stored.key: (stored, record.key)
        for record in records.values()
        if record is not None
        for stored in record.objects
    }


@dataclass(slots=True)
class _Rows:
    """Rows of any layer of a Zarr between two columns, put together from its stored chunks."""

    store: Store
    layout: ZarrLayout
    cols: Span
    index: dict[str, tuple[StoredObject, ChunkKey]]
    threads: Executor

    def of(self, layer: Layer) -> _LayerRows:
        return _LayerRows(self, layer)

    def read(self, layer: Layer, start: int, stop: int) -> NDArray[Any]:
        wanted = Window(Span(start, stop), self.cols)
        places = [
            place
            for place in self.layout.stored_grid.touching(wanted)
            if self.layout.object_key(layer.name, *place) in self.index
        ]
        if not places:
            # One row, repeated: ground without pixels takes no memory and is known at a glance.
            return np.broadcast_to(np.full(len(wanted.cols), layer.nodata, layer.dtype), wanted.shape)
        rows_HW = np.full(wanted.shape, layer.nodata, layer.dtype)
        lay = partial(self._lay, layer, rows_HW, wanted)
        damaged = dict(found for found in self.threads.map(lay, places) if found is not None)
        if damaged:
            raise self._all_damaged(damaged)
        return rows_HW

    def _lay(
        self, layer: Layer, rows_HW: NDArray[Any], wanted: Window, place: tuple[int, int]
    ) -> tuple[ChunkKey, str] | None:
        """Put one stored chunk where it belongs; the chunk to make again and why, if it is damaged."""
        stored, chunk = self.index[self.layout.object_key(layer.name, *place)]
        try:
            stored_HW = read_stored(self.store, self.layout, layer, stored)
        except DamagedError as error:
            return chunk, str(error)
        window = self.layout.stored_grid.window(*place)
        shared = window.meet(wanted)
        rows_HW[shared.within(wanted)] = stored_HW[shared.within(window)]
        return None

    def _all_damaged(self, known: dict[ChunkKey, str]) -> DamagedChunksError:
        """Where something is damaged everything is checked, so that one repair is enough."""
        damaged = dict(known)
        for layer in self.layout.layers:
            prefix = f"{self.layout.root}/{layer.name}/"
            for key, (stored, chunk) in self.index.items():
                if key.startswith(prefix) and chunk not in damaged:
                    try:
                        read_stored(self.store, self.layout, layer, stored)
                    except DamagedError as error:
                        damaged[chunk] = str(error)
        return DamagedChunksError("; ".join(damaged.values()), tuple(damaged))


@dataclass(slots=True)
class _LayerRows:
    reader: _Rows
    layer: Layer

    def __call__(self, start: int, stop: int) -> NDArray[Any]:
        return self.reader.read(self.layer, start, stop)


@dataclass(slots=True)
class _CountedRows:
    """Rows of labels, which are counted as they pass."""

    counter: SeamCounter
    reader: _Rows

    def __call__(self, start: int, stop: int) -> NDArray[Any]:
        layout = self.reader.layout
        labels_HW = self.reader.read(layout.layer("labels"), start, stop)
        if any(layer.name == "tier" for layer in layout.layers):
            tiers_HW = _bulk_or_heavy(self.reader.read(layout.layer("tier"), start, stop))
        else:
            tiers_HW = np.full(labels_HW.shape, BULK, np.uint8)
        self.counter.add(labels_HW, tiers_HW, Span(start, stop))
        return labels_HW


def _bulk_or_heavy(codes_HW: NDArray[Any]) -> NDArray[Any]:
    """0 for bulk, 1 for every reason to be heavy; in place. Nodata has no label either, and counts nowhere."""
    if not codes_HW.flags.writeable:
        return np.broadcast_to(np.minimum(codes_HW[:1], BULK + 1), codes_HW.shape)
    np.minimum(codes_HW, BULK + 1, out=codes_HW)
    return codes_HW
