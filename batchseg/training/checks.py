"""Checks of a training recipe that need more than its own fields: the network, the contract, the split of the scenes.

They run when a recipe is loaded, and again when a training starts, since recipes can also be made in Python.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path

from batchseg.errors import RecipeError
from batchseg.recipe.load import load_as
from batchseg.training.bundle_contract import check_contract
from batchseg.training.split import check_split
from batchseg.training.train_recipe import GroundSpec, TrainRecipe


def load_train_recipe(path: str | Path) -> TrainRecipe:
    """Read and check a training recipe. Paths in it are relative to the current folder, like those of a command."""
    return load_as(TrainRecipe, path, "training recipe", check_train_recipe, check_keys)


_NEEDS = {"watch_every": "watch", "patience": "watch", "soft_share": "teacher", "temperature": "teacher"}
"""Keys that have no effect without another key."""
_NEEDS_IN_GROUND = {"size_px": "seeds", "windows": "rasters"}


def check_keys(given: Mapping[str, object]) -> None:
    """Refuse keys of a file that have no effect, since their author expects one. Defaults may be written out."""
    _check_needs(TrainRecipe, given, _NEEDS, "")
    for name in ("train", "validate", "watch"):
        ground = given.get(name)
        if isinstance(ground, Mapping):
            _check_needs(GroundSpec, ground, _NEEDS_IN_GROUND, f"{name}: ")


def _check_needs(
    kind: type[TrainRecipe | GroundSpec], given: Mapping[str, object], needs: Mapping[str, str], where: str
) -> None:
    defaults = {field.name: field.default for field in fields(kind)}
    for key, needed in needs.items():
        if not given.get(needed) and given.get(key, defaults[key]) != defaults[key]:
            raise RecipeError(
                f"`{key}` has no effect without `{needed}`",
                where=f"{where}{key}",
                todo=f"give `{needed}`, or leave `{key}` out",
            )


def check_train_recipe(recipe: TrainRecipe) -> None:
    """Refuse a recipe that cannot become a bundle, before any work is done."""
    check_contract(recipe)
    _check_crops(recipe)
    check_split(recipe)


def _check_crops(recipe: TrainRecipe) -> None:
    stride = recipe.architecture.stride_px
    span_px, window_px = recipe.crop_px + recipe.shift_px, recipe.train.window_px
    if recipe.crop_px < stride or recipe.crop_px % stride:
        raise RecipeError(
            f"the side of a crop must be a multiple of the network's stride, {stride}",
            where="crop_px",
            got=str(recipe.crop_px),
        )
    if span_px > window_px:
        raise RecipeError(
            f"a {'pair of crops' if recipe.agree else 'crop'} must fit a window",
            where="crop_px",
            expected=f"at most {window_px} px",
            got=f"{span_px} px",
        )
    if not 0.25 <= recipe.zoom[0] <= recipe.zoom[1] <= 4:
        raise RecipeError("a zoom must rise within 0.25 to 4", where="zoom", got=str(list(recipe.zoom)))
    if span_px / recipe.zoom[0] > window_px:
        raise RecipeError(
            "the ground that the smallest zoom shows must fit a window",
            where="zoom",
            expected=f"crop_px / zoom of at most {window_px}",
            got=f"{span_px / recipe.zoom[0]:g}",
            todo="raise the smallest zoom, or `window_px` of `train`",
        )
