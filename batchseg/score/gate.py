"""Test of a quantised bundle against its original: agreement and IoU per class on the same tiles."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batchseg.errors import BundleError
from batchseg.score.confusion import count_confusion, iou_per_labelled_class, mean_iou


@dataclass(frozen=True, slots=True)
class QualityChange:
    """Differences of a changed bundle's labels from those of the original, on the same pixels."""

    agreement: float
    """Share of the judged pixels that have the same label before and after."""
    before: tuple[float | None, ...] | None
    """IoU of each class before the change; None without a reference.

    A class that the reference lacks has no IoU, neither before nor after.
    """
    after: tuple[float | None, ...] | None
    """IoU of each class after the change."""

    @property
    def loss_points(self) -> float:
        """Percentage points of mean IoU that were lost; without a reference, the most that pixel accuracy can lose."""
        if self.before is None or self.after is None:
            return 100 * (1 - self.agreement)
        return 100 * (mean_iou(self.before) - mean_iou(self.after))

    @property
    def worst_class(self) -> tuple[int, float]:
        """The index of the class that lost most, and how many percentage points it lost."""
        pairs = zip(self.before or (), self.after or (), strict=True)
        lost = {i: 100 * (b - a) for i, (b, a) in enumerate(pairs) if b is not None and a is not None}
        worst = max(lost, key=lambda i: lost[i])
        return worst, lost[worst]


def measure_change(
    before_NHW: NDArray[Any],
    after_NHW: NDArray[Any],
    judged_NHW: NDArray[np.bool_],
    reference_NHW: NDArray[Any] | None,
    num_classes: int,
) -> QualityChange:
    """Compare the class indexes that two bundles predict for the same tiles.

    Args:
        before_NHW: Class indexes that the original predicts.
        after_NHW: Class indexes that the changed bundle predicts.
        judged_NHW: Mask of the pixels that count.
        reference_NHW: Class indexes of the reference, `num_classes` where a pixel has no label; None without labels.
        num_classes: The length of the class list.

    Raises:
        BundleError: There is a reference, but no judged pixel has a label.
    """
    agreement = float((before_NHW == after_NHW)[judged_NHW].mean())
    if reference_NHW is None:
        return QualityChange(agreement, None, None)
    known_NHW = judged_NHW & (reference_NHW < num_classes)
    if not known_NHW.any():
        raise BundleError(
            "none of the judged tiles has a label",
            where="--labels",
            todo="give more tiles, or leave --labels out and judge by agreement alone",
        )
    reference_P = reference_NHW[known_NHW]
    before, after = (
        iou_per_labelled_class(count_confusion(reference_P, index_NHW[known_NHW], num_classes))
        for index_NHW in (before_NHW, after_NHW)
    )
    return QualityChange(agreement, before, after)


def check_gate(change: QualityChange, names: tuple[str, ...], *, max_loss: float, max_class_loss: float) -> None:
    """Refuse a bundle that lost more than is allowed, in the mean or in one class.

    Raises:
        BundleError: Names the measure, the points that are allowed and the points that were lost.
    """
    what, expected, got = "", "", ""
    if change.loss_points > max_loss:
        measure = "mean IoU" if change.before is not None else "agreement"
        what, expected, got = measure, f"{max_loss:g}", f"{change.loss_points:.2f}"
    elif change.before is not None and change.worst_class[1] > max_class_loss:
        index, points = change.worst_class
        what, expected, got = f"IoU of {names[index]}", f"{max_class_loss:g}", f"{points:.2f}"
    if what:
        raise BundleError(
            f"the quantised bundle loses too many points of {what}, and nothing was written",
            expected=f"{expected} at most",
            got=got,
            todo="calibrate on more tiles, or on ground like that of your runs; or allow more with --max-loss-points "
            "and --max-class-loss-points",
        )
