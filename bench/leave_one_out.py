"""IoU of a training recipe on a scene that it has never seen: each of its scenes is left out once.

    python -m bench.leave_one_out configs/train/aerial-bulk-alone.yaml OUT [--steps 400] [--seeds 0 1 2]

Neighbouring chips of a scene look alike, so a split by chips measures how well a network remembers. Bundles are kept in
OUT and are not trained again. Recipes with a teacher are refused, since the teacher has seen all scenes.
"""

from __future__ import annotations

import argparse
import statistics
from dataclasses import replace
from pathlib import Path

from batchseg.errors import RecipeError
from batchseg.model.bundle import ITEM, open_bundle
from batchseg.model.quality import TrainedQuality
from batchseg.training.checks import load_train_recipe
from batchseg.training.train import train
from batchseg.training.train_recipe import LabelledRaster, TrainRecipe


def make_folds(recipe: TrainRecipe) -> dict[str, TrainRecipe]:
    """Make one recipe per scene that is left out, by the name of that scene."""
    scenes: tuple[LabelledRaster, ...] = (*recipe.train.rasters, *recipe.validate.rasters)
    if recipe.teacher is not None or recipe.watch is not None or not scenes:
        raise RecipeError(
            "a recipe for leave-one-out must have rasters, no teacher and no watch",
            where=recipe.name,
            todo="give another training recipe",
        )
    return {
        Path(out.image).stem: replace(
            recipe,
            train=replace(recipe.train, rasters=tuple(one for one in scenes if one is not out)),
            validate=replace(recipe.validate, rasters=(out,)),
        )
        for out in sorted(scenes, key=lambda scene: scene.image)
    }


def train_fold(recipe: TrainRecipe, folder: Path) -> dict[str, float]:
    """IoU of each class, and their mean, on the scene that was left out."""
    if not (folder / ITEM).exists():
        train(recipe, folder, device="cpu")
    quality = open_bundle(str(folder)).contract.quality
    assert isinstance(quality, TrainedQuality)
    return quality.iou | {"mean": quality.miou}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", type=Path, help="training recipe with rasters")
    parser.add_argument("out", type=Path, help="folder for the bundles")
    parser.add_argument("--steps", type=int, help="number of steps, instead of the recipe's")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="seeds of the trainings (default 0)")
    parser.add_argument("--scenes", nargs="+", help="scenes to leave out (default: each)")
    args = parser.parse_args()
    recipe = load_train_recipe(args.recipe)
    recipe = replace(recipe, steps=args.steps or recipe.steps)
    miou: dict[str, list[float]] = {}
    for scene, fold in make_folds(recipe).items():
        if args.scenes and scene not in args.scenes:
            continue
        for seed in args.seeds:
            iou = train_fold(replace(fold, seed=seed), args.out / f"{recipe.name}-{scene}-{seed}")
            miou.setdefault(scene, []).append(iou["mean"])
            print(
                f"{scene}, seed {seed}: " + ", ".join(f"{name} {value:.3f}" for name, value in iou.items()), flush=True
            )
    means = [statistics.mean(values) for values in miou.values()]
    print(f"mean of {len(means)} scenes: {statistics.mean(means):.3f}, from {min(means):.3f} to {max(means):.3f}")


if __name__ == "__main__":
    main()
