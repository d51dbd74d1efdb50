"""Confusion matrices and intersection over union (IoU). Pure; every IoU of this package is computed here.

A confusion matrix counts pixels: its rows are the classes of the reference, its columns the predicted classes, both in
the order of the bundle's class list.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray


def count_confusion(
    reference: NDArray[Any], predicted: NDArray[Any], num_classes: int, *, weights: NDArray[Any] | None = None
) -> NDArray[Any]:
    """Count the pairs of reference class and predicted class.

    Args:
        reference: Class indexes of any shape. A value of `num_classes` or more means that the pixel has no label.
        predicted: Class indexes of the same shape. A value of `num_classes` or more means no prediction.
        num_classes: The length of the class list.
        weights: How often each pixel counts; by default once.

    Returns:
        A matrix of `num_classes` rows and columns. Pixels without a label or without a prediction are not in it.
    """
    rows, cols = (np.minimum(index.astype(np.int64), num_classes).ravel() for index in (reference, predicted))
    side = num_classes + 1
    flat_weights = None if weights is None else weights.ravel()
    counts = np.bincount(rows * side + cols, flat_weights, minlength=side**2).reshape(side, side)
    return counts[:num_classes, :num_classes]


def iou_from_counts(hits: NDArray[Any], reference_px: NDArray[Any], predicted_px: NDArray[Any]) -> NDArray[np.float64]:
    """IoU from pixel counts, element by element; NaN where neither the reference nor the prediction has a pixel."""
    union = reference_px + predicted_px - hits
    iou: NDArray[np.float64] = np.divide(hits, union, out=np.full(hits.shape, np.nan), where=union > 0)
    return iou


def iou_per_class(confusion: NDArray[Any]) -> tuple[float | None, ...]:
    """IoU of each class; None for a class that neither the reference nor the prediction has."""
    iou_K = iou_from_counts(np.diag(confusion), confusion.sum(1), confusion.sum(0))
    return tuple(None if np.isnan(iou) else float(iou) for iou in iou_K)


def iou_per_labelled_class(confusion: NDArray[Any]) -> tuple[float | None, ...]:
    """IoU of each class that the reference has; None for all others, whatever was predicted.

    The means of two predictions are then taken over the same classes. With `iou_per_class`, a class that the reference
    lacks would enter a mean as zero as soon as one prediction contains a single pixel of it.
    """
    is_labelled_K = confusion.sum(1) > 0
    return tuple(iou if has else None for iou, has in zip(iou_per_class(confusion), is_labelled_K, strict=True))


def mean_iou(iou: Iterable[float | None]) -> float:
    """The mean over the classes that have an IoU; at least one must have one."""
    known = [value for value in iou if value is not None]
    assert known, "a mean needs a class that has an IoU"
    return sum(known) / len(known)
