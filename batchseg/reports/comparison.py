"""Comparison of two runs over the same scenes, as values. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from batchseg.reports.bootstrap import Interval, make_interval, resample_sums
from batchseg.schema import JsonObject, plain
from batchseg.score.confusion import iou_from_counts
from tiling.span import Window

Quality = Literal["better", "worse", "same", "unknown"]
"""The mean IoU of run B against that of run A; `same` where the interval of the difference contains zero."""


@dataclass(frozen=True, slots=True)
class Block:
    """The labels of two runs in one square of ground."""

    scene: str
    window: Window
    both_px: int
    """Number of pixels that both runs labelled."""
    agreeing_px: int
    """Number of these pixels that have the same label in both runs."""
    counts_SKC: NDArray[np.int64] | None
    """Hits, reference pixels and predicted pixels (K) of each class (C), for both runs (S); None without labels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockDifference:
    """A block on which the runs differ."""

    scene: str
    window: Window
    differing_share: float
    """Share of the pixels that both runs labelled and that have different labels."""
    picture: Path | None
    """The picture of the two maps and their difference; None where none was written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunCost:
    """The figures of one run that say what its map cost."""

    cost_usd: float
    cost_usd_per_km2: float | None
    wall_s: float
    heavy_share: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunCosts:
    """The costs of the two runs."""

    a: RunCost
    b: RunCost


@dataclass(frozen=True, slots=True, kw_only=True)
class Sides:
    """A score of run A, of run B, and the difference B - A."""

    a: Interval
    b: Interval
    difference: Interval


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The comparison in a few numbers, for a script."""

    cost_ratio: float | None
    """The cost of run B divided by that of run A; None where A cost nothing."""
    agreement: float | None
    """Share of the pixels that have the same label in both runs."""
    miou_difference: Interval | None
    """The difference of mean IoU, B - A; None without labels."""
    quality: Quality

    def __str__(self) -> str:
        """One line of `key=value` pairs."""
        ratio = "unknown" if self.cost_ratio is None else f"{self.cost_ratio:.4f}"
        words = [f"cost_ratio={ratio}", f"agreement={self.agreement}"]
        if self.miou_difference is not None:
            difference = self.miou_difference
            words += [f"miou_difference={difference.value}", f"low={difference.low}", f"high={difference.high}"]
        return " ".join([*words, f"quality={self.quality}"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Two runs side by side: run A, run B, and how they differ."""

    scenes: tuple[str, ...]
    """The scenes that both runs have."""
    num_blocks: int
    """Number of blocks that were compared, and that the intervals resample."""
    cost: RunCosts
    agreement: Interval
    """Share of the pixels that have the same label in both runs."""
    iou: dict[str, Sides] | None
    """IoU of each class, by class name; None without labels."""
    miou: Sides | None
    """Mean IoU; None without labels."""
    differences: tuple[BlockDifference, ...] = ()
    """The blocks that differ most, the most different first."""

    @property
    def verdict(self) -> Verdict:
        a_usd, b_usd = self.cost.a.cost_usd, self.cost.b.cost_usd
        difference = None if self.miou is None else self.miou.difference
        return Verdict(
            cost_ratio=b_usd / a_usd if a_usd else None,
            agreement=self.agreement.value,
            miou_difference=difference,
            quality=_judge(difference),
        )


def describe_comparison(comparison: Comparison) -> JsonObject:
    """The content of compare.json."""
    return {
        "scenes": list(comparison.scenes),
        "blocks": comparison.num_blocks,
        "cost": plain(comparison.cost),
        "agreement": plain(comparison.agreement),
        "iou": plain(comparison.iou),
        "miou": plain(comparison.miou),
        "verdict": str(comparison.verdict),
    }


def measure_agreement(blocks: Sequence[Block]) -> Interval:
    """The share of pixels with the same label in both runs; at least one block must have pixels in common."""
    pixels_N2 = np.array([(block.agreeing_px, block.both_px) for block in blocks], np.float64)
    agreeing_px, both_px = pixels_N2.sum(0)
    resampled_R2 = resample_sums(pixels_N2)
    return make_interval(agreeing_px / both_px, resampled_R2[:, 0] / np.maximum(resampled_R2[:, 1], 1))


def measure_iou(blocks: Sequence[Block], classes: Sequence[str]) -> tuple[dict[str, Sides], Sides] | None:
    """IoU of each class and mean IoU of both runs; None where no block has labels."""
    counts = [block.counts_SKC for block in blocks if block.counts_SKC is not None]
    if not counts:
        return None
    flat_NM = np.stack(counts).reshape(len(counts), -1).astype(np.float64)
    shape = (-1, 2, 3, len(classes))
    iou_SC, iou_RSC = _iou(flat_NM.sum(0).reshape(shape))[0], _iou(resample_sums(flat_NM).reshape(shape))
    by_class = {name: _make_sides(iou_SC[:, i], iou_RSC[:, :, i]) for i, name in enumerate(classes)}
    return by_class, _make_sides(_mean(iou_SC), _mean(iou_RSC))


def _judge(difference: Interval | None) -> Quality:
    if difference is None or difference.low is None or difference.high is None:
        return "unknown"
    return "better" if difference.low > 0 else "worse" if difference.high < 0 else "same"


def _iou(counts_RSKC: NDArray[np.float64]) -> NDArray[np.float64]:
    """IoU of each class; NaN for a class without reference pixels, which has no part in the mean."""
    hits, reference_px, predicted_px = counts_RSKC[:, :, 0], counts_RSKC[:, :, 1], counts_RSKC[:, :, 2]
    return np.where(reference_px > 0, iou_from_counts(hits, reference_px, predicted_px), np.nan)


def _mean(iou: NDArray[np.float64]) -> NDArray[np.float64]:
    """The mean over the last axis, of the classes that have an IoU; NaN where none has."""
    is_known = ~np.isnan(iou)
    number = is_known.sum(-1)
    total = np.where(is_known, iou, 0).sum(-1)
    mean: NDArray[np.float64] = np.divide(total, number, out=np.full(number.shape, np.nan), where=number > 0)
    return mean


def _make_sides(whole_S: NDArray[np.float64], resampled_RS: NDArray[np.float64]) -> Sides:
    return Sides(
        a=make_interval(whole_S[0], resampled_RS[:, 0]),
        b=make_interval(whole_S[1], resampled_RS[:, 1]),
        difference=make_interval(whole_S[1] - whole_S[0], resampled_RS[:, 1] - resampled_RS[:, 0]),
    )
