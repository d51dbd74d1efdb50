"""What a training recipe is worth on a scene that it has never seen: each of its scenes is left out once.

    python bench/leave_one_out.py configs/train/aerial-bulk-alone.yaml OUT [--steps 400] [--seeds 0 1 2]

Neighbouring chips of a scene look alike, so a split by chips says how well a network remembers. Bundles are kept in
OUT, and one that is there already is not trained again. A teacher has seen all scenes: recipes that name one are
refused.
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


def folds(recipe: TrainRecipe) -> dict[str, TrainRecipe]:
    """By the name of the scene that is left out."""
    scenes: tuple[LabelledRaster, ...] = (*recipe.train.rasters, *recipe.validate.rasters)
    if recipe.teacher is not None or recipe.watch is not None or not scenes:
        raise RecipeError("scenes cannot be left out of it", where=recipe.name, todo="no teacher, no watch, rasters")
    return {
        Path(out.image).stem: replace(
            recipe,
            train=replace(recipe.train, rasters=tuple(one for one in scenes if one is not out)),
            validate=replace(recipe.validate, rasters=(out,)),
        )
        for out in sorted(scenes, key=lambda scene: scene.image)
    }


def trained(recipe: TrainRecipe, folder: Path) -> dict[str, float]:
    """IoU by class, and their mean, on the scene that was left out."""
    if not (folder / ITEM).exists():
        train(recipe, folder, device="cpu")
    quality = open_bundle(str(folder)).contract.quality
    assert isinstance(quality, TrainedQuality)
    return quality.iou | {"mean": quality.miou}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, help="instead of the recipe's")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--scenes", nargs="+", help="leave only these out; by default each")
    args = parser.parse_args()
    recipe = load_train_recipe(args.recipe)
    recipe = replace(recipe, steps=args.steps or recipe.steps)
    found: dict[str, list[float]] = {}
    for scene, fold in folds(recipe).items():
        if args.scenes and scene not in args.scenes:
            continue
        for seed in args.seeds:
            iou = trained(replace(fold, seed=seed), args.out / f"{recipe.name}-{scene}-{seed}")
            found.setdefault(scene, []).append(iou["mean"])
            print(
                f"{scene}, seed {seed}: " + ", ".join(f"{name} {value:.3f}" for name, value in iou.items()), flush=True
            )
    means = [statistics.mean(values) for values in found.values()]
    print(f"mean of {len(means)} scenes: {statistics.mean(means):.3f}, from {min(means):.3f} to {max(means):.3f}")


if __name__ == "__main__":
    main()
