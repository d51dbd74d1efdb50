"""The losses of training: the distance to the labels, to a teacher's soft labels, and between the crops of a pair."""

from __future__ import annotations

from typing import Literal

from torch import Tensor
from torch.nn import functional

from batchseg.training.crops import SOFT_PX
from batchseg.training.rasters import UNLABELLED

_FOCUS = 2.0
"""The exponent of the focal loss."""


def compute_hard_loss(scores: Tensor, y: Tensor, kind: Literal["dice", "focal"]) -> Tensor:
    """Distance to the labels. Unlabelled pixels count for nothing; without a labelled pixel the loss is zero."""
    known = y != UNLABELLED
    entropy = functional.cross_entropy(scores, y, ignore_index=UNLABELLED, reduction="none")
    count = known.sum().clamp(min=1)
    if kind == "focal":
        # Pixels that the network is already sure of hardly count.
        return (entropy * (1 - (-entropy).exp()) ** _FOCUS).sum() / count
    return entropy.sum() / count + 0.5 * _compute_dice_loss(scores, y, known.unsqueeze(1))


def _compute_dice_loss(scores: Tensor, y: Tensor, known: Tensor) -> Tensor:
    """Dice loss, which preserves the shape of small classes."""
    chances = scores.softmax(1) * known
    truth = functional.one_hot(y.where(y != UNLABELLED, 0), scores.shape[1]).movedim(-1, 1) * known
    shared, total = (chances * truth).sum((0, 2, 3)), (chances + truth).sum((0, 2, 3))
    return (1 - (2 * shared + 1) / (total + 1)).mean()


def measure_disagreement(scores: Tensor, shift_px: int, halo_px: int) -> Tensor:
    """Measure how much the two crops of each pair (`CropSampler.shift_px`) differ where a run could cut between them.

    Only pixels at least a halo inside both crops are compared. There the map changes from one tile to the next, and
    every pixel whose class depends on the tile makes the border visible.
    """
    side = scores.shape[-1]
    chances = scores.float().log_softmax(1)
    first = chances[0::2, ..., shift_px + halo_px : side - halo_px]
    second = chances[1::2, ..., halo_px : side - shift_px - halo_px]
    return ((first.exp() - second.exp()) * (first - second)).sum(1).mean()


def compute_soft_loss(scores: Tensor, soft_NKhw: Tensor, seen_Nhw: Tensor, temperature: float) -> Tensor:
    """Distance of the student's distribution to the teacher's, where the teacher saw the same pixels."""
    student = (functional.avg_pool2d(scores, SOFT_PX) / temperature).log_softmax(1)
    teacher = (soft_NKhw / temperature).log_softmax(1)
    distance = functional.kl_div(student, teacher, reduction="none", log_target=True).sum(1)
    return (distance * seen_Nhw).sum() / seen_Nhw.sum().clamp(min=1) * temperature**2
