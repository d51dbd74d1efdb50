"""Every score of a confusion matrix, as values that can be written down. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batchseg.score.confusion import iou_per_class, mean_iou

DIGITS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class AccuracyScores:
    """The scores of one confusion matrix. A score is None where its denominator is zero."""

    iou: dict[str, float | None]
    """Intersection over union of each class, by class name."""
    recall: dict[str, float | None]
    """Share of the reference pixels of each class that were predicted as this class."""
    precision: dict[str, float | None]
    """Share of the predicted pixels of each class that are right."""
    f1: dict[str, float | None]
    """Harmonic mean of recall and precision of each class."""
    miou: float | None
    """Mean over the classes that have an IoU."""
    fwiou: float | None
    """Mean IoU weighted by the classes' shares of the reference pixels."""
    accuracy: float | None
    """Share of all scored pixels that are right."""
    scored_px: int
    """Pixels that have both a label and a prediction."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TierScores:
    """AccuracyScores of the pixels that each tier labelled; None where no such pixel was scored."""

    bulk: AccuracyScores | None
    heavy: AccuracyScores | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PriorityScores:
    """AccuracyScores inside and outside of the priority polygons; None where no such pixel was scored."""

    inside: AccuracyScores | None
    outside: AccuracyScores | None


def compute_scores(confusion: NDArray[Any], classes: Sequence[str]) -> AccuracyScores:
    """All scores of a confusion matrix: rows are reference classes, columns predicted classes."""
    hits, reference_px, predicted_px = np.diag(confusion), confusion.sum(1), confusion.sum(0)
    iou = iou_per_class(confusion)
    total_px = int(confusion.sum())
    weighted = sum(int(px) * value for px, value in zip(reference_px, iou, strict=True) if px and value is not None)
    return AccuracyScores(
        iou=_by_class(classes, iou),
        recall=_by_class(classes, _ratios(hits, reference_px)),
        precision=_by_class(classes, _ratios(hits, predicted_px)),
        f1=_by_class(classes, _ratios(2 * hits, reference_px + predicted_px)),
        miou=_round(mean_iou(iou)) if total_px else None,
        fwiou=_round(weighted / total_px) if total_px else None,
        accuracy=_round(int(hits.sum()) / total_px) if total_px else None,
        scored_px=total_px,
    )


def compute_tier_scores(parts: Mapping[str, NDArray[Any]], classes: Sequence[str]) -> TierScores:
    """The scores of each tier, from confusion matrices by `agreement.Part`."""
    return TierScores(bulk=_part_scores(parts, "bulk", classes), heavy=_part_scores(parts, "heavy", classes))


def compute_priority_scores(parts: Mapping[str, NDArray[Any]], classes: Sequence[str]) -> PriorityScores:
    """The scores inside and outside of priority polygons, from confusion matrices by `agreement.Part`."""
    inside, outside = (_part_scores(parts, place, classes) for place in ("inside", "outside"))
    return PriorityScores(inside=inside, outside=outside)


def _part_scores(parts: Mapping[str, NDArray[Any]], word: str, classes: Sequence[str]) -> AccuracyScores | None:
    """The scores over all parts whose name has this word."""
    matrices = [matrix for part, matrix in parts.items() if word in part.split("_")]
    return compute_scores(np.sum(matrices, axis=0), classes) if matrices else None


def _ratios(numerators: NDArray[Any], denominators: NDArray[Any]) -> list[float | None]:
    return [float(a / b) if b else None for a, b in zip(numerators, denominators, strict=True)]


def _by_class(classes: Sequence[str], values: Iterable[float | None]) -> dict[str, float | None]:
    return dict(zip(classes, map(_round, values), strict=True))


def _round(value: float | None) -> float | None:
    return None if value is None else round(value, DIGITS)
