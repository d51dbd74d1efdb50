"""Duration of a run by the time per tile that its bundles state, without a pilot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from batchseg.budget.crew import Crew
from batchseg.budget.pilot_file import read_pilot
from batchseg.budget.scene_estimate import SceneEstimate
from batchseg.model.contract import Contract
from batchseg.resolve.job import Job
from batchseg.resolve.resolve import Resolved
from batchseg.store import Store
from batchseg.tiers import DeviceKind, Tier

REST_S_PER_MPX = 0.04
"""Seconds of a worker with two cores besides its models' forward passes: bench/engine.py measured 0.037 with the bulk
model and 0.039 with the heavy one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeavyShare:
    """Share of heavy tiles, as far as it is known before a tile is read."""

    share: float
    note: str | None
    """Source of the share, for people; None where the recipe itself gives the share."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Duration:
    """Wall time of a whole run."""

    seconds: float | None
    """Seconds with all workers; None where a bundle has no measured seconds per tile."""
    note: str
    """Rates that the time rests on, or the reason why it is unknown."""


def find_known_heavy_share(resolved: Resolved, store: Store) -> HeavyShare:
    """Find the share of heavy tiles in the pilot of an earlier run, or in the recipe's budget."""
    pilot, budget = read_pilot(store), resolved.budget
    if pilot is not None:
        cost = "" if pilot.expected is None else f"; the run was planned to cost ${pilot.expected.usd:.3g}"
        share = pilot.expected_heavy_share
        return HeavyShare(share=share, note=f"heavy tiles: {share:.1%}, as the pilot of this run found{cost}")
    if budget is not None and budget.heavy_share is not None:
        return HeavyShare(share=budget.heavy_share, note=None)
    if resolved.job.doubt is None:
        return HeavyShare(share=0.0, note=None)
    return HeavyShare(
        share=0.0,
        note="heavy tiles: those of priority polygons only; `batchseg plan --pilot` finds how many uncertain tiles "
        "would join them",
    )


def estimate_duration(
    resolved: Resolved, crew: Crew, device: DeviceKind, scenes: Sequence[SceneEstimate], heavy_share: float
) -> Duration:
    """Estimate the wall time of a whole run on these workers.

    Args:
        resolved: The recipe with its bundles.
        crew: The workers, which share the tiles evenly.
        device: The kind of device that the workers compute on.
        scenes: All scenes of the recipe.
        heavy_share: Share of all tiles that is heavy; tiles on priority ground are heavy in any case.
    """
    job = resolved.job
    tile_s: dict[Tier, float] = {}
    for tier, bundle in resolved.bundles.items():
        seconds = _scale_tile_s(bundle.contract, device, job, tier)
        if seconds is None:
            return Duration(seconds=None, note=_explain_unknown(bundle.contract.name, job.models[tier].ref, device))
        tile_s[tier] = seconds
    num_tiles = sum(scene.num_tiles for scene in scenes)
    compute_s = sum(num * tile_s[tier] for tier, num in _count_tiles(scenes, tile_s, heavy_share).items())
    rest_s = num_tiles * job.core_px**2 / 1e6 * REST_S_PER_MPX
    return Duration(
        seconds=(compute_s + rest_s) / crew.speed,
        note=_describe_rates(tile_s, job.core_px, num_workers=crew.num_workers),
    )


def _scale_tile_s(contract: Contract, device: DeviceKind, job: Job, tier: Tier) -> float | None:
    """Seconds per tile, scaled by the tile's pixels: `model tune` measures tiles of one size."""
    tuned_s = contract.numerics[device].seconds_per_tile
    if tuned_s is None:
        return None
    return float(tuned_s * ((job.core_px + 2 * job.models[tier].halo_px) / contract.default_tile_px) ** 2)


def _count_tiles(
    scenes: Sequence[SceneEstimate], tile_s: Mapping[Tier, float], heavy_share: float
) -> dict[Tier, float]:
    """Tiles per tier. An uncertain tile runs both models, and so does a priority tile that fades."""
    num_tiles = sum(scene.num_tiles for scene in scenes)
    if len(tile_s) == 1:
        return {tier: float(num_tiles) for tier in tile_s}
    num_priority = sum(scene.num_priority_tiles for scene in scenes)
    num_heavy_alone = sum(scene.num_heavy_alone for scene in scenes)
    return {"bulk": num_tiles - num_heavy_alone, "heavy": max(num_priority, heavy_share * num_tiles)}


def _explain_unknown(name: str, ref: str, device: DeviceKind) -> str:
    return (
        f"time and cost are unknown: the bundle {name} has no measured seconds per tile on {device}; "
        f"run `batchseg model tune {ref}`, or see what `batchseg run --sample 1` takes"
    )


def _describe_rates(tile_s: Mapping[Tier, float], core_px: int, *, num_workers: int) -> str:
    pace = ", ".join(f"{tier} {1000 * seconds:.0f} ms" for tier, seconds in tile_s.items())
    workers = "1 worker" if num_workers == 1 else f"{num_workers} workers"
    return (
        f"time: a tile of {core_px} px takes {pace}, as `model tune` measured; reading, writing and the rest take "
        f"{1000 * REST_S_PER_MPX:.0f} ms per Mpx, as on a local disk; {workers}"
    )
