"""Reads the rows of a sheet from the stored chunks of the Zarr, each checked against the digest in its record."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batchseg.errors import DamagedError
from batchseg.layers.layer import Layer
from batchseg.ledger.keys import ChunkKey
from batchseg.ledger.records import Record, StoredObject
from batchseg.output.sheet_seams import SeamCounter
from batchseg.output.stored import ZarrLayout, read_stored
from batchseg.store import Store
from batchseg.tiers import BULK
from tiling.span import Span, Window


class DamagedChunksError(DamagedError):
    """Objects of committed chunks are gone or have changed."""

    def __init__(self, what: str, chunks: tuple[ChunkKey, ...] = (), where: str | None = None) -> None:
        super().__init__(what, where=where)
        self.chunks = chunks

    def __reduce__(self) -> tuple[object, ...]:
        return DamagedChunksError, (self.what, self.chunks, self.where)


@dataclass(slots=True)
class SheetReader:
    """Reads rows of any layer between two columns of a scene."""

    store: Store
    layout: ZarrLayout
    cols: Span
    """Columns of the sheet, in pixels of the scene."""
    index: dict[str, tuple[StoredObject, ChunkKey]]
    """Stored chunks that were committed, and the chunk that each belongs to, by key."""
    threads: Executor
    """Threads that read stored chunks."""

    def read(self, layer: Layer, start: int, stop: int) -> NDArray[Any]:
        """Read the rows from `start` to `stop`, in pixels of the scene.

        Raises:
            DamagedChunksError: A stored chunk is gone or has changed. The error names the chunks of all that are.
        """
        wanted = Window(Span(start, stop), self.cols)
        places = [
            place
            for place in self.layout.stored_grid.touching(wanted)
            if self.layout.object_key(layer.name, *place) in self.index
        ]
        if not places:
            # One row, repeated: ground without pixels takes no memory, and its blocks are known to be constant.
            return np.broadcast_to(np.full(len(wanted.cols), layer.nodata, layer.dtype), wanted.shape)
        rows_HW = np.full(wanted.shape, layer.nodata, layer.dtype)
        read_place = partial(self._read_place, layer, rows_HW, wanted)
        damages = dict(damage for damage in self.threads.map(read_place, places) if damage is not None)
        if damages:
            raise self._find_all_damages(damages)
        return rows_HW

    def read_and_count(self, seams: SeamCounter, layer: Layer, start: int, stop: int) -> NDArray[Any]:
        """Read rows of the labels, and count the seams in them."""
        labels_HW = self.read(layer, start, stop)
        if any(layer.name == "tier" for layer in self.layout.layers):
            tiers_HW = _reduce_to_tiers(self.read(self.layout.layer("tier"), start, stop))
        else:
            tiers_HW = np.full(labels_HW.shape, BULK, np.uint8)
        seams.add(labels_HW, tiers_HW, Span(start, stop))
        return labels_HW

    def _read_place(
        self, layer: Layer, rows_HW: NDArray[Any], wanted: Window, place: tuple[int, int]
    ) -> tuple[ChunkKey, str] | None:
        """Read one stored chunk into the rows. If it is damaged, return its chunk and the reason instead."""
        stored, chunk = self.index[self.layout.object_key(layer.name, *place)]
        try:
            stored_HW = read_stored(self.store, self.layout, layer, stored)
        except DamagedError as error:
            return chunk, str(error)
        window = self.layout.stored_grid.window(*place)
        shared = window.meet(wanted)
        rows_HW[shared.within(wanted)] = stored_HW[shared.within(window)]
        return None

    def _find_all_damages(self, damages: dict[ChunkKey, str]) -> DamagedChunksError:
        """After the first damage, check every stored chunk of the sheet, so that one repair is enough."""
        reasons = dict(damages)
        for layer in self.layout.layers:
            prefix = f"{self.layout.root}/{layer.name}/"
            for key, (stored, chunk) in self.index.items():
                if key.startswith(prefix) and chunk not in reasons:
                    try:
                        read_stored(self.store, self.layout, layer, stored)
                    except DamagedError as error:
                        reasons[chunk] = str(error)
        return DamagedChunksError("; ".join(reasons.values()), tuple(reasons))


def index_objects(records: Mapping[ChunkKey, Record | None]) -> dict[str, tuple[StoredObject, ChunkKey]]:
    """All objects of these chunks, and the chunk that each belongs to, by key."""
    return {
        stored.key: (stored, record.key)
        for record in records.values()
        if record is not None
        for stored in record.objects
    }


def _reduce_to_tiers(codes_HW: NDArray[Any]) -> NDArray[Any]:
    """Make every reason for the heavy model a 1, in place. Nodata becomes 1 too, but seams ignore unlabelled pixels."""
    if not codes_HW.flags.writeable:
        return np.broadcast_to(np.minimum(codes_HW[:1], BULK + 1), codes_HW.shape)
    np.minimum(codes_HW, BULK + 1, out=codes_HW)
    return codes_HW
