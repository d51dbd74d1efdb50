"""Does a bundle fit a scene and a recipe? Each refusal says what to write in the recipe."""

from __future__ import annotations

from batchseg.engine.inputs import InputRule, make_input_rule
from batchseg.errors import BundleError
from batchseg.model.bundle import Bundle
from batchseg.recipe.recipe import Recipe
from batchseg.scene.bands import choose_bands
from batchseg.scene.header import SceneHeader
from batchseg.scene.requirements import check_dtype, check_pixel_size
from batchseg.tiers import Tier


def halo_of(recipe: Recipe, tier: Tier, bundle: Bundle) -> int:
    contract = bundle.contract
    halo = recipe.tiling.halo.bulk if tier == "bulk" else recipe.tiling.halo.heavy
    halo_px = contract.halo_px if halo is None else halo
    tile_px = recipe.tiling.core + 2 * halo_px
    if contract.tile_px not in (None, tile_px):
        core_px = contract.tile_px - 2 * halo_px
        raise BundleError(
            "the network takes tiles of one size only",
            where=f"tiling, {contract.name}",
            expected=f"core + 2 x halo = {contract.tile_px}",
            got=f"{recipe.tiling.core} + 2 x {halo_px} = {tile_px}",
            todo=f"set tiling: {{core: {core_px}, chunk: {8 * core_px}}}",
        )
    if tile_px % contract.stride_px:
        fits = next(
            (h for h in range(halo_px, halo_px + 64) if (recipe.tiling.core + 2 * h) % contract.stride_px == 0), None
        )
        todo = (
            f"set tiling: halo: {{{tier}: {fits}}}"
            if fits
            else f"take a core that is a multiple of {contract.stride_px}"
        )
        raise BundleError(
            "the tile does not fit the model",
            where=f"tiling, {contract.name}",
            expected=f"core + 2 x halo, a multiple of {contract.stride_px}",
            got=f"{recipe.tiling.core} + 2 x {halo_px} = {tile_px}",
            todo=todo,
        )
    return halo_px


def common_bands(recipe: Recipe, header: SceneHeader, bundles: dict[Tier, Bundle]) -> tuple[int, ...]:
    """Both models read the same bands, so that a chunk is read once."""
    chosen = {
        tier: choose_bands(header.raster, bundle.contract.bands, recipe.bands) for tier, bundle in bundles.items()
    }
    if len(set(chosen.values())) > 1:
        raise BundleError(
            "the two tiers want different bands",
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
