"""A budget becomes the threshold of a route: that of the run that began in this folder, or that of a pilot.

The threshold is found once. It is part of the fingerprint and is written into the plan. A resume reads it there, so
that chunks made on different days by different machines are routed alike, whatever they cost by then.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

from batchseg.budget.pilot import PilotResult, run_pilot
from batchseg.budget.placement import Placement
from batchseg.budget.sample import threshold_for_share
from batchseg.errors import DamagedError, RecipeError
from batchseg.ledger.ledger import Ledger
from batchseg.paths import RECIPE_KEY
from batchseg.recipe import Budget, Fleet
from batchseg.resolve.fingerprint import compute_fingerprint
from batchseg.resolve.resolve import Resolved
from batchseg.schema import Json
from batchseg.store import Store
from batchseg.workers.models import open_models
from batchseg.workers.worker import OpenModels


def find_threshold(
    resolved: Resolved, fleet: Fleet, store: Store, *, placement: Placement, models: OpenModels = open_models
) -> tuple[Resolved, PilotResult | None]:
    """Give a recipe with a budget its threshold; run a pilot for it unless a run has begun in this folder.

    Args:
        resolved: The recipe. Without a budget it comes back as it is.
        fleet: The workers and their prices.
        store: The output folder.
        placement: Where the workers live, and so where a pilot is timed.
        models: Opens the models of the pilot.

    Returns:
        The recipe with its threshold, and the result of the pilot if one was run.

    Raises:
        RecipeError: The budget pays for less than the tiles on priority ground, or cannot be spent on these scenes.
    """
    budget = resolved.budget
    if budget is None:
        return resolved, None
    known = read_threshold(store)
    if known is not None:
        return with_threshold(resolved, known), None
    is_timed = budget.heavy_share is None
    result = run_pilot(resolved, fleet, placement, models=models, num_tiles=budget.sample_tiles, is_timed=is_timed)
    threshold = threshold_for_share(find_heavy_share(budget, result), result.pilot.tiles)
    return with_threshold(resolved, threshold), result


def find_heavy_share(budget: Budget, result: PilotResult) -> float:
    """Find the share of heavy tiles that a budget buys."""
    if budget.heavy_share is not None:
        return budget.heavy_share
    assert result.forecast is not None, "a pilot for a budget in dollars is timed"
    forecast, area_km2 = result.forecast, result.forecast.workload.area_km2
    key, amount = ("usd", budget.usd) if budget.usd_per_km2 is None else ("usd_per_km2", budget.usd_per_km2)
    assert amount is not None
    unit = 1.0 if key == "usd" else area_km2
    if unit is None:
        raise RecipeError(
            "the scenes have no known place on the Earth, so their area in km² is unknown",
            where="budget: usd_per_km2",
            todo="give `usd` instead",
        )
    share = forecast.find_share(amount * unit)
    if share is None:
        raise RecipeError(
            "the budget must pay for the bulk model and for the heavy tiles on priority ground",
            where=f"budget: {key}",
            expected=f"at least {_round_up(forecast.least_usd / unit)}, at the prices of this fleet",
            got=f"{amount:g}",
            todo="raise or drop the budget, or use a cheaper fleet; `batchseg plan --pilot` prices each share",
        )
    return share


def _round_up(usd: float) -> str:
    """Round up to three digits, so that the amount in the message is enough."""
    digit = 10.0 ** (math.floor(math.log10(usd)) - 2)
    return f"{math.ceil(usd / digit) * digit:.3g}"


def read_threshold(store: Store) -> int | None:
    """Read the threshold of the run that began in this folder; None without such a run or without a threshold."""
    earlier = Ledger(store).read_recipe()
    if earlier is None:
        return None
    route = _get_mapping(earlier.resolved, "route")
    threshold = _get_mapping(route, "uncertain").get("threshold")
    if threshold is not None and not isinstance(threshold, int):
        raise DamagedError(
            "the threshold of the route must be a whole number",
            where=f"{store.address}: {RECIPE_KEY}",
            got=repr(threshold),
            todo="give another output folder",
        )
    return threshold


def with_threshold(resolved: Resolved, threshold: int) -> Resolved:
    """The same recipe with this threshold, in its job and in its fingerprint."""
    assert resolved.job.doubt is not None, "a recipe with a budget judges uncertainty"
    doubt = replace(resolved.job.doubt, threshold=threshold)
    route = _get_mapping(resolved.content, "route")
    uncertain = {**_get_mapping(route, "uncertain"), "threshold": threshold}
    content = {**resolved.content, "route": {**route, "uncertain": uncertain}}
    return replace(
        resolved, job=replace(resolved.job, fingerprint=compute_fingerprint(content), doubt=doubt), content=content
    )


def _get_mapping(content: Json, key: str) -> Mapping[str, Json]:
    """The mapping under a key of a resolved recipe; empty where there is none."""
    value = content.get(key) if isinstance(content, Mapping) else None
    return value if isinstance(value, Mapping) else {}
