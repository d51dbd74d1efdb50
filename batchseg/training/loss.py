"""What training makes small: the distance to labels, and to a teacher's soft labels."""

from __future__ import annotations

from typing import Literal

from torch import Tensor
from torch.nn import functional

from batchseg.training.crops import SOFT_PX
from batchseg.training.ground import UNLABELLED

_FOCUS = 2.0


def hard_loss(scores: Tensor, y: Tensor, kind: Literal["dice", "focal"]) -> Tensor:
    """Unlabelled pixels count in nothing; without any labelled one it is zero."""
    known = y != UNLABELLED
    entropy = functional.cross_entropy(scores, y, ignore_index=UNLABELLED, reduction="none")
    count = known.sum().clamp(min=1)
    if kind == "focal":
        # Pixels that are already clear hardly count.
        return (entropy * (1 - (-entropy).exp()) ** _FOCUS).sum() / count
    return entropy.sum() / count + 0.5 * _dice(scores, y, known.unsqueeze(1))


def _dice(scores: Tensor, y: Tensor, known: Tensor) -> Tensor:
    """For the shape of small classes."""
    chances = scores.softmax(1) * known
    truth = functional.one_hot(y.where(y != UNLABELLED, 0), scores.shape[1]).movedim(-1, 1) * known
    shared, total = (chances * truth).sum((0, 2, 3)), (chances + truth).sum((0, 2, 3))
    return (1 - (2 * shared + 1) / (total + 1)).mean()


def unlike(scores: Tensor, shift_px: int, halo_px: int) -> Tensor:
    """How far the two crops of each pair (`Crops.shift_px`) are from each other, where a run could cut between them.

    That is where both see at least a halo of ground around: the map goes over from one tile to the next there, and
    every pixel that changes its class with the tile shows the border.
    """
    side = scores.shape[-1]
    chances = scores.float().log_softmax(1)
    first = chances[0::2, ..., shift_px + halo_px : side - halo_px]
    second = chances[1::2, ..., halo_px : side - shift_px - halo_px]
    return ((first.exp() - second.exp()) * (first - second)).sum(1).mean()


def soft_loss(scores: Tensor, soft_NKhw: Tensor, seen_Nhw: Tensor, temperature: float) -> Tensor:
    """How far the student's distribution is from the teacher's, where the teacher saw the same ground."""
    ours = (functional.avg_pool2d(scores, SOFT_PX) / temperature).log_softmax(1)
    wanted = (soft_NKhw / temperature).log_softmax(1)
    distance = functional.kl_div(ours, wanted, reduction="none", log_target=True).sum(1)
    return (distance * seen_Nhw).sum() / seen_Nhw.sum().clamp(min=1) * temperature**2
