"""IoU of a training recipe on the other half of each of its scenes, where it knows the labellers.

    python -m bench.half_scenes configs/train/aerial-heavy.yaml OUT [--steps 300]

All scenes are cut in two. A network that learnt from the left halves is measured on the right ones, and the other way
round. In `bench/leave_one_out.py` both the scene and its labeller are new; the difference is what they cost. A strip
between the halves is left out, so that no crop sees both.
"""

from __future__ import annotations

import argparse
import statistics
from dataclasses import replace
from pathlib import Path

import rasterio
from rasterio.windows import Window
from safetensors.torch import load

from batchseg.model.bundle import ITEM, open_bundle, read_weights
from batchseg.model.graph import WholeGraph
from batchseg.model.networks import build_network
from batchseg.training.checks import load_train_recipe
from batchseg.training.ground import read_ground
from batchseg.training.train import train
from batchseg.training.train_recipe import LabelledRaster, TrainRecipe
from batchseg.training.validation import compute_miou, measure_iou

BETWEEN_PX = 128
SIDES = ("left", "right")


def cut_in_halves(raster: LabelledRaster, folder: Path) -> dict[str, LabelledRaster]:
    """Write both halves as files."""
    assert raster.labels is not None, "scenes to measure on have labels"
    paths = [{side: folder / f"{Path(url).stem}_{side}.tif" for side in SIDES} for url in (raster.image, raster.labels)]
    for url, halves in zip((raster.image, raster.labels), paths, strict=True):
        with rasterio.open(url) as file:
            middle, gap = file.width // 2, BETWEEN_PX // 2
            for side, (start, stop) in zip(SIDES, ((0, middle - gap), (middle + gap, file.width)), strict=True):
                window = Window(start, 0, stop - start, file.height)
                profile = {
                    "driver": "GTiff",
                    "width": window.width,
                    "height": window.height,
                    "count": file.count,
                    "dtype": file.dtypes[0],
                    "crs": file.crs,
                    "nodata": file.nodata,
                    "transform": file.window_transform(window),
                }
                with rasterio.open(halves[side], "w", **profile) as half:
                    half.write(file.read(window=window))
                    half.colorinterp = file.colorinterp
    return {side: LabelledRaster(image=str(paths[0][side]), labels=str(paths[1][side])) for side in SIDES}


def score_rasters(recipe: TrainRecipe, folder: Path) -> list[float]:
    """Mean IoU on each raster to validate on. The bundle is trained if it does not exist."""
    if not (folder / ITEM).exists():
        train(recipe, folder, device="cpu")
    bundle = open_bundle(str(folder))
    network = build_network(recipe.architecture, num_bands=len(recipe.bands), num_classes=len(recipe.class_list))
    network.load_state_dict({name: tensor.float() for name, tensor in load(read_weights(bundle)).items()})
    graph = WholeGraph(network, bundle.contract.mean, bundle.contract.std)
    miou = []
    for raster in recipe.validate.rasters:
        ground = read_ground(replace(recipe.validate, rasters=(raster,)), recipe, bundle.contract.mean)
        miou.append(compute_miou(measure_iou(graph, ground, halo_px=recipe.halo_px)))
    return miou


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", type=Path, help="training recipe with rasters")
    parser.add_argument("out", type=Path, help="folder for halves and bundles")
    parser.add_argument("--steps", type=int, help="number of steps, instead of the recipe's")
    args = parser.parse_args()
    recipe = load_train_recipe(args.recipe)
    recipe = replace(recipe, steps=args.steps or recipe.steps)
    args.out.mkdir(parents=True, exist_ok=True)
    scenes = sorted((*recipe.train.rasters, *recipe.validate.rasters), key=lambda scene: scene.image)
    halves = [cut_in_halves(scene, args.out) for scene in scenes]
    scores: list[list[float]] = []
    for learnt, unseen in (SIDES, SIDES[::-1]):
        split = {"train": learnt, "validate": unseen}
        grounds = {
            name: replace(getattr(recipe, name), rasters=tuple(half[side] for half in halves))
            for name, side in split.items()
        }
        scores.append(score_rasters(replace(recipe, **grounds), args.out / learnt))
    means = [statistics.mean(both) for both in zip(*scores, strict=True)]
    for scene, mean, both in zip(scenes, means, zip(*scores, strict=True), strict=True):
        print(f"{Path(scene.image).stem}: {mean:.3f} ({', '.join(f'{one:.3f}' for one in both)})")
    print(f"mean of {len(means)} scenes: {statistics.mean(means):.3f}")


if __name__ == "__main__":
    main()
