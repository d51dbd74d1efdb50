"""The comparison of two bundles by the quality that they state, where both were measured on the same ground."""

from __future__ import annotations

from batchseg.model.contract import Contract
from batchseg.model.quality import TrainedQuality


def find_inversion(better: Contract, worse: Contract) -> str | None:
    """Say that a bundle which should be the better one is the worse one.

    Returns:
        The sentence with both scores. None if the order is right, or if the two were measured on different ground or
        classes, so that their scores say nothing about each other.
    """
    first, second = better.quality, worse.quality
    if not (isinstance(first, TrainedQuality) and isinstance(second, TrainedQuality)):
        return None
    if first.on != second.on or first.iou.keys() != second.iou.keys() or first.miou >= second.miou:
        return None
    return (
        f"{better.name} should be better than {worse.name}, but on the same scenes it has a mean IoU of "
        f"{first.miou:.3f}, and {worse.name} {second.miou:.3f}"
    )
