"""Contents of one predicted chunk: pixels, ground, confidence, and agreement with a reference."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from batchseg.engine.chunk import Prediction
from batchseg.errors import BatchsegError
from batchseg.layers.confidence import NO_CONFIDENCE
from batchseg.ledger.records import Agreement, Measured, TileCounts
from batchseg.resolve.job import Job, SceneJob
from batchseg.scene.area import measure_classes
from batchseg.score.agreement import count_agreement, index_classes, make_empty_agreement
from batchseg.score.reference import open_reference_labels
from tiling.span import Window


def measure(job: Job, scene: SceneJob, prediction: Prediction) -> Measured:
    """Count and score one prediction, for its record."""
    ids, window = tuple(c.id for c in job.classes), prediction.window
    parts = [(part, part.within(window)) for part in prediction.labelled]
    labels = [(part, prediction.labels_HW[of]) for part, of in parts]
    class_px, areas_km2 = measure_classes(scene.grid, window, labels, codes=ids)
    by_tier = prediction.num_tiles_by_tier
    return Measured(
        tiles=TileCounts(
            bulk=by_tier["bulk"],
            heavy=by_tier["heavy"],
            skipped=prediction.num_tiles - by_tier["bulk"] - by_tier["heavy"],
        ),
        valid_px=sum(class_px),
        class_px=class_px,
        area_km2=None if areas_km2 is None else float(sum(areas_km2)),
        class_area_km2=areas_km2,
        confidence_sum=sum(_sum_but_nodata(prediction.confidence_HW[of]) for _, of in parts),
        agreement=_score_or_skip(job, scene, prediction),
        tile_codes=prediction.tier_codes,
        tile_scores=prediction.scores,
        audits=prediction.audits,
    )


def _sum_but_nodata(confidence_HW: NDArray[np.uint8]) -> int:
    return int(confidence_HW.sum(dtype=np.int64)) - NO_CONFIDENCE * int(
        np.count_nonzero(confidence_HW == NO_CONFIDENCE)
    )


def _score_or_skip(job: Job, scene: SceneJob, prediction: Prediction) -> Agreement | None:
    try:
        return score(job, scene, prediction.window, prediction.labels_HW, prediction.tier_HW)
    except BatchsegError:
        # A prediction is good whatever its reference. At its end the run scores the rest, and reports why it cannot.
        return None


def score(
    job: Job, scene: SceneJob, window: Window, labels_HW: NDArray[Any], codes_HW: NDArray[np.uint8]
) -> Agreement | None:
    """Score labels against the scene's reference, if it has one. Raises the errors of reading the reference."""
    if scene.labels is None:
        return None
    ids = tuple(c.id for c in job.classes)
    if (labels_HW == job.nodata).all():
        return make_empty_agreement(scene.labels.id, len(ids))
    return count_agreement(
        index_classes(labels_HW, ids, job.nodata),
        open_reference_labels(scene.labels),
        window,
        ids=ids,
        nodata=job.nodata,
        codes_HW=codes_HW,
        inside_HW=None if scene.priority is None else scene.priority.mask(window),
    )
