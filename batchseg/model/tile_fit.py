"""Tilings that fit all models of a recipe. Pure; `fit.py` proposes one when it refuses the recipe's.

A tile is a core with a halo on each side. The core is the same for all models, the halo is each model's own. The side
of a tile must be a multiple of the network's stride, or the only side that the network takes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from batchseg.model.contract import Contract
from batchseg.recipe.recipe import Tiling
from batchseg.schema import Json, JsonObject, plain
from batchseg.tiers import Tier
from tiling.grid import stored_chunk_px

NEAR_PX = 64
"""The largest distance of a proposed core from the recipe's, if no network takes one size only."""
GOOD_STORED_PX = 1024
"""A chunk is stored in squares that divide it. It should have a divisor of at least this and at most 2048."""


def takes_side(contract: Contract, side_px: int) -> bool:
    return contract.tile_px in (None, side_px) and side_px % contract.stride_px == 0


def get_halo_px(tiling: Tiling, tier: Tier, contract: Contract) -> int:
    """The halo that the recipe gives for a tier, or else the bundle's."""
    given = tiling.halo.bulk if tier == "bulk" else tiling.halo.heavy
    return contract.halo_px if given is None else given


def propose_tiling(tiling: Tiling, contracts: Mapping[Tier, Contract]) -> Tiling | None:
    """The tiling nearest to the recipe's that fits all models; None if there is none.

    Wide enough halos come first, then tiles that are not wasted on halos, then a core near that of the recipe.
    """
    fits = [fit for core_px in _list_cores(tiling, contracts) if (fit := _fit_core(core_px, tiling, contracts))]
    if not fits:
        return None
    best = min(fits, key=lambda fit: fit.cost)
    halos_px = {
        tier: None if _is_default(tiling, tier, contracts[tier], halo_px) else halo_px
        for tier, halo_px in best.halos_px.items()
    }
    chunk_px = _choose_chunk_px(best.core_px, tiling)
    return replace(
        tiling,
        core=best.core_px,
        chunk=chunk_px,
        sheet=max(tiling.sheet, chunk_px),
        halo=replace(tiling.halo, **halos_px),
    )


def describe_tiling(tiling: Tiling) -> JsonObject:
    """The part of a recipe that sets this tiling; it takes the place of the one that is there."""
    lines: dict[str, Json] = {"core": tiling.core, "chunk": tiling.chunk}
    if tiling.sheet != Tiling().sheet:
        lines["sheet"] = tiling.sheet
    halos: JsonObject = {tier: halo_px for tier, halo_px in plain(tiling.halo).items() if halo_px is not None}
    return lines | ({"halo": halos} if halos else {})


@dataclass(frozen=True, slots=True)
class _Fit:
    core_px: int
    halos_px: dict[Tier, int]
    cost: tuple[int, int, int, int]


def _list_cores(tiling: Tiling, contracts: Mapping[Tier, Contract]) -> range:
    sides_px = [contract.tile_px for contract in contracts.values() if contract.tile_px is not None]
    if sides_px:
        return range(1, min(sides_px) + 1)
    return range(max(1, tiling.core - NEAR_PX), tiling.core + NEAR_PX + 1)


def _fit_core(core_px: int, tiling: Tiling, contracts: Mapping[Tier, Contract]) -> _Fit | None:
    halos_px: dict[Tier, int] = {}
    missing = wasted = widened = 0
    for tier, contract in contracts.items():
        wanted_px = get_halo_px(tiling, tier, contract)
        halo_px = _fit_halo(core_px, wanted_px, contract)
        if halo_px is None:
            return None
        halos_px[tier] = halo_px
        missing += max(0, wanted_px - halo_px)
        if contract.tile_px is None:
            widened += halo_px - wanted_px
        else:
            wasted += max(0, halo_px - wanted_px)
    return _Fit(core_px, halos_px, (missing, wasted, abs(core_px - tiling.core), widened))


def _fit_halo(core_px: int, wanted_px: int, contract: Contract) -> int | None:
    """The halo that makes a tile of this core fit the network; the smallest one from the wanted one on, if any fits."""
    if contract.tile_px is not None:
        halo_px, rest = divmod(contract.tile_px - core_px, 2)
        return halo_px if not rest and halo_px >= 0 and takes_side(contract, contract.tile_px) else None
    halos_px = range(wanted_px, wanted_px + contract.stride_px)
    return next((halo_px for halo_px in halos_px if takes_side(contract, core_px + 2 * halo_px)), None)


def _is_default(tiling: Tiling, tier: Tier, contract: Contract, halo_px: int) -> bool:
    """True if the recipe can leave the halo to the bundle."""
    given = tiling.halo.bulk if tier == "bulk" else tiling.halo.heavy
    return given is None and halo_px == contract.halo_px


def _choose_chunk_px(core_px: int, tiling: Tiling) -> int:
    """A whole number of cores near the recipe's chunk, which can be stored in large squares and fits a sheet."""
    nearest = max(1, round(tiling.chunk / core_px))
    nums = [num for num in range(max(1, nearest - 3), nearest + 4) if num * core_px <= max(tiling.sheet, core_px)]
    if not nums:
        nums = [max(1, tiling.sheet // core_px)]

    def cost(num: int) -> tuple[bool, int]:
        chunk_px = num * core_px
        return stored_chunk_px(chunk_px) < min(GOOD_STORED_PX, chunk_px), abs(chunk_px - tiling.chunk)

    return min(nums, key=cost) * core_px
