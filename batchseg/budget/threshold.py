"""A budget becomes the threshold of a route: that of the run that began in this folder, or that of a pilot.

The threshold is found once. It is part of the fingerprint and is written into the plan, and a resume reads it there, so
that chunks made on different days by different machines are routed alike, whatever they cost by then.
"""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

from batchseg.budget.pilot import PilotResult, Placement, run_pilot
from batchseg.budget.sample import share_at_threshold, threshold_for_share
from batchseg.errors import RecipeError
from batchseg.ledger.ledger import Ledger
from batchseg.paths import PILOT_KEY
from batchseg.recipe import Budget, Fleet
from batchseg.resolve.resolve import Resolved, fingerprint_of
from batchseg.schema import plain
from batchseg.store import Store, get_json
from batchseg.workers.models import open_models
from batchseg.workers.worker import OpenModels


def find_threshold(
    resolved: Resolved, fleet: Fleet, store: Store, *, where: Placement, models: OpenModels = open_models
) -> tuple[Resolved, PilotResult | None]:
    """A route without a budget as it is; any other with its threshold, and the pilot where one was run for it."""
    budget = resolved.budget
    if budget is None:
        return resolved, None
    known = read_threshold(store)
    if known is not None:
        return with_threshold(resolved, known), None
    timed = budget.heavy_share is None
    found = run_pilot(resolved, fleet, where, models=models, num_tiles=budget.sample_tiles, timed=timed)
    return with_threshold(resolved, threshold_for_share(find_heavy_share(budget, found), found.pilot.tiles)), found


def find_heavy_share(budget: Budget, found: PilotResult) -> float:
    """The share of heavy tiles that a budget buys."""
    if budget.heavy_share is not None:
        return budget.heavy_share
    assert found.forecast is not None, "dollars are timed"
    forecast, area_km2 = found.forecast, found.forecast.workload.area_km2
    key, amount = ("usd", budget.usd) if budget.usd_per_km2 is None else ("usd_per_km2", budget.usd_per_km2)
    assert amount is not None
    unit = 1.0 if key == "usd" else area_km2
    if unit is None:
        raise RecipeError(
            "ground without a place on the Earth has no km²", where="budget: usd_per_km2", todo="give `usd` instead"
        )
    share = forecast.share_for(amount * unit)
    if share is None:
        raise RecipeError(
            "even with no more heavy tiles than priority polygons ask for, this run costs more",
            where=f"budget: {key}",
            expected=f"at least {_round_up(forecast.least_usd / unit)}, at the prices of this fleet",
            got=f"{amount:g}",
            todo="give more, drop the budget, or take a cheaper fleet; `batchseg plan --pilot` shows what shares cost",
        )
    return share


def _round_up(usd: float) -> str:
    """To three digits, so that what is said is enough."""
    digit = 10.0 ** (math.floor(math.log10(usd)) - 2)
    return f"{math.ceil(usd / digit) * digit:.3g}"


def read_threshold(store: Store) -> int | None:
    """Of the run that began in this folder."""
    earlier = Ledger(store).read_recipe()
    route = {} if earlier is None else earlier["resolved"].get("route", {})
    threshold: int | None = route.get("uncertain", {}).get("threshold")
    return threshold


def with_threshold(resolved: Resolved, threshold: int) -> Resolved:
    assert resolved.job.doubt is not None, "a recipe with a budget judges uncertainty"
    doubt = replace(resolved.job.doubt, threshold=threshold)
    content: dict[str, Any] = json.loads(json.dumps(resolved.content))
    content["route"]["uncertain"]["threshold"] = threshold
    return replace(
        resolved, job=replace(resolved.job, fingerprint=fingerprint_of(content), doubt=doubt), content=content
    )


def write_pilot(store: Store, found: PilotResult, threshold: int) -> None:
    """How the threshold was found, and what the run should cost."""
    tiles, forecast = found.pilot.tiles, found.forecast
    share = share_at_threshold(threshold, tiles)
    content = {
        "threshold": threshold,
        "num_tiles": len(tiles),
        "num_looked_at": found.pilot.num_looked_at,
        "priority_share": round(found.pilot.priority_share, 5),
        "expected_heavy_share": round(share, 5),
        "expected": None if forecast is None else forecast.told(share),
        "pace": None if forecast is None else plain(forecast.pace),
        "scores": [tile.score for tile in tiles],
    }
    store.put(PILOT_KEY, json.dumps(content, indent=1).encode())
    Ledger(store).write_stint(found.stint)


def read_pilot(store: Store) -> dict[str, Any] | None:
    """What the pilot of the run that began in this folder found."""
    try:
        found: dict[str, Any] = get_json(store, PILOT_KEY)
    except FileNotFoundError:
        return None
    return found
