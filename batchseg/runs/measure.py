"""What one predicted chunk holds: pixels, ground, confidence, and how far it agrees with a reference."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from batchseg.engine.segment import Prediction
from batchseg.ledger.records import Agreement, Measured, TileCounts
from batchseg.runs.job import Job, SceneJob
from batchseg.scene.area import class_area_km2
from batchseg.scene.labels import LabelSource
from tiling.span import Window


def measure(job: Job, scene: SceneJob, prediction: Prediction, labels: LabelSource | None) -> Measured:
    index_HW = class_index(prediction.labels_HW, tuple(c.id for c in job.classes), job.nodata)
    class_px = np.bincount(index_HW.ravel(), minlength=len(job.classes) + 1)[:-1]
    areas_km2 = class_area_km2(scene.header.georef, prediction.window, index_HW, num_classes=len(job.classes))
    confidence_px = np.bincount(prediction.confidence_HW.ravel(), minlength=256)[:255]
    by_tier = prediction.num_tiles_by_tier
    return Measured(
        tiles=TileCounts(
            bulk=by_tier["bulk"],
            heavy=by_tier["heavy"],
            skipped=prediction.num_tiles - by_tier["bulk"] - by_tier["heavy"],
        ),
        valid_px=int(class_px.sum()),
        class_px=tuple(class_px.tolist()),
        area_km2=None if areas_km2 is None else float(sum(areas_km2)),
        class_area_km2=areas_km2,
        confidence_sum=int(confidence_px @ np.arange(255)),
        agreement=None if labels is None else agree(job, prediction.window, index_HW, labels),
        tile_codes=tuple(prediction.codes),
        tile_scores=tuple(prediction.scores),
        audits=tuple(prediction.audits),
    )


def class_index(labels_HW: NDArray[Any], ids: tuple[int, ...], nodata: int) -> NDArray[Any]:
    """Class ids to their positions in the bundle's list; what is no class gets the position after the last."""
    # One entry for every code of sixteen bits, since a reference may be wider than the labels layer.
    table = np.full(65536, len(ids), np.uint16 if len(ids) > 254 else np.uint8)
    table[list(ids)] = np.arange(len(ids))
    table[nodata] = len(ids)
    index_HW: NDArray[Any] = table[labels_HW]
    return index_HW


def agree(job: Job, window: Window, predicted_HW: NDArray[Any], labels: LabelSource) -> Agreement:
    """The confusion matrix over pixels that are both predicted and labelled."""
    raw_HW, labelled_HW = labels.read(window)
    num = len(job.classes)
    reference_HW = class_index(raw_HW, tuple(c.id for c in job.classes), job.nodata)
    both_HW = labelled_HW & (predicted_HW < num)
    unknown_px = int((both_HW & (reference_HW == num)).sum())
    pairs = reference_HW.astype(np.int64) * (num + 1) + predicted_HW
    counts = np.bincount(pairs[both_HW], minlength=(num + 1) ** 2).reshape(num + 1, num + 1)
    confusion = tuple(tuple(row) for row in counts[:num, :num].tolist())
    return Agreement(labels_id=labels.header.id, confusion=confusion, unknown_px=unknown_px)
