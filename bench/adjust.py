"""The gain from a few labels of a new scene: `batchseg adjust` on scenes that a bundle has never seen.

    python -m bench.leave_one_out configs/train/aerial-heavy.yaml OUT --steps 300
    python -m bench.adjust configs/train/aerial-heavy.yaml OUT [--seed 0] [--pixels 50 200 1000] [--squares 20]

The first command leaves bundles in OUT, and this script runs each of them on the scene that it has never seen. It
adjusts the bundle's scores with labelled pixels drawn anywhere, and with labelled squares of 64 px, of each of which
some dozens of pixels are kept. IoU is measured on the pixels that were not drawn, as a mean of five draws. The column
`from the others` uses the labels of the other scenes only. The column `from all` uses half of the scene's squares for
the other half, which is an upper bound.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from batchseg.adapt.mixture import LabelledScores, collect_scores, cross_validate, fit_mixture
from batchseg.adapt.samples import Sampling
from batchseg.model.bundle import open_bundle
from batchseg.model.mixing import open_scores
from batchseg.recipe.recipe import Models, Recipe
from batchseg.score.confusion import mean_iou
from batchseg.training.checks import load_train_recipe
from batchseg.training.train_recipe import TrainRecipe
from bench.leave_one_out import make_folds

DRAWS = 5
PIXELS_OF_OTHERS = 5_000
"""Pixels of each other scene; equal numbers, so that no scene dominates."""


def read_answers(folder: Path, recipe: TrainRecipe) -> LabelledScores:
    """The scores of a bundle on the scene that its recipe validates on, read as in a run."""
    bundle = open_bundle(str(folder))
    (scene,) = recipe.validate.rasters
    assert scene.labels is not None
    sampling = Sampling.of(
        bundle,
        Recipe(scenes=(scene.image,), labels=(scene.labels,), output="none", models=Models(bulk=str(folder))),
    )
    tiles, halo_px = sampling.find_labelled_tiles(show=lambda *_: None), bundle.contract.halo_px
    scores = open_scores(bundle, "cpu")
    return collect_scores(scores, sampling.read_tiles(tiles), num_tiles=len(tiles), halo_px=halo_px)


def compute_miou(answers: LabelledScores, scores_KP: NDArray[np.float32]) -> float:
    return mean_iou(answers.compute_iou(scores_KP.argmax(0)))


def score_with_drawn(scene: LabelledScores, drawn_P: NDArray[np.bool_]) -> float:
    """IoU on the pixels that were not drawn, after an adjustment with those that were."""
    rest = scene.select(~drawn_P)
    return compute_miou(rest, fit_mixture(scene.select(drawn_P)).apply(rest.scores_KP))


def draw_pixels(scene: LabelledScores, count: int, random: np.random.Generator) -> NDArray[np.bool_]:
    drawn_P = np.zeros(len(scene.truth_P), bool)
    drawn_P[random.choice(len(drawn_P), min(count, len(drawn_P)), replace=False)] = True
    return drawn_P


def draw_squares(scene: LabelledScores, count: int, random: np.random.Generator) -> NDArray[np.bool_]:
    places = np.unique(scene.place_P)
    drawn: NDArray[np.bool_] = np.isin(scene.place_P, random.choice(places, min(count, len(places)), replace=False))
    return drawn


def score_with_others(scene: LabelledScores, others: Sequence[LabelledScores]) -> float:
    random = np.random.default_rng(0)
    parts = [other.select(draw_pixels(other, PIXELS_OF_OTHERS, random)) for other in others]
    # The same square in another scene is another place.
    apart = [LabelledScores(one.scores_KP, one.truth_P, one.place_P + (i << 56)) for i, one in enumerate(parts)]
    return compute_miou(scene, fit_mixture(LabelledScores.concatenate(apart)).apply(scene.scores_KP))


def make_row(
    scene: LabelledScores, others: Sequence[LabelledScores], nums_pixels: Sequence[int], nums_squares: Sequence[int]
) -> list[float]:
    drawn = [(draw_pixels, count) for count in nums_pixels] + [(draw_squares, count) for count in nums_squares]
    few = [
        statistics.fmean(score_with_drawn(scene, draw(scene, count, np.random.default_rng(i))) for i in range(DRAWS))
        for draw, count in drawn
    ]
    most = cross_validate(scene).change
    assert most.after is not None
    return [compute_miou(scene, scene.scores_KP), score_with_others(scene, others), *few, mean_iou(most.after)]


def print_table(scenes: dict[str, LabelledScores], nums_pixels: Sequence[int], nums_squares: Sequence[int]) -> None:
    few = [*(f"from {num} px" for num in nums_pixels), *(f"from {num} squares" for num in nums_squares)]
    heads = ["scene", "as it is", "from the others", *few, "from all"]
    print(f"| {' | '.join(heads)} |\n{'|---' * len(heads)}|")
    rows: dict[str, list[float]] = {}
    for name, scene in scenes.items():
        rows[name] = make_row(scene, [other for key, other in scenes.items() if key != name], nums_pixels, nums_squares)
        _print_row(name, rows[name])
    _print_row("mean", [statistics.fmean(column) for column in zip(*rows.values(), strict=True)])


def _print_row(name: str, values: Sequence[float]) -> None:
    print(f"| {name} | {' | '.join(f'{value:.3f}' for value in values)} |", flush=True)


def add_label_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--pixels",
        type=int,
        nargs="*",
        default=[50, 200, 1000],
        help="numbers of labelled pixels (default 50 200 1000)",
    )
    parser.add_argument("--squares", type=int, nargs="*", default=[20], help="numbers of labelled squares (default 20)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", type=Path, help="training recipe with rasters")
    parser.add_argument("out", type=Path, help="folder with the bundles of bench.leave_one_out")
    parser.add_argument("--seed", type=int, default=0, help="seed of those bundles")
    add_label_arguments(parser)
    args = parser.parse_args()
    recipe = load_train_recipe(args.recipe)
    scenes = {
        name: read_answers(args.out / f"{recipe.name}-{name}-{args.seed}", fold)
        for name, fold in make_folds(recipe).items()
    }
    print_table(scenes, args.pixels, args.squares)


if __name__ == "__main__":
    main()
