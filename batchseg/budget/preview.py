"""`batchseg plan --pilot`: both tiers on a sample, and what each share of heavy tiles would cost and bring."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from batchseg.budget.curve import curve
from batchseg.budget.pilot import PilotResult, Placement, run_pilot
from batchseg.budget.sample import threshold_for_share
from batchseg.budget.threshold import find_heavy_share, read_threshold
from batchseg.engine.route import NEVER, Doubt
from batchseg.errors import RecipeError
from batchseg.recipe import Fleet
from batchseg.recipe.recipe import SAMPLE_TILES
from batchseg.resolve.resolve import Resolved
from batchseg.store import Store
from batchseg.workers.models import open_models
from batchseg.workers.worker import OpenModels


def preview(
    resolved: Resolved,
    fleet: Fleet,
    store: Store,
    where: Placement,
    *,
    models: OpenModels = open_models,
) -> dict[str, Any]:
    """The curve of a recipe, and the point that it would take."""
    job, budget = resolved.job, resolved.budget
    if len(job.models) < 2:
        raise RecipeError("a pilot compares two models", where="models", todo="set both `bulk` and `heavy`")
    doubt = job.doubt or Doubt(statistic="mean", sure_code=0, threshold=NEVER)
    asked = replace(resolved, job=replace(job, doubt=doubt))
    num_tiles = SAMPLE_TILES if budget is None else budget.sample_tiles
    found = run_pilot(asked, fleet, where, models=models, num_tiles=num_tiles, timed=True, both=True)
    assert found.forecast is not None, "this pilot is timed"
    chosen = _chosen(resolved, found, read_threshold(store))
    points = curve(found.pilot.tiles, found.forecast, more=() if chosen is None else (chosen,))
    return {
        "num_tiles": len(found.pilot.tiles),
        "priority_share": round(found.pilot.priority_share, 5),
        "pilot_usd": round(found.forecast.prices.spent_usd, 8),
        "threshold": chosen,
        "measure": "agreement" if points[0]["miou"] is None else "miou",
        "curve": points,
    }


def _chosen(resolved: Resolved, found: PilotResult, known: int | None) -> int | None:
    """The threshold that a run would take: its own if it has begun, else what its budget buys, else its recipe's."""
    if resolved.budget is None:
        return None if resolved.job.doubt is None else resolved.job.doubt.threshold
    if known is not None:
        return known
    return threshold_for_share(find_heavy_share(resolved.budget, found), found.pilot.tiles)
