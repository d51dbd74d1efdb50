"""The contract of the bundle that a training recipe describes. It is checked before the training starts."""

from __future__ import annotations

from math import inf

from batchseg.classes import problems_of_classes
from batchseg.errors import BundleError, RecipeError
from batchseg.model.contract import Contract, Numerics
from batchseg.model.lineage import Lineage, UnknownLineage
from batchseg.model.quality import Quality, UnknownQuality
from batchseg.recipe.recipe import Tiling
from batchseg.scene.bands import BandWanted
from batchseg.training.train_recipe import BYTES_RANGE, TrainRecipe

_LARGEST_VALUE = {"uint8": 255, "uint16": 65535}
_SYNTHETIC_INPUT = (("red", "green", "blue"), "uint8", BYTES_RANGE)


def make_contract(
    recipe: TrainRecipe,
    *,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    quality: Quality = UnknownQuality(),
    lineage: Lineage = UnknownLineage(),
) -> Contract:
    return Contract(
        name=recipe.name,
        tier=recipe.tier,
        bands=tuple(BandWanted(name=name, common=name) for name in recipe.bands),
        dtype=recipe.dtype,
        range=recipe.input_range,
        mean=mean,
        std=std,
        gsd_m=recipe.gsd_m,
        classes=recipe.class_list,
        halo_px=recipe.halo_px,
        stride_px=recipe.architecture.stride_px,
        architecture=recipe.architecture,
        numerics={
            "cpu": Numerics(backend="openvino", precision="bfloat16", batch=2, threads=2),
            "cuda": Numerics(backend="torch", precision="bfloat16", batch=16, threads=1),
        },
        quality=quality,
        lineage=lineage,
    )


def check_contract(recipe: TrainRecipe) -> None:
    """Refuse a recipe whose bundle would be refused, before a training of hours."""
    for problem in problems_of_classes(recipe.class_list):
        raise RecipeError("the classes contradict each other", where="classes", got=problem)
    num_bands = len(recipe.bands)
    try:
        make_contract(recipe, mean=(0.0,) * num_bands, std=(1.0,) * num_bands)
    except BundleError as error:
        expected, got = error.expected, error.got
        raise RecipeError("no bundle can have this contract", where=recipe.name, expected=expected, got=got) from error
    _check_values(recipe)
    _check_synthetic(recipe)
    _check_tile(recipe)


def _check_values(recipe: TrainRecipe) -> None:
    if recipe.dtype != "uint8" and recipe.range is None:
        raise RecipeError(
            f"{recipe.dtype} must have a range, since values beyond it are clipped",
            where="range",
            todo="add `range: [low, high]`, the raw values that the model should know; or drop `dtype` and add "
            "`scale: [low, high]`, which maps them into bytes",
        )
    largest = _LARGEST_VALUE.get(recipe.dtype)
    if largest is not None and not 0 <= recipe.input_range[0] < recipe.input_range[1] <= largest:
        raise RecipeError(
            "the range must lie within the data type",
            where="range",
            expected=f"0 to {largest} ({recipe.dtype})",
            got=str(list(recipe.input_range)),
        )
    if recipe.scale is not None and not -inf < recipe.scale[0] < recipe.scale[1] < inf:
        raise RecipeError("a scale must rise from low to high", where="scale", got=str(list(recipe.scale)))


def _check_synthetic(recipe: TrainRecipe) -> None:
    is_synthetic = any(spec.seeds is not None for spec in recipe.grounds)
    if is_synthetic and (recipe.bands, recipe.dtype, recipe.input_range) != _SYNTHETIC_INPUT:
        raise RecipeError(
            "synthetic scenes have bytes of red, green and blue",
            where="bands, dtype, range",
            got=f"{', '.join(recipe.bands)}, {recipe.dtype}, {list(recipe.input_range)}",
            todo="drop these lines, or train on rasters",
        )


def _check_tile(recipe: TrainRecipe) -> None:
    """Tiles must fit the network, both in a run and when the bundle is measured at the end."""
    core_px, stride = Tiling().core, recipe.architecture.stride_px
    if (core_px + 2 * recipe.halo_px) % stride:
        halo_px = next(
            halo for halo in range(recipe.halo_px, recipe.halo_px + stride) if not (core_px + 2 * halo) % stride
        )
        raise RecipeError(
            "the tile does not fit the network",
            where="halo_px",
            expected=f"core + 2 x halo, a multiple of {stride}",
            got=f"{core_px} + 2 x {recipe.halo_px} = {core_px + 2 * recipe.halo_px}",
            todo=f"set halo_px: {halo_px}",
        )
