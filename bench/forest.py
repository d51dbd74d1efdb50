"""What a network has to beat: a random forest on colour and local statistics, each scene of a recipe left out once.

    python -m bench.forest configs/train/aerial-bulk-alone.yaml

Scenes and classes are those of `bench/leave_one_out.py`. From each scene the forest learns as many
pixels of each class; it is asked at so many pixels of the scene that was left out, drawn anywhere. With --adjusted, its
answers are brought to that scene by a few of its labels, as `bench/adjust.py` does with those of networks.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter
from sklearn.ensemble import RandomForestClassifier

from batchseg.adapt.mixture import PLACE_PX, LabelledScores
from batchseg.training.checks import load_train_recipe
from batchseg.training.ground import TrainingGround, read_ground
from batchseg.training.rasters import UNLABELLED
from batchseg.training.train_recipe import TrainRecipe
from bench.adjust import add_label_arguments, miou, print_table
from bench.leave_one_out import folds

SIDES_PX = (5, 15, 41)
PIXELS_A_CLASS = 8_000
"""Of each scene."""
PIXELS_SCORED = 400_000
TREES, DEPTH, LEAF_PX = 80, 18, 10

LEAST_CHANCE = 1e-3
"""What no tree of the forest says is not impossible."""


@dataclass(frozen=True, slots=True)
class Pixels:
    x_NF: NDArray[np.float32]
    labels_N: NDArray[np.uint8]
    place_N: NDArray[np.int64]
    """Which square of 64 px each lies in."""


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


def samples(scene: TrainingGround, random: np.random.Generator, *, balanced: bool) -> Pixels:
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
    window_N, row_N, col_N = np.unravel_index(chosen, scene.labels_WHW.shape)
    place_N = (window_N << 40) + (row_N // PLACE_PX << 20) + col_N // PLACE_PX
    return Pixels(np.concatenate(found), labels_N[chosen], place_N)


def grounds(recipe: TrainRecipe) -> Iterator[tuple[str, TrainingGround]]:
    """Each scene alone."""
    for name, fold in folds(recipe).items():
        yield name, read_ground(fold.validate, fold)


def leave_out(scenes: dict[str, TrainingGround]) -> Iterator[tuple[str, LabelledScores]]:
    """What the forest says of each scene that it has not learnt from."""
    random = np.random.default_rng(0)
    learnt = {name: samples(scene, random, balanced=True) for name, scene in scenes.items()}
    for out, scene in scenes.items():
        told = [pixels for name, pixels in learnt.items() if name != out]
        forest = RandomForestClassifier(TREES, max_depth=DEPTH, min_samples_leaf=LEAF_PX, n_jobs=2, random_state=0)
        forest.fit(np.concatenate([one.x_NF for one in told]), np.concatenate([one.labels_N for one in told]))
        asked = samples(scene, random, balanced=False)
        chances_NK = np.zeros((len(asked.labels_N), len(scene.names)))
        chances_NK[:, forest.classes_] = forest.predict_proba(asked.x_NF)
        scores_KP = np.log(chances_NK.T.clip(LEAST_CHANCE)).astype(np.float32)
        answers = LabelledScores(scores_KP, asked.labels_N.astype(np.int64), asked.place_N)
        iou = dict(zip(scene.names, answers.compute_iou(scores_KP.argmax(0)), strict=True))
        known = {name: value for name, value in iou.items() if value is not None}
        known["mean"] = statistics.fmean(known.values())
        print(f"{out}: " + ", ".join(f"{name} {value:.3f}" for name, value in known.items()), flush=True)
        yield out, answers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--adjusted", action="store_true", help="what a few labels of the scene are worth to it")
    add_label_arguments(parser)
    args = parser.parse_args()
    found = dict(leave_out(dict(grounds(load_train_recipe(args.recipe)))))
    means = [miou(answers, answers.scores_KP) for answers in found.values()]
    print(f"mean of {len(means)} scenes: {statistics.mean(means):.3f}, from {min(means):.3f} to {max(means):.3f}")
    if args.adjusted:
        print_table(found, args.pixels, args.squares)


if __name__ == "__main__":
    main()
