"""What a network has to beat: a random forest on colour and local statistics, each scene of a recipe left out once.

    python -m bench.forest configs/train/aerial-bulk-alone.yaml

Scenes, classes and the way to score are those of `bench/leave_one_out.py`. From each scene the forest learns as many
pixels of each class; it is asked at so many pixels of the scene that was left out, drawn anywhere.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter
from sklearn.ensemble import RandomForestClassifier

from batchseg.train.ground import UNLABELLED, Ground, open_ground
from batchseg.train.measure import mean_of
from batchseg.train.recipe import TrainRecipe, load_train_recipe
from bench.leave_one_out import folds

SIDES_PX = (5, 15, 41)
PIXELS_A_CLASS = 8_000
"""Of each scene."""
PIXELS_SCORED = 400_000
TREES, DEPTH, LEAF_PX = 80, 18, 10

Pixels = tuple[NDArray[np.float32], NDArray[np.uint8]]


def features(pixels_BHW: NDArray[Any]) -> NDArray[np.float32]:
    """Of each pixel: colour, its shares, and means, spread and edges of three neighbourhoods."""
    x_BHW = pixels_BHW.astype(np.float32)
    grey_HW = x_BHW.mean(0)
    down_HW, right_HW = np.gradient(grey_HW)
    found = [*x_BHW, *(x_BHW[:2] / (x_BHW.sum(0) + 1)), x_BHW.max(0) - x_BHW.min(0)]
    for side in SIDES_PX:
        mean_HW = uniform_filter(grey_HW, side)
        found += [uniform_filter(band_HW, side) for band_HW in x_BHW]
        found += [np.sqrt(np.maximum(uniform_filter(grey_HW**2, side) - mean_HW**2, 0))]
        found += [uniform_filter(np.hypot(down_HW, right_HW), side)]
    return np.stack(found, axis=-1).reshape(-1, len(found))


def samples(scene: Ground, random: np.random.Generator, *, balanced: bool) -> Pixels:
    """Of wherever they lie: as many of each class that occurs, or as they occur."""
    labels_N = scene.labels_WHW.ravel()
    if balanced:
        places = [np.flatnonzero(labels_N == number) for number in range(len(scene.names))]
        drawn = np.concatenate([random.choice(p, min(PIXELS_A_CLASS, len(p)), replace=False) for p in places])
    else:
        known = np.flatnonzero(labels_N != UNLABELLED)
        drawn = random.choice(known, min(PIXELS_SCORED, len(known)), replace=False)
    chosen, window_px = np.sort(drawn), scene.labels_WHW[0].size
    found = [
        features(pixels_BHW)[chosen[chosen // window_px == number] % window_px]
        for number, pixels_BHW in enumerate(scene.pixels_WBHW)
    ]
    return np.concatenate(found), labels_N[chosen]


def scored(forest: RandomForestClassifier, pixels: Pixels, names: tuple[str, ...]) -> dict[str, float]:
    """IoU of each class that occurs in the scene or in the forest's answers."""
    x, truth_N = pixels
    confusion = np.zeros((len(names), len(names)), np.int64)
    np.add.at(confusion, (truth_N, forest.predict(x)), 1)
    union = confusion.sum(0) + confusion.sum(1) - confusion.diagonal()
    return {name: float(confusion[i, i] / union[i]) for i, name in enumerate(names) if union[i]}


def grounds(recipe: TrainRecipe) -> Iterator[tuple[str, Ground]]:
    """Each scene alone."""
    for name, fold in folds(recipe).items():
        yield name, open_ground(fold.validate, fold)


def leave_out(scenes: dict[str, Ground]) -> Iterator[float]:
    random = np.random.default_rng(0)
    learnt = {name: samples(scene, random, balanced=True) for name, scene in scenes.items()}
    for out, scene in scenes.items():
        pixels, labels = zip(*(sample for name, sample in learnt.items() if name != out), strict=True)
        forest = RandomForestClassifier(TREES, max_depth=DEPTH, min_samples_leaf=LEAF_PX, n_jobs=2, random_state=0)
        forest.fit(np.concatenate(pixels), np.concatenate(labels))
        iou = scored(forest, samples(scene, random, balanced=False), scene.names)
        print(f"{out}: " + ", ".join(f"{name} {value:.3f}" for name, value in (iou | {"mean": mean_of(iou)}).items()))
        yield mean_of(iou)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", type=Path)
    args = parser.parse_args()
    scenes = dict(grounds(load_train_recipe(args.recipe)))
    means = list(leave_out(scenes))
    print(f"mean of {len(means)} scenes: {statistics.mean(means):.3f}, from {min(means):.3f} to {max(means):.3f}")


if __name__ == "__main__":
    main()
