"""Checks of a training recipe that need more than its own fields: the network, the contract, the split of the scenes.

They run when a recipe is loaded, and again when a training starts, since recipes can also be made in Python.
"""

from __future__ import annotations

from pathlib import Path

from batchseg.errors import RecipeError
from batchseg.model.architecture import stride_px
from batchseg.recipe.load import load_as
from batchseg.training.bundle_contract import check_contract
from batchseg.training.split import check_split
from batchseg.training.train_recipe import TrainRecipe


def load_train_recipe(path: str | Path) -> TrainRecipe:
    """Read and check a training recipe. Paths in it are relative to the current folder, like those of a command."""
    return load_as(TrainRecipe, path, "training recipe", check_train_recipe)


def check_train_recipe(recipe: TrainRecipe) -> None:
    """Refuse a recipe that cannot become a bundle, before any work is done."""
    check_contract(recipe)
    _check_crops(recipe)
    check_split(recipe)


def _check_crops(recipe: TrainRecipe) -> None:
    stride, span_px = stride_px(recipe.architecture), recipe.crop_px + recipe.shift_px
    if recipe.crop_px < stride or recipe.crop_px % stride or span_px > recipe.train.window_px:
        raise RecipeError(
            f"a {'pair of crops' if recipe.agree else 'crop'} fits a window, "
            f"and a crop's side is a multiple of the network's stride, {stride}",
            where="crop_px",
            expected=f"at most {recipe.train.window_px}",
            got=str(span_px),
        )
    if not 0.25 <= recipe.zoom[0] <= recipe.zoom[1] <= 4 or span_px / recipe.zoom[0] > recipe.train.window_px:
        raise RecipeError(
            "a zoom is 0.25 to 4, and the ground that the smallest one shows fits a window",
            where="zoom",
            expected=f"crop_px / zoom at most {recipe.train.window_px}",
            got=str(list(recipe.zoom)),
        )
