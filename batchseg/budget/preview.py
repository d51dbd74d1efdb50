"""`batchseg plan --pilot`: run both tiers on a sample, and show what each share of heavy tiles would cost and gain."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from batchseg.budget.curve import CurvePoint, make_curve
from batchseg.budget.forecast import ExpectedCost
from batchseg.budget.pilot import PilotResult, run_pilot
from batchseg.budget.placement import Placement
from batchseg.budget.sample import share_at_threshold, threshold_for_share
from batchseg.budget.threshold import find_heavy_share, read_threshold
from batchseg.engine.route import NEVER, Doubt
from batchseg.errors import RecipeError
from batchseg.recipe import Fleet
from batchseg.recipe.heavy_tiles import SAMPLE_TILES
from batchseg.resolve.resolve import Resolved
from batchseg.store import Store
from batchseg.workers.models import open_models
from batchseg.workers.worker import OpenModels


@dataclass(frozen=True, slots=True, kw_only=True)
class PilotPreview:
    """The curve of a recipe, and the point on it that a run would take."""

    num_tiles: int
    """Number of valid tiles in the sample."""
    priority_share: float
    """Share of these tiles that lie on priority ground."""
    pilot_usd: float
    """Dollars that the pilot itself has cost."""
    threshold: int | None
    """Threshold that a run of this recipe would use, in ten-thousandths; None if the recipe does not judge uncertainty.
    """
    expected: ExpectedCost
    """Cost of a run of this recipe, with this pilot's dollars."""
    measure: Literal["miou", "agreement"]
    """Quality that all points of the curve have: mIoU with a reference, else agreement with the heavy model."""
    curve: tuple[CurvePoint, ...]


def preview_pilot(
    resolved: Resolved,
    fleet: Fleet,
    store: Store,
    placement: Placement,
    *,
    models: OpenModels = open_models,
) -> PilotPreview:
    """Run a pilot with both tiers, and write nothing.

    Raises:
        RecipeError: The recipe has one model only, or its budget cannot be met.
    """
    job, budget = resolved.job, resolved.budget
    if len(job.models) < 2:
        raise RecipeError(
            "a pilot compares two models, but the recipe has one", where="models", todo="set both `bulk` and `heavy`"
        )
    doubt = job.doubt or Doubt(statistic="mean", sure_confidence=0, threshold=NEVER)
    judged = replace(resolved, job=replace(job, doubt=doubt))
    num_tiles = SAMPLE_TILES if budget is None else budget.sample_tiles
    result = run_pilot(judged, fleet, placement, models=models, num_tiles=num_tiles, is_timed=True, runs_both=True)
    assert result.forecast is not None, "this pilot is timed"
    threshold = _choose_threshold(resolved, result, read_threshold(store))
    heavy_share = share_at_threshold(NEVER if threshold is None else threshold, result.pilot.tiles)
    points = make_curve(result.pilot.tiles, result.forecast, also=() if threshold is None else (threshold,))
    return PilotPreview(
        num_tiles=len(result.pilot.tiles),
        priority_share=round(result.pilot.priority_share, 5),
        pilot_usd=round(result.forecast.prices.spent_usd, 8),
        threshold=threshold,
        expected=result.forecast.expect_cost(heavy_share),
        measure="agreement" if points[0].miou is None else "miou",
        curve=points,
    )


def _choose_threshold(resolved: Resolved, result: PilotResult, known: int | None) -> int | None:
    """The threshold that a run would use: its own if it has begun, else what its budget buys, else its recipe's."""
    if resolved.budget is None:
        return None if resolved.job.doubt is None else resolved.job.doubt.threshold
    if known is not None:
        return known
    return threshold_for_share(find_heavy_share(resolved.budget, result), result.pilot.tiles)
