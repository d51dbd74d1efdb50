"""Cost and gain of each share of heavy tiles, from a pilot that ran both tiers on its sample. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from batchseg.budget.forecast import Forecast
from batchseg.budget.sample import PilotTile, is_heavy, share_at_threshold, threshold_for_share
from batchseg.score.confusion import iou_per_labelled_class, mean_iou
from batchseg.tiers import Tier

SHARES = (0.0, 0.02, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.75, 1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class CurvePoint:
    """One threshold of uncertainty: its share of heavy tiles, its price, and the quality of the labels."""

    heavy_share: float
    threshold: int
    """Score from which on a tile is heavy, in ten-thousandths."""
    usd: float
    """Dollars for the whole run, without the pilot."""
    usd_per_km2: float | None
    """Dollars per km² of valid ground, without the pilot; None where the area is unknown."""
    miou: float | None
    """mIoU of the sample's labels; None without a reference."""
    agreement: float
    """Share of the sample's pixels that have the label of the heavy model alone.

    It is 1 at a heavy share of 1, except for edges that fade. It does not say which tier is right.
    """


def make_curve(tiles: Sequence[PilotTile], forecast: Forecast, *, also: Sequence[int] = ()) -> tuple[CurvePoint, ...]:
    """Make a point for each of `SHARES` that the sample can tell apart, in the order of shares.

    Args:
        tiles: A sample on which both tiers ran.
        forecast: The cost of the run by its share of heavy tiles.
        also: Thresholds that get a point of their own.
    """
    thresholds = {threshold_for_share(share, tiles) for share in SHARES} | set(also)
    points = [_make_point(threshold, tiles, forecast) for threshold in sorted(thresholds, reverse=True)]
    # Two thresholds may send the same tiles to the heavy model.
    return tuple({(point.heavy_share, point.threshold in also): point for point in points}.values())


def _make_point(threshold: int, tiles: Sequence[PilotTile], forecast: Forecast) -> CurvePoint:
    share, spent_usd = share_at_threshold(threshold, tiles), forecast.prices.spent_usd
    usd_per_km2, pilot_usd_per_km2 = forecast.expect_usd_per_km2(share), spent_usd / (forecast.workload.area_km2 or 1.0)
    return CurvePoint(
        heavy_share=round(share, 5),
        threshold=threshold,
        usd=round(forecast.expect_usd(share) - spent_usd, 8),
        usd_per_km2=None if usd_per_km2 is None else round(usd_per_km2 - pilot_usd_per_km2, 8),
        miou=_compute_miou(threshold, tiles),
        agreement=_compute_agreement(threshold, tiles),
    )


def _compute_miou(threshold: int, tiles: Sequence[PilotTile]) -> float | None:
    matrices = [tile.confusion[_choose_tier(tile, threshold)] for tile in tiles if tile.confusion]
    if not matrices:
        return None
    miou = mean_iou(iou_per_labelled_class(np.sum(matrices, axis=0)))
    return None if miou is None else round(miou, 5)


def _compute_agreement(threshold: int, tiles: Sequence[PilotTile]) -> float:
    agreeing_px = sum(tile.agreeing_px.get(_choose_tier(tile, threshold), 0) for tile in tiles)
    return round(agreeing_px / sum(tile.num_px for tile in tiles), 5)


def _choose_tier(tile: PilotTile, threshold: int) -> Tier:
    return "heavy" if is_heavy(tile, threshold) else "bulk"
