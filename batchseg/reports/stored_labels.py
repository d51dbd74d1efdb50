"""Reading any window of the labels that a run stored, whatever its chunks are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batchseg.ledger.ledger import Ledger
from batchseg.ledger.records import StoredObject
from batchseg.output.stored import ZarrLayout, read_stored
from batchseg.resolve.plan_file import PlanFile
from batchseg.score.agreement import index_classes
from batchseg.store import Store
from tiling.span import Window


@dataclass(frozen=True, slots=True)
class StoredLabels:
    """The labels of one scene of a run, as class indexes."""

    plan: PlanFile
    scene: str
    layout: ZarrLayout
    objects: Mapping[str, StoredObject]
    """The objects of the labels layer, by key."""
    read_object: Callable[[StoredObject], NDArray[Any]]
    """Reads and checks one object. It keeps the last row of objects, since readers go through a scene row by row."""

    @staticmethod
    def of(store: Store, plan: PlanFile, scene: str) -> StoredLabels:
        layout = plan.zarr_layout(scene)
        labels = layout.layer("labels")
        prefix = layout.object_key("labels", 0, 0).removesuffix("0.0")
        records = (record for record in Ledger(store).read_records() if record.key.scene == scene)
        objects = {o.key: o for record in records for o in record.objects if o.key.startswith(prefix)}

        @lru_cache(maxsize=layout.stored_grid.shape[1] + 1)
        def read_object(stored: StoredObject) -> NDArray[Any]:
            return read_stored(store, layout, labels, stored)

        return StoredLabels(plan, scene, layout, objects, read_object)

    def read(self, window: Window) -> NDArray[Any]:
        """Read the class indexes of a window; `len(plan.class_ids)` stands for no class.

        Raises:
            DamagedError: An object does not match the digest in its record.
        """
        layer, grid = self.layout.layer("labels"), self.layout.stored_grid
        labels_HW = np.full(window.shape, layer.nodata, layer.dtype)
        for row, col in grid.touching(window):
            stored = self.objects.get(self.layout.object_key("labels", row, col))
            if stored is not None:
                part = grid.window(row, col)
                shared = part.meet(window)
                labels_HW[shared.within(window)] = self.read_object(stored)[shared.within(part)]
        return index_classes(labels_HW, self.plan.class_ids, self.plan.nodata)
