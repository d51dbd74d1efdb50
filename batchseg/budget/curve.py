"""What each share of heavy tiles would cost and bring, from a pilot that ran both tiers on its sample. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from batchseg.budget.forecast import Forecast
from batchseg.budget.sample import PilotTile, is_heavy, share_at_threshold, threshold_for_share
from batchseg.score.confusion import iou_per_class, mean_iou
from batchseg.tiers import Tier

SHARES = (0.0, 0.02, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.75, 1.0)


def curve(tiles: Sequence[PilotTile], forecast: Forecast, *, more: Sequence[int] = ()) -> list[dict[str, Any]]:
    """A point for each share that the sample can show, and for each threshold of `more`, in the order of shares.

    A point has the mIoU of the sample's labels if it has a reference, and always their agreement with those of the
    heavy model alone, which is 1 at a share of 1 but for edges that fade, and says nothing of which tier is right.
    """
    thresholds = {threshold_for_share(share, tiles) for share in SHARES} | set(more)
    points = [_point(threshold, tiles, forecast) for threshold in sorted(thresholds, reverse=True)]
    # Two thresholds may send the same tiles.
    return list({(point["heavy_share"], point["threshold"] in more): point for point in points}.values())


def _point(threshold: int, tiles: Sequence[PilotTile], forecast: Forecast) -> dict[str, Any]:
    share = share_at_threshold(threshold, tiles)
    per_km2 = forecast.usd_per_km2(share)
    return {
        "heavy_share": round(share, 5),
        "threshold": threshold,
        "usd": round(forecast.usd(share) - forecast.prices.spent_usd, 8),
        "usd_per_km2": None if per_km2 is None else round(per_km2 - _pilot_per_km2(forecast), 8),
        "miou": _miou(threshold, tiles),
        "agreement": _agreement(threshold, tiles),
    }


def _pilot_per_km2(forecast: Forecast) -> float:
    return forecast.prices.spent_usd / (forecast.workload.area_km2 or 1.0)


def _miou(threshold: int, tiles: Sequence[PilotTile]) -> float | None:
    found = [tile.confusion[_tier(tile, threshold)] for tile in tiles if tile.confusion]
    if not found:
        return None
    confusion = np.sum(found, axis=0)
    return round(mean_iou(iou_per_class(confusion)), 5) if confusion.any() else None


def _agreement(threshold: int, tiles: Sequence[PilotTile]) -> float:
    """With the heavy model alone."""
    agreeing = sum(tile.agreeing_px.get(_tier(tile, threshold), 0) for tile in tiles)
    return round(agreeing / sum(tile.num_px for tile in tiles), 5)


def _tier(tile: PilotTile, threshold: int) -> Tier:
    return "heavy" if is_heavy(tile, threshold) else "bulk"
