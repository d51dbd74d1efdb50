"""Every score of a confusion matrix, as values that can be written down. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batchseg.score.confusion import iou_per_labelled_class, mean_iou

DIGITS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class AccuracyScores:
    """The scores of one confusion matrix. A score is None where its denominator is zero.

    A class that no reference pixel has gets no score, and no part in the means: a pixel that was predicted as this
    class is an error of the class that the reference names.
    """

    iou: dict[str, float | None]
    """Intersection over union of each class, by class name; None for a class without reference pixels."""
    recall: dict[str, float | None]
    """Share of the reference pixels of each class that were predicted as this class."""
    precision: dict[str, float | None]
    """Share of the predicted pixels of each class that are right, out of those that have a reference."""
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


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceScores(AccuracyScores):
    """The scores of some ground against its reference, and what they are computed from."""

    confusion: tuple[tuple[int, ...], ...]
    """Pixels: rows are reference classes, columns predicted classes."""
    unknown_label_px: int
    """Predicted pixels whose label is no class of the bundle."""
    by_tier: TierScores
    by_priority: PriorityScores


@dataclass(frozen=True, slots=True, kw_only=True)
class NoScores:
    """The stand-in for scores where nothing was compared with a reference."""

    iou: None
    miou: None
    confusion: None
    unknown_label_px: int


NO_SCORES = NoScores(iou=None, miou=None, confusion=None, unknown_label_px=0)


def compute_scores(confusion: NDArray[Any], classes: Sequence[str]) -> AccuracyScores:
    """All scores of a confusion matrix: rows are reference classes, columns predicted classes."""
    hits, reference_px = np.diag(confusion), confusion.sum(1)
    predicted_px = np.where(reference_px > 0, confusion.sum(0), 0)
    iou = iou_per_labelled_class(confusion)
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


def compute_reference_scores(
    confusion: NDArray[Any], parts: Mapping[str, NDArray[Any]], unknown_px: int, classes: Sequence[str]
) -> ReferenceScores:
    """All scores of a confusion matrix, and those of its parts.

    Args:
        confusion: The whole matrix.
        parts: The matrices of its parts, by `agreement.Part`; parts without a pixel may be left out.
        unknown_px: Predicted pixels whose label is no class.
        classes: The names of the classes.
    """
    whole = compute_scores(confusion, classes)
    of_part = {word: _part_scores(parts, word, classes) for word in ("bulk", "heavy", "inside", "outside")}
    return ReferenceScores(
        **{f.name: getattr(whole, f.name) for f in fields(AccuracyScores)},
        confusion=tuple(tuple(row) for row in confusion.tolist()),
        unknown_label_px=unknown_px,
        by_tier=TierScores(bulk=of_part["bulk"], heavy=of_part["heavy"]),
        by_priority=PriorityScores(inside=of_part["inside"], outside=of_part["outside"]),
    )


def find_recall_note(scores: AccuracyScores) -> str | None:
    """Say that the IoU of the only class with reference pixels is its recall; None where it is not."""
    referenced = [name for name, recall in scores.recall.items() if recall is not None]
    if len(referenced) != 1 or len(scores.recall) == 1:
        return None
    return (
        f"only {referenced[0]} has reference pixels, so its IoU is its recall: no pixel can show that {referenced[0]} "
        "was predicted where it is not. Name the class of the ground outside of the reference"
    )


def _part_scores(parts: Mapping[str, NDArray[Any]], word: str, classes: Sequence[str]) -> AccuracyScores | None:
    """The scores over all parts whose name contains this word."""
    matrices = [matrix for part, matrix in parts.items() if word in part.split("_")]
    return compute_scores(np.sum(matrices, axis=0), classes) if matrices else None


def _ratios(numerators: NDArray[Any], denominators: NDArray[Any]) -> list[float | None]:
    return [float(a / b) if b else None for a, b in zip(numerators, denominators, strict=True)]


def _by_class(classes: Sequence[str], values: Iterable[float | None]) -> dict[str, float | None]:
    return dict(zip(classes, map(_round, values), strict=True))


def _round(value: float | None) -> float | None:
    return None if value is None else round(value, DIGITS)
