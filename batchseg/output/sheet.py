"""A sheet: the GeoTIFFs over a block of chunks of a scene, and the coarser levels of its Zarr there.

Theory of operation
-------------------
The worker reads stored chunks of the Zarr a stripe of rows at a time, so memory is a few stripes however high the scene
is. It checks each stored chunk against the digest in the record of its chunk (`sheet_reader.py`). If one does not
match, the error names its chunk, so that the chunk can be made again, and no sheet is written (invariant I3). Ground
whose chunk was given up is nodata in the files, and the record of the sheet lists it (invariant I7). Here all pixels of
the sheet pass side by side, so the worker counts the seams here too (`sheet_seams.py`).

A scene of one sheet has its files in its own folder. The files of several sheets have names that no other content ever
had, `SCENE/sheets/labels_0_1-DIGEST.tif`. So the scene's mosaic (`mosaic.py`) shows whole sheets at any moment, also
while a sheet is made again.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batchseg.egress import encode_text
from batchseg.layers.layer import Layer
from batchseg.ledger.keys import ChunkKey, SheetKey
from batchseg.ledger.records import Brief, Edges, Record, Seams, StoredObject
from batchseg.output.cog import CogFile, CogOptions, Rows, write_cog
from batchseg.output.level_writer import LevelWriter
from batchseg.output.sheet_reader import SheetReader, index_objects
from batchseg.output.sheet_seams import MapCut, SeamCounter
from batchseg.output.sidecars import make_sidecars
from batchseg.output.stored import ZarrLayout
from batchseg.paths import sheets_folder
from batchseg.seals import compute_digest
from batchseg.store import Store
from tiling.span import Window

STORE_THREADS = 4
"""Stored chunks that are read or put at once. On an object store most of that time is waiting."""
NUM_DIGEST_DIGITS = 12
"""Digits of the inputs' digest in the name of a sheet."""
STRIPE_BYTES = 1 << 25
"""Largest size of a stripe, unless even the lowest one is larger. A few stripes are in memory at once."""
STRIPES_PX = (2048, 1024, 512)
"""Heights of stripes. A stripe as high as a stored chunk reads each one once; lower stripes read some of them again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SheetWork:
    """Everything that a worker needs to make a sheet, apart from the records of its chunks."""

    layout: ZarrLayout
    key: SheetKey
    core_px: int
    areas_km2: dict[str, dict[int, float]]
    """Ground by layer and class id, for the attribute tables; without the layers whose ground is not known."""

    @property
    def window(self) -> Window:
        return self.layout.sheets.window(self.key.row, self.key.col)

    def file_stem(self, layer: Layer, inputs_digest: str) -> str:
        """The common beginning of the keys of a layer's files."""
        scene, key = self.layout.scene, self.key
        if self.layout.is_one_sheet:
            return f"{scene}/{layer.name}"
        return f"{sheets_folder(scene)}/{layer.name}_{key.row}_{key.col}-{inputs_digest[:NUM_DIGEST_DIGITS]}"


def is_sheet_file(key: str, layout: ZarrLayout) -> bool:
    """Test if this is the name of a file of one of several sheets, as `SheetWork.file_stem` makes it."""
    layers = "|".join(re.escape(layer.name) for layer in layout.layers)
    folder = re.escape(sheets_folder(layout.scene))
    name = rf"{folder}/({layers})_\d+_\d+-[0-9a-f]{{{NUM_DIGEST_DIGITS}}}(\.tif|\.tif\.aux\.xml|\.qml)"
    return re.fullmatch(name, key) is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sheet:
    """A sheet that was made, as its record describes it."""

    inputs_digest: str
    missing: tuple[ChunkKey, ...]
    """Chunks that were given up."""
    objects: tuple[StoredObject, ...]
    seams: Seams
    edges: Edges | None
    """Outermost rows and columns; None where the scene has a single sheet."""


