"""Is a quantised bundle as good as the original? Per-class IoU and agreement on the same tiles, before and after."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batchseg.errors import BundleError
from batchseg.score.accuracy import labelled_iou


@dataclass(frozen=True, slots=True)
class Comparison:
    agreement: float
    """Share of the judged pixels with the same label."""
    before: tuple[float | None, ...] | None
    """IoU of each class; None without a reference, and of a class that it does not have, before and after alike."""
    after: tuple[float | None, ...] | None

    @property
    def loss_points(self) -> float:
        """Of the mean IoU; without a reference the most that pixel accuracy can have lost."""
        if self.before is None or self.after is None:
            return 100 * (1 - self.agreement)
        return 100 * (mean_of(self.before) - mean_of(self.after))

    @property
    def worst_class(self) -> tuple[int, float]:
        """The class that lost most, and its points."""
        pairs = zip(self.before or (), self.after or (), strict=True)
        lost = {i: 100 * (b - a) for i, (b, a) in enumerate(pairs) if b is not None and a is not None}
        worst = max(lost, key=lambda i: lost[i])
        return worst, lost[worst]


def compare(
    before_NHW: NDArray[Any],
    after_NHW: NDArray[Any],
    judged_NHW: NDArray[np.bool_],
    reference_NHW: NDArray[Any] | None,
    num_classes: int,
) -> Comparison:
    """Of class indexes; in a reference, `num_classes` is no label."""
    agreement = float((before_NHW == after_NHW)[judged_NHW].mean())
    if reference_NHW is None:
        return Comparison(agreement, None, None)
    known_NHW = judged_NHW & (reference_NHW < num_classes)
    if not known_NHW.any():
        raise BundleError("no tile that is judged has a label", where="--labels", todo="give more tiles, or drop it")

    def scores(labels_NHW: NDArray[Any]) -> tuple[float | None, ...]:
        pairs = reference_NHW[known_NHW].astype(np.int64) * num_classes + labels_NHW[known_NHW]
        return labelled_iou(np.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes))

    return Comparison(agreement, scores(before_NHW), scores(after_NHW))


def mean_of(iou: tuple[float | None, ...]) -> float:
    known = [value for value in iou if value is not None]
    return sum(known) / len(known)


def check_gate(found: Comparison, names: tuple[str, ...], *, max_loss: float, max_class_loss: float) -> None:
    """Raises BundleError for a bundle that lost more than is allowed, as a mean or in one class."""
    what, expected, got = "", "", ""
    if found.loss_points > max_loss:
        measure = "mean IoU" if found.before is not None else "agreement"
        what, expected, got = measure, f"{max_loss:g}", f"{found.loss_points:.2f}"
    elif found.before is not None and found.worst_class[1] > max_class_loss:
        index, points = found.worst_class
        what, expected, got = f"IoU of {names[index]}", f"{max_class_loss:g}", f"{points:.2f}"
    if what:
        raise BundleError(
            f"the quantised bundle loses too many points of {what}, and nothing was written",
            expected=f"{expected} at most",
            got=got,
            todo="calibrate on more tiles, or on ground like that of your runs; or allow more with --max-loss-points "
            "and --max-class-loss-points",
        )
