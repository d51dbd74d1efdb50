"""What a few labels of a new scene are worth: `batchseg adjust`, on scenes that a bundle has never seen.

    python bench/leave_one_out.py configs/train/aerial-heavy.yaml OUT --steps 300
    python -m bench.adjust configs/train/aerial-heavy.yaml OUT [--seed 0] [--pixels 50 200 1000] [--squares 20]

Asks the bundles that the first command left in OUT, each on the scene that it has never seen, and brings its answers to
that scene by so many labelled pixels, drawn anywhere, and by what is kept of so many squares of 64 px, some dozens of
pixels of each, as if somebody had drawn them. Scored is what was not drawn; means of five draws. `from the others` uses
the labels of the other scenes and none of this one, `from all` half of its squares for the other half: the most that
can be had so.
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
from bench.leave_one_out import folds

DRAWS = 5
PIXELS_OF_OTHERS = 5_000
"""Of each other scene, so that none outvotes the rest."""


def answers_on_its_scene(folder: Path, recipe: TrainRecipe) -> LabelledScores:
    """Of a bundle on the scene that its recipe validates on, read as a run would."""
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


def miou(answers: LabelledScores, scores_KP: NDArray[np.float32]) -> float:
    return mean_iou(answers.compute_iou(scores_KP.argmax(0)))


def from_drawn(scene: LabelledScores, drawn_P: NDArray[np.bool_]) -> float:
    """On what was not drawn."""
    rest = scene.select(~drawn_P)
    return miou(rest, fit_mixture(scene.select(drawn_P)).apply(rest.scores_KP))


def pixels_drawn(scene: LabelledScores, count: int, random: np.random.Generator) -> NDArray[np.bool_]:
    drawn_P = np.zeros(len(scene.truth_P), bool)
    drawn_P[random.choice(len(drawn_P), min(count, len(drawn_P)), replace=False)] = True
    return drawn_P


def squares_drawn(scene: LabelledScores, count: int, random: np.random.Generator) -> NDArray[np.bool_]:
    places = np.unique(scene.place_P)
    drawn: NDArray[np.bool_] = np.isin(scene.place_P, random.choice(places, min(count, len(places)), replace=False))
    return drawn


def from_others(scene: LabelledScores, others: Sequence[LabelledScores]) -> float:
    random = np.random.default_rng(0)
    parts = [other.select(pixels_drawn(other, PIXELS_OF_OTHERS, random)) for other in others]
    # The same square of another scene is another place.
    apart = [LabelledScores(one.scores_KP, one.truth_P, one.place_P + (i << 56)) for i, one in enumerate(parts)]
    return miou(scene, fit_mixture(LabelledScores.concatenate(apart)).apply(scene.scores_KP))


def row(
    scene: LabelledScores, others: Sequence[LabelledScores], nums_pixels: Sequence[int], nums_squares: Sequence[int]
) -> list[float]:
    drawn = [(pixels_drawn, count) for count in nums_pixels] + [(squares_drawn, count) for count in nums_squares]
    few = [
        statistics.fmean(from_drawn(scene, draw(scene, count, np.random.default_rng(i))) for i in range(DRAWS))
        for draw, count in drawn
    ]
    most = cross_validate(scene).change
    assert most.after is not None
    return [miou(scene, scene.scores_KP), from_others(scene, others), *few, mean_iou(most.after)]


def print_table(scenes: dict[str, LabelledScores], nums_pixels: Sequence[int], nums_squares: Sequence[int]) -> None:
    few = [*(f"from {num} px" for num in nums_pixels), *(f"from {num} squares" for num in nums_squares)]
    heads = ["scene", "as it is", "from the others", *few, "from all"]
    print(f"| {' | '.join(heads)} |\n{'|---' * len(heads)}|")
    rows: dict[str, list[float]] = {}
    for name, scene in scenes.items():
        rows[name] = row(scene, [other for key, other in scenes.items() if key != name], nums_pixels, nums_squares)
        _print_row(name, rows[name])
    _print_row("mean", [statistics.fmean(column) for column in zip(*rows.values(), strict=True)])


def _print_row(name: str, values: Sequence[float]) -> None:
    print(f"| {name} | {' | '.join(f'{value:.3f}' for value in values)} |", flush=True)


def add_label_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--pixels", type=int, nargs="*", default=[50, 200, 1000], help="labelled pixels: 50 200 1000")
    parser.add_argument("--squares", type=int, nargs="*", default=[20], help="squares that are labelled: 20")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("out", type=Path, help="where bench/leave_one_out.py left its bundles")
    parser.add_argument("--seed", type=int, default=0, help="of those bundles")
    add_label_arguments(parser)
    args = parser.parse_args()
    recipe = load_train_recipe(args.recipe)
    scenes = {
        name: answers_on_its_scene(args.out / f"{recipe.name}-{name}-{args.seed}", fold)
        for name, fold in folds(recipe).items()
    }
    print_table(scenes, args.pixels, args.squares)


if __name__ == "__main__":
    main()
