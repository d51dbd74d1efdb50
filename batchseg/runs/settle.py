"""A budget becomes the threshold of a route: that of the run that began in this folder, or that of a pilot.

The threshold is found once. It is part of the fingerprint and is written into the plan, and a resume reads it there, so
that chunks made on different days by different machines are routed alike.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from batchseg.ledger.ledger import Ledger
from batchseg.recipe import Budget, Fleet
from batchseg.runs.job import Job
from batchseg.runs.models import device_of, open_models
from batchseg.runs.pilot import Pilot, run_pilot, share_at, threshold_for
from batchseg.runs.resolve import Resolved, fingerprint_of
from batchseg.runs.worker import OpenModels, WorkerSpec
from batchseg.store import Store

PILOT_KEY = "run/pilot.json"


def settled(
    resolved: Resolved, fleet: Fleet, store: Store, *, models: OpenModels = open_models
) -> tuple[Resolved, Pilot | None]:
    """A route without a budget as it is; any other with its threshold, and the pilot where one was run for it."""
    if resolved.budget is None:
        return resolved, None
    known = known_threshold(store)
    if known is not None:
        return with_threshold(resolved, known), None
    pilot = pilot_of(resolved.job, resolved.budget, fleet, models=models)
    return with_threshold(resolved, threshold_for(resolved.budget.heavy_share, pilot.tiles)), pilot


def known_threshold(store: Store) -> int | None:
    """Of the run that began in this folder."""
    earlier = Ledger(store).resolved()
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


def pilot_of(job: Job, budget: Budget, fleet: Fleet, *, models: OpenModels, both: bool = False) -> Pilot:
    """In this process, on the device of the fleet's first pool."""
    first = fleet.pools[0]
    spec = WorkerSpec.new(pool="pilot", device=device_of(first, job, in_process=True), usd_per_hour=first.usd_per_hour)
    opened, _ = models(job, spec)
    return run_pilot(job, opened, num_tiles=budget.sample_tiles, both=both)


def write_pilot(store: Store, pilot: Pilot, threshold: int) -> None:
    """How the threshold was found."""
    content = {
        "threshold": threshold,
        "num_tiles": len(pilot.tiles),
        "num_looked_at": pilot.num_looked_at,
        "priority_share": round(pilot.priority_share, 5),
        "expected_heavy_share": round(share_at(threshold, pilot.tiles), 5),
        "scores": [tile.score for tile in pilot.tiles],
    }
    store.put(PILOT_KEY, json.dumps(content, indent=1).encode())
