"""Checks that a bundle fits a scene and a recipe. Each refusal says what to write in the recipe."""

from __future__ import annotations

from collections.abc import Mapping

from batchseg.engine.inputs import InputRule, make_input_rule
from batchseg.errors import BundleError
from batchseg.model.bundle import Bundle
from batchseg.model.tile_fit import describe_tiling, get_halo_px, propose_tiling, takes_side
from batchseg.recipe.recipe import Recipe
from batchseg.scene.bands import choose_bands
from batchseg.scene.header import SceneHeader
from batchseg.scene.requirements import check_dtype, check_pixel_size
from batchseg.schema import Json
from batchseg.tiers import Tier


def find_halos(recipe: Recipe, bundles: Mapping[Tier, Bundle]) -> dict[Tier, int]:
    """Find the halo of each tier.

    Raises:
        BundleError: The tiles do not fit a network. The message has a line for the recipe that fits all networks.
    """
    halos_px: dict[Tier, int] = {}
    for tier, bundle in bundles.items():
        contract = bundle.contract
        halos_px[tier] = get_halo_px(recipe.tiling, tier, contract)
        side_px = recipe.tiling.core + 2 * halos_px[tier]
        if takes_side(contract, side_px):
            continue
        is_fixed = contract.tile_px is not None
        raise BundleError(
            "the network takes tiles of one size only" if is_fixed else "the tiles do not fit the network",
            where=f"tiling, {contract.name}",
            expected=f"core + 2 x halo = {contract.tile_px}"
            if is_fixed
            else f"core + 2 x halo, a multiple of {contract.stride_px}",
            got=f"{recipe.tiling.core} + 2 x {halos_px[tier]} = {side_px}",
            todo=_propose(recipe, bundles),
        )
    return halos_px


def _propose(recipe: Recipe, bundles: Mapping[Tier, Bundle]) -> str:
    tiling = propose_tiling(recipe.tiling, {tier: bundle.contract for tier, bundle in bundles.items()})
    if tiling is None:
        return "take another bundle, because no tiling fits " + " and ".join(b.contract.name for b in bundles.values())
    return f"write `tiling: {_format_yaml(describe_tiling(tiling))}` into the recipe, in place of its `tiling`"


def _format_yaml(value: Json) -> str:
    """Numbers and mappings as YAML on one line."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_format_yaml(inner)}" for key, inner in value.items()) + "}"
    return str(value)


def find_common_bands(recipe: Recipe, header: SceneHeader, bundles: dict[Tier, Bundle]) -> tuple[int, ...]:
    """Find the bands that a chunk is read with. Both models must take the same ones, so that it is read once."""
    chosen = {
        tier: choose_bands(header.raster, bundle.contract.bands, recipe.bands) for tier, bundle in bundles.items()
    }
    if len(set(chosen.values())) > 1:
        raise BundleError(
            "the two tiers take different bands",
            where=header.raster.url,
            got=" and ".join(f"{tier} {list(bands)}" for tier, bands in chosen.items()),
            todo="take bundles with the same bands in the same order",
        )
    return next(iter(chosen.values()))


def check_fit(recipe: Recipe, header: SceneHeader, bundle: Bundle) -> None:
    """Raise BundleError unless a scene has the data type and the pixel size of the bundle, or the recipe accepts it."""
    contract = bundle.contract
    if recipe.scale is None and "dtype" not in recipe.accept:
        low, high = contract.range
        check_dtype(
            header.raster.dtype,
            contract.dtype,
            url=header.raster.url,
            required_by=contract.name,
            todo=f"give `scale: [low, high]`, the raw values that stand for the model's {low:g} to {high:g}, "
            "or `accept: [dtype]` to take values as they are",
        )
    if "gsd" not in recipe.accept:
        check_pixel_size(
            header.grid,
            contract.gsd_m,
            url=header.raster.url,
            required_by=contract.name,
            todo="resample the scene, take another model, or `accept: [gsd]`",
        )


def find_input_rule(recipe: Recipe, header: SceneHeader, bundle: Bundle) -> InputRule:
    """Find how a scene's raw values become the bundle's inputs."""
    contract = bundle.contract
    return make_input_rule(
        header.raster.dtype,
        model_dtype=contract.dtype,
        model_range=contract.range,
        scale=recipe.scale,
        fill=contract.mean,
    )
