"""What a training is made from: ground, and the bundles that it begins with or learns from. All of it is read and held
against the recipe before the first step: a path that is wrong must not show after hours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batchseg.errors import BundleError
from batchseg.model.bundle import ITEM, Bundle, open_bundle, read_weights
from batchseg.training.checkpoint import deciding
from batchseg.training.ground import Ground, open_ground
from batchseg.training.rasters import check_rasters
from batchseg.training.train_recipe import TrainRecipe


@dataclass(frozen=True, slots=True)
class Sources:
    ground: Ground
    unseen: Ground
    watched: Ground | None
    start: Bundle | None
    teacher: Bundle | None

    @property
    def mean(self) -> tuple[float, ...]:
        """A band, of the model's input: that of the weights that training begins with, or of its ground."""
        return _rounded(self.ground.mean) if self.start is None else self.start.contract.mean

    @property
    def std(self) -> tuple[float, ...]:
        return _rounded(self.ground.std) if self.start is None else self.start.contract.std

    @property
    def data(self) -> dict[str, str]:
        """Digests of every pixel and label."""
        grounds = {"train": self.ground, "validate": self.unseen, "watch": self.watched}
        return {name: ground.digest for name, ground in grounds.items() if ground is not None}

    @property
    def parents(self) -> dict[str, str]:
        """Digests of bundles. How a device runs them is not in it: a bundle may be tuned afterwards."""
        bundles = {"start": self.start, "teacher": self.teacher}
        return {name: bundle.graph_digest for name, bundle in bundles.items() if bundle is not None}


def open_sources(recipe: TrainRecipe) -> Sources:
    start, teacher = open_start(recipe), open_teacher(recipe)
    check_rasters(recipe)
    ground = open_ground(recipe.train, recipe, None if start is None else start.contract.mean)
    fill = _rounded(ground.mean) if start is None else start.contract.mean
    watched = None if recipe.watch is None else open_ground(recipe.watch, recipe, fill)
    return Sources(ground, open_ground(recipe.validate, recipe, fill), watched, start, teacher)


def _rounded(values: NDArray[np.float64]) -> tuple[float, ...]:
    return tuple(float(f"{value:.6g}") for value in values)


def is_made(folder: Path, lineage: dict[str, Any]) -> bool:
    """Whether this very training has been finished here. The bundle of another one is not written over."""
    if not (folder / ITEM).exists():
        return False
    bundle = open_bundle(str(folder), check_weights=False)
    theirs = bundle.contract.lineage
    if deciding(theirs.get("recipe", {})) != deciding(lineage["recipe"]):
        raise BundleError("there is a bundle of another recipe already", where=str(folder), todo="give a new folder")
    if any(theirs.get(key) != lineage.get(key) for key in ("recipe", "data", "start", "teacher")):
        return False  # the same training, with more steps or other words: it goes on
    read_weights(bundle)
    return True


def open_start(recipe: TrainRecipe) -> Bundle | None:
    """Its mean and deviation are taken with its weights, so its input is the recipe's. Its classes may be others."""
    if recipe.start is None:
        return None
    bundle = open_bundle(recipe.start)
    _check(recipe.start, "the bundle to start from", _inputs(bundle, recipe))
    return bundle


def open_teacher(recipe: TrainRecipe) -> Bundle | None:
    if recipe.teacher is None:
        return None
    bundle = open_bundle(recipe.teacher)
    ours, theirs = ([(c.id, c.name) for c in classes] for classes in (recipe.class_list, bundle.contract.classes))
    _check(recipe.teacher, "the teacher", [("classes", ours, theirs), *_inputs(bundle, recipe)])
    return bundle


def _inputs(bundle: Bundle, recipe: TrainRecipe) -> list[tuple[str, object, object]]:
    theirs = bundle.contract
    return [
        ("bands", list(recipe.bands), [band.name for band in theirs.bands]),
        ("range", (recipe.dtype, recipe.input_range), (theirs.dtype, theirs.range)),
    ]


def _check(ref: str, who: str, pairs: Sequence[tuple[str, object, object]]) -> None:
    for what, want, got in pairs:
        if want != got:
            raise BundleError(
                f"{who} has other {what} than this recipe",
                where=ref,
                expected=str(want),
                got=str(got),
                todo="take another bundle, or change the training recipe",
            )
