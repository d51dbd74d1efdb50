"""The sources of a training: labelled ground, and the bundles that it starts from or learns from.

All of them are read and compared with the recipe before the first step, so that a wrong path is reported at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from batchseg.errors import BundleError
from batchseg.model.bundle import Bundle, open_bundle
from batchseg.training.ground import TrainingGround, read_ground
from batchseg.training.rasters import check_rasters
from batchseg.training.train_recipe import TrainRecipe


@dataclass(frozen=True, slots=True)
class Sources:
    train_ground: TrainingGround
    validation_ground: TrainingGround
    watch_ground: TrainingGround | None
    start: Bundle | None
    teacher: Bundle | None

    @property
    def mean(self) -> tuple[float, ...]:
        """Mean per band of the model's input: that of the bundle to start from, or of the training ground."""
        return _round(self.train_ground.mean) if self.start is None else self.start.contract.mean

    @property
    def std(self) -> tuple[float, ...]:
        """Standard deviation per band, from the same source as the mean."""
        return _round(self.train_ground.std) if self.start is None else self.start.contract.std

    @property
    def ground_digests(self) -> dict[str, str]:
        """Digests of every pixel and label, by the name of the ground."""
        grounds = {"train": self.train_ground, "validate": self.validation_ground, "watch": self.watch_ground}
        return {name: ground.digest for name, ground in grounds.items() if ground is not None}

    @property
    def bundle_digests(self) -> dict[str, str]:
        """Digests of the bundles. They do not cover how a device runs a bundle, so it may be tuned meanwhile."""
        bundles = {"start": self.start, "teacher": self.teacher}
        return {name: bundle.graph_digest for name, bundle in bundles.items() if bundle is not None}


def open_sources(recipe: TrainRecipe) -> Sources:
    """Open the bundles, check all rasters, then read the pixels and labels of every ground."""
    start, teacher = open_start(recipe), open_teacher(recipe)
    check_rasters(recipe)
    train_ground = read_ground(recipe.train, recipe, None if start is None else start.contract.mean)
    fill = _round(train_ground.mean) if start is None else start.contract.mean
    watch_ground = None if recipe.watch is None else read_ground(recipe.watch, recipe, fill)
    return Sources(train_ground, read_ground(recipe.validate, recipe, fill), watch_ground, start, teacher)


def _round(values: NDArray[np.float64]) -> tuple[float, ...]:
    return tuple(float(f"{value:.6g}") for value in values)


def open_start(recipe: TrainRecipe) -> Bundle | None:
    """The bundle to start from. Its scaling is used with its weights, so it must have the recipe's input.

    Its classes may be others.
    """
    if recipe.start is None:
        return None
    bundle = open_bundle(recipe.start)
    _check_equal(recipe.start, "the bundle to start from", _pair_inputs(bundle, recipe))
    return bundle


def open_teacher(recipe: TrainRecipe) -> Bundle | None:
    if recipe.teacher is None:
        return None
    bundle = open_bundle(recipe.teacher)
    expected, actual = ([(c.id, c.name) for c in classes] for classes in (recipe.class_list, bundle.contract.classes))
    _check_equal(recipe.teacher, "the teacher", [("classes", expected, actual), *_pair_inputs(bundle, recipe)])
    return bundle


def _pair_inputs(bundle: Bundle, recipe: TrainRecipe) -> list[tuple[str, object, object]]:
    contract = bundle.contract
    return [
        ("bands", list(recipe.bands), [band.name for band in contract.bands]),
        ("range", (recipe.dtype, recipe.input_range), (contract.dtype, contract.range)),
    ]


def _check_equal(ref: str, role: str, pairs: Sequence[tuple[str, object, object]]) -> None:
    for what, expected, actual in pairs:
        if expected != actual:
            raise BundleError(
                f"{role} has other {what} than this recipe",
                where=ref,
                expected=str(expected),
                got=str(actual),
                todo="take another bundle, or change the training recipe",
            )
