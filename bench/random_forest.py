"""The baseline of the networks: a random forest on colour and local statistics, with each scene left out once.

    python -m bench.random_forest configs/train/aerial-bulk-alone.yaml

Scenes and classes are those of `bench/leave_one_out.py`. The forest learns from the same number of pixels of each
class in each scene. It predicts pixels of the scene that was left out, drawn anywhere. With --adjusted, its scores are
adjusted with a few labels of that scene, as `bench/adjust.py` does with the scores of networks.
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
from bench.adjust import add_label_arguments, compute_miou, print_table
from bench.leave_one_out import make_folds

SIDES_PX = (5, 15, 41)
PIXELS_PER_CLASS = 8_000
"""Pixels to learn from, per class and scene."""
PIXELS_SCORED = 400_000
TREES, DEPTH, LEAF_PX = 80, 18, 10

LEAST_CHANCE = 1e-3
"""Probability of a class that no tree predicts; it is not impossible."""


@dataclass(frozen=True, slots=True)
class Pixels:
    x_NF: NDArray[np.float32]
    labels_N: NDArray[np.uint8]
    place_N: NDArray[np.int64]
    """Number of the square of 64 px that each pixel lies in."""


def compute_features(pixels_BHW: NDArray[Any]) -> NDArray[np.float32]:
    """Features of each pixel: colour, its shares, and mean, spread and edges of three neighbourhoods."""
    x_BHW = pixels_BHW.astype(np.float32)
    grey_HW = x_BHW.mean(0)
    down_HW, right_HW = np.gradient(grey_HW)
    planes = [*x_BHW, *(x_BHW[:2] / (x_BHW.sum(0) + 1)), x_BHW.max(0) - x_BHW.min(0)]
    for side in SIDES_PX:
        mean_HW = uniform_filter(grey_HW, side)
        planes += [uniform_filter(band_HW, side) for band_HW in x_BHW]
        planes += [np.sqrt(np.maximum(uniform_filter(grey_HW**2, side) - mean_HW**2, 0))]
        planes += [uniform_filter(np.hypot(down_HW, right_HW), side)]
    return np.stack(planes, axis=-1).reshape(-1, len(planes))


def draw_samples(scene: TrainingGround, random: np.random.Generator, *, balanced: bool) -> Pixels:
    """Draw pixels anywhere: the same number of each class, or classes as they occur."""
    labels_N = scene.labels_WHW.ravel()
    if balanced:
        places = [np.flatnonzero(labels_N == number) for number in range(len(scene.names))]
        drawn = np.concatenate([random.choice(p, min(PIXELS_PER_CLASS, len(p)), replace=False) for p in places])
    else:
        known = np.flatnonzero(labels_N != UNLABELLED)
        drawn = random.choice(known, min(PIXELS_SCORED, len(known)), replace=False)
    chosen, window_px = np.sort(drawn), scene.labels_WHW[0].size
    features = [
        compute_features(pixels_BHW)[chosen[chosen // window_px == number] % window_px]
        for number, pixels_BHW in enumerate(scene.pixels_WBHW)
    ]
    window_N, row_N, col_N = np.unravel_index(chosen, scene.labels_WHW.shape)
    place_N = (window_N << 40) + (row_N // PLACE_PX << 20) + col_N // PLACE_PX
    return Pixels(np.concatenate(features), labels_N[chosen], place_N)


def read_grounds(recipe: TrainRecipe) -> Iterator[tuple[str, TrainingGround]]:
    """Read the ground of each scene alone."""
    for name, fold in make_folds(recipe).items():
        yield name, read_ground(fold.validate, fold)


def leave_out(scenes: dict[str, TrainingGround]) -> Iterator[tuple[str, LabelledScores]]:
    """Predict each scene with a forest that has not learnt from it."""
    random = np.random.default_rng(0)
    learnt = {name: draw_samples(scene, random, balanced=True) for name, scene in scenes.items()}
    for out, scene in scenes.items():
        others = [pixels for name, pixels in learnt.items() if name != out]
        forest = RandomForestClassifier(TREES, max_depth=DEPTH, min_samples_leaf=LEAF_PX, n_jobs=2, random_state=0)
        forest.fit(np.concatenate([one.x_NF for one in others]), np.concatenate([one.labels_N for one in others]))
        drawn = draw_samples(scene, random, balanced=False)
        chances_NK = np.zeros((len(drawn.labels_N), len(scene.names)))
        chances_NK[:, forest.classes_] = forest.predict_proba(drawn.x_NF)
        scores_KP = np.log(chances_NK.T.clip(LEAST_CHANCE)).astype(np.float32)
        answers = LabelledScores(scores_KP, drawn.labels_N.astype(np.int64), drawn.place_N)
        iou = dict(zip(scene.names, answers.compute_iou(scores_KP.argmax(0)), strict=True))
        known = {name: value for name, value in iou.items() if value is not None}
        known["mean"] = statistics.fmean(known.values())
        print(f"{out}: " + ", ".join(f"{name} {value:.3f}" for name, value in known.items()), flush=True)
        yield out, answers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", type=Path, help="training recipe with rasters")
    parser.add_argument("--adjusted", action="store_true", help="adjust the forest with a few labels of the scene, too")
    add_label_arguments(parser)
    args = parser.parse_args()
    answers_by_scene = dict(leave_out(dict(read_grounds(load_train_recipe(args.recipe)))))
    means = [compute_miou(answers, answers.scores_KP) for answers in answers_by_scene.values()]
    print(f"mean of {len(means)} scenes: {statistics.mean(means):.3f}, from {min(means):.3f} to {max(means):.3f}")
    if args.adjusted:
        print_table(answers_by_scene, args.pixels, args.squares)


if __name__ == "__main__":
    main()