def digest_inputs(chunks: Mapping[ChunkKey, Brief | None]) -> str:
    """Digest the inputs of a sheet: the digests of all objects of its chunks, and which chunks are missing."""
    hasher = hashlib.blake2b(digest_size=16)
    for key, brief in sorted(chunks.items()):
        hasher.update(f"{key} {'missing' if brief is None else brief.objects_digest}\n".encode())
    return hasher.hexdigest()


def make_sheet(store: Store, work: SheetWork, records: Mapping[ChunkKey, Record | None]) -> Sheet:
    """Write the GeoTIFFs of a sheet with their sidecars, and the coarser levels of the Zarr.

    Args:
        store: The output folder.
        work: The sheet to make.
        records: The record of each of its chunks, None for a chunk that was given up.

    Raises:
        DamagedChunksError: Committed objects are gone or have changed.
    """
    layout = work.layout
    digest = digest_inputs({key: None if record is None else Brief.of(record) for key, record in records.items()})
    cut = MapCut(core_px=work.core_px, chunk_px=layout.chunk_px, nodata=layout.layer("labels").nodata)
    seams = SeamCounter(cut, work.window)
    georef = layout.georef.part(work.window)
    missing = tuple(key for key, record in sorted(records.items()) if record is None)
    objects: list[StoredObject] = []
    with store.scratch() as folder, ThreadPoolExecutor(STORE_THREADS) as threads:
        reader = SheetReader(store, layout, work.window.cols, index_objects(records), threads)
        for layer in layout.layers:
            read = partial(reader.read_and_count, seams) if layer.name == "labels" else reader.read
            levels = LevelWriter(store, layout, layer, work.window, threads, delete_empty=bool(missing))
            path = folder / f"{layer.name}.tif"
            num_overviews = 0 if layout.is_one_sheet else len(layout.levels)
            file = write_cog(
                path,
                georef,
                layer,
                _count_from_top(partial(read, layer), work.window.rows.start),
                scratch=folder,
                stripe_px=choose_stripe_px(work.window, layer),
                options=CogOptions(num_overviews=num_overviews, overview_rows=levels),
            )
            objects += levels.finish()
            stem = work.file_stem(layer, digest)
            objects += _put_files(store, stem, layer, path, file, work.areas_km2.get(layer.name))
    return Sheet(
        inputs_digest=digest,
        missing=missing,
        objects=tuple(objects),
        seams=seams.counts.to_seams(),
        edges=None if layout.is_one_sheet else seams.pack_edges(),
    )


def choose_stripe_px(window: Window, layer: Layer) -> int:
    """Choose the height of the stripes of a sheet: the largest that fits into `STRIPE_BYTES`."""
    most_px = STRIPE_BYTES // (len(window.cols) * np.dtype(layer.dtype).itemsize)
    return next((px for px in STRIPES_PX if px <= most_px), STRIPES_PX[-1])


def _count_from_top(rows: Rows, top_px: int) -> Rows:
    """Rows counted from the top of the sheet, from rows counted from the top of the scene."""

    def read(start: int, stop: int) -> NDArray[Any]:
        return rows(start + top_px, stop + top_px)

    return read


def _put_files(
    store: Store, stem: str, layer: Layer, path: Path, file: CogFile, area_km2: Mapping[int, float] | None
) -> list[StoredObject]:
    """Put the sidecars first, so that a user who sees the raster sees its names and colours too."""
    objects = []
    for suffix, text in make_sidecars(layer, file, area_km2).items():
        content = encode_text(text)
        key = f"{stem}{suffix}" if suffix == ".qml" else f"{stem}.tif{suffix}"
        store.put(key, content)
        objects.append(StoredObject(key=key, size_bytes=len(content), digest=compute_digest(content)))
    key = f"{stem}.tif"
    store.put_file(key, path)
    return [*objects, StoredObject(key=key, size_bytes=file.size_bytes, digest=file.digest)]
