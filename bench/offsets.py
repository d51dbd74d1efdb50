"""What a few labelled pixels of a new scene are worth: an offset for each class, added to a network's scores.

    python bench/leave_one_out.py configs/train/aerial-heavy.yaml OUT --steps 300
    python -m bench.offsets configs/train/aerial-heavy.yaml OUT [--seed 0] [--pixels 200 1000]

Asks the bundles that the first command left in OUT, each on the scene that it has never seen. Where one class ends and
the next begins is a matter of who labels, so nothing is learnt anew: only the border between classes moves. Offsets are
those with the best mean IoU on the other scenes, which costs no label of this one; on so many pixels of it, drawn
anywhere (the mean of five draws); and on all of it, which is the most that offsets can do.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from batchseg.job.accuracy import iou_of
from batchseg.model.bundle import load_bundle
from batchseg.model.segmenter import load_graph
from batchseg.train.ground import UNLABELLED, Ground, open_ground
from batchseg.train.measure import tiles_in
from batchseg.train.recipe import TrainRecipe, load_train_recipe
from bench.leave_one_out import folds
from bench.tiermaps import slices

EVERY_PX = 3
"""Neighbours say the same: every third pixel of every third row is enough."""
DRAWS = 5
STEPS = (1.0, 0.5, 0.25)

Offsets = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Answers:
    """What a network said of the labelled pixels of a scene."""

    scores_KP: NDArray[np.float32]
    truth_P: NDArray[np.int64]

    @property
    def num_classes(self) -> int:
        return len(self.scores_KP)

    def part(self, chosen_P: NDArray[Any]) -> Answers:
        return Answers(self.scores_KP[:, chosen_P], self.truth_P[chosen_P])

    def miou(self, offsets: Offsets) -> float:
        """Of the classes that occur in the truth or in the answers."""
        num = self.num_classes
        said_P = (self.scores_KP + offsets[:, None].astype(np.float32)).argmax(0)
        confusion = np.bincount(self.truth_P * num + said_P, minlength=num**2).reshape(num, num)
        return statistics.fmean(iou for iou in iou_of(confusion) if iou is not None)


def answers_of(folder: Path, recipe: TrainRecipe) -> Answers:
    """Of a bundle on the scene that its recipe validates on."""
    bundle = load_bundle(str(folder))
    graph = load_graph(bundle).eval()
    graph.to(memory_format=torch.channels_last)
    ground = open_ground(recipe.validate, recipe, bundle.contract.mean)
    scores, truth = zip(*_asked(graph, ground, recipe.halo_px), strict=True)
    return Answers(np.concatenate(scores, axis=1), np.concatenate(truth))


def _asked(graph: Any, ground: Ground, halo_px: int) -> Iterable[tuple[NDArray[np.float32], NDArray[np.int64]]]:
    for pixels_BHW, labels_HW in zip(ground.pixels_WBHW, ground.labels_WHW, strict=True):
        for tile, x in tiles_in(pixels_BHW, halo_px):
            with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
                scores_KHW = graph.scores(x).float()[0].numpy()
            rows, cols = tile.owned.within(tile.read_window(halo_px))
            own_KHW = scores_KHW[:, rows, cols][:, ::EVERY_PX, ::EVERY_PX]
            own_HW = labels_HW[slices(tile.owned)][::EVERY_PX, ::EVERY_PX]
            known = own_HW != UNLABELLED
            yield own_KHW[:, known], own_HW[known].astype(np.int64)


def best_offsets(scenes: Sequence[Answers]) -> Offsets:
    """One class after the other, in ever smaller steps, for the best mean over the scenes. The first stays at zero."""

    def worth(offsets: Offsets) -> float:
        return statistics.fmean(scene.miou(offsets) for scene in scenes)

    offsets = np.zeros(scenes[0].num_classes)
    best = worth(offsets)
    for step in STEPS:
        before = -1.0
        while best > before:
            before = best
            for number in range(1, len(offsets)):
                for move in (step, -step):
                    tried = offsets.copy()
                    tried[number] += move
                    if (value := worth(tried)) > best + 1e-5:
                        best, offsets = value, tried
    return offsets


def from_few(scene: Answers, num_pixels: int) -> float:
    found = []
    for draw in range(DRAWS):
        chosen_P = np.random.default_rng(draw).choice(len(scene.truth_P), num_pixels, replace=False)
        found.append(scene.miou(best_offsets([scene.part(chosen_P)])))
    return statistics.fmean(found)


def row(name: str, scenes: dict[str, Answers], nums_pixels: Sequence[int]) -> list[float]:
    scene = scenes[name]
    others = best_offsets([other for key, other in scenes.items() if key != name])
    zero = np.zeros(scene.num_classes)
    few = [from_few(scene, num) for num in nums_pixels]
    return [scene.miou(zero), scene.miou(others), *few, scene.miou(best_offsets([scene]))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("out", type=Path, help="where bench/leave_one_out.py left its bundles")
    parser.add_argument("--seed", type=int, default=0, help="of those bundles")
    parser.add_argument("--pixels", type=int, nargs="+", default=[200, 1000])
    args = parser.parse_args()
    recipe = load_train_recipe(args.recipe)
    scenes = {
        name: answers_of(args.out / f"{recipe.name}-{name}-{args.seed}", fold) for name, fold in folds(recipe).items()
    }
    heads = ["scene", "as it is", "from the others", *(f"from {num} px" for num in args.pixels), "from all of it"]
    print(f"| {' | '.join(heads)} |\n{'|---' * len(heads)}|")
    rows = {name: row(name, scenes, args.pixels) for name in scenes}
    rows["mean"] = [statistics.fmean(column) for column in zip(*rows.values(), strict=True)]
    for name, values in rows.items():
        print(f"| {name} | {' | '.join(f'{value:.3f}' for value in values)} |")


if __name__ == "__main__":
    main()
