"""Labelled ground in memory: windows of synthetic scenes, or of rasters read in the same way as in a run."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batchseg.errors import RecipeError
from batchseg.synth import CLASSES, render
from batchseg.training.rasters import UNLABELLED, LabelledWindows, read_windows
from batchseg.training.train_recipe import GroundSpec, TrainRecipe

_PLACES_PER_CLASS = 4096
_SAMPLE_EVERY_PX = 4
_LEAST_STD = 4e-6
"""Smallest standard deviation, as a share of the range: a constant band must not be divided by zero."""


@dataclass(frozen=True, slots=True)
class TrainingGround:
    """Windows in memory, with places of each class to centre crops on."""

    pixels_WBHW: NDArray[Any]
    labels_WHW: NDArray[np.uint8]
    """Class indexes, or UNLABELLED."""
    places: dict[int, NDArray[np.int64]]
    """Rows of (window, row, column), by class index."""
    mean: NDArray[np.float64]
    """Mean of each band over the valid pixels."""
    std: NDArray[np.float64]
    fill: NDArray[np.float64]
    """Values per band that pixels without data have: the mean of the bundle that is trained or measured."""
    inside_W2: NDArray[np.int64]
    """Rows and columns of each window that lie within its raster; beyond them the edge is repeated."""
    names: tuple[str, ...] = tuple(c.name for c in CLASSES)
    """Names of the classes, in order."""

    @property
    def digest(self) -> str:
        """Digest of every pixel and label, for the lineage of a bundle."""
        digest = hashlib.blake2b(digest_size=16)
        for array in (self.pixels_WBHW, self.labels_WHW):
            digest.update(f"{array.shape} {array.dtype}".encode())
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()


def read_ground(spec: GroundSpec, recipe: TrainRecipe, fill: Sequence[float] | None = None) -> TrainingGround:
    """Read all windows into memory.

    Args:
        spec: The scenes to read.
        recipe: The training recipe that the scenes belong to.
        fill: The values of pixels without data: the mean of the bundle, as at inference. By default the mean of this
            ground, which becomes the mean of the bundle.
    """
    # Ground to measure on is the same for all seeds; otherwise the spread of seeds would include that of ground.
    random = np.random.default_rng(recipe.seed if spec == recipe.train else 0)
    windows = read_windows(spec, recipe, random) if spec.seeds is None else _render_windows(spec, spec.seeds, random)
    pixels_WBHW, labels_WHW = windows.pixels_WBHW, windows.labels_WHW
    own_WHW = windows.valid_WHW & _mark_inside(windows.inside_W2, spec.window_px)
    _check_pixels(spec, recipe, own_WHW, labels_WHW)
    classes = recipe.class_list
    places = {index: _draw_places(labels_WHW, index, random) for index in range(len(classes))}
    mean, std = _measure_scaling(pixels_WBHW, own_WHW)
    std = np.maximum(std, _LEAST_STD * (recipe.input_range[1] - recipe.input_range[0]))
    fill_B = mean if fill is None else np.asarray(fill, np.float64)
    fill_B = np.rint(fill_B) if pixels_WBHW.dtype == np.uint8 else fill_B
    np.moveaxis(pixels_WBHW, 1, -1)[~windows.valid_WHW] = fill_B
    names = tuple(c.name for c in classes)
    return TrainingGround(pixels_WBHW, labels_WHW, places, mean, std, fill_B, windows.inside_W2, names)


def _mark_inside(inside_W2: NDArray[np.int64], side_px: int) -> NDArray[np.bool_]:
    """The pixels of each window that are no repetition beyond the edge of the raster."""
    rows_WH, cols_WH = (np.arange(side_px) < inside_W2[:, axis, None] for axis in (0, 1))
    return np.asarray(rows_WH[:, :, None] & cols_WH[:, None])


def _check_pixels(
    spec: GroundSpec, recipe: TrainRecipe, own_WHW: NDArray[np.bool_], labels_WHW: NDArray[np.uint8]
) -> None:
    name = next((name for name in ("train", "validate", "watch") if getattr(recipe, name) == spec), "ground")
    where = f"{name}: {', '.join(raster.image for raster in spec.rasters) or f'seeds {spec.seeds}'}"
    if not own_WHW.any():
        raise RecipeError("no pixel of this ground is valid", where=where, todo="take other scenes, or more `windows`")
    has_teacher_only = name == "train" and recipe.teacher is not None
    if not has_teacher_only and (labels_WHW == UNLABELLED).all():
        raise RecipeError(
            "no pixel of this ground has a label",
            where=where,
            expected="ids of `classes` where the image is valid",
            todo="give other labels, or more `windows`",
        )


def _measure_scaling(
    pixels_WBHW: NDArray[Any], own_WHW: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard deviation per band.

    Every fourth row and column of all windows is used, so that each scene counts; all pixels are used where the sample
    has no valid one. Windows are summed one by one: in double precision the ground would be eight times as large.
    """
    step = _SAMPLE_EVERY_PX if own_WHW[:, ::_SAMPLE_EVERY_PX, ::_SAMPLE_EVERY_PX].any() else 1

    def average(change: Callable[[NDArray[Any]], NDArray[Any]]) -> NDArray[np.float64]:
        sums = np.zeros(pixels_WBHW.shape[1])
        for pixels_BHW, own_HW in zip(pixels_WBHW[..., ::step, ::step], own_WHW[:, ::step, ::step], strict=True):
            sums += change(pixels_BHW[:, own_HW]).sum(1, dtype=np.float64)
        return sums / np.count_nonzero(own_WHW[:, ::step, ::step])

    mean = average(lambda values_BN: values_BN)
    variance = average(lambda values_BN: (values_BN - mean[:, None]) ** 2)
    return mean, np.sqrt(variance)


def _render_windows(spec: GroundSpec, seeds: tuple[int, int], random: np.random.Generator) -> LabelledWindows:
    """Render one window, placed at random, of the synthetic scene of each seed."""
    windows, span = [], spec.window_px
    for scene_seed in range(*seeds):
        row, col = random.integers(0, spec.size_px - span + 1, 2)
        windows.append(render(scene_seed, spec.size_px, slice(row, row + span), slice(col, col + span), 3, "uint8"))
    pixels_WBHW, labels_WHW = (np.stack(arrays) for arrays in zip(*windows, strict=True))
    valid_WHW = (pixels_WBHW != 0).any(axis=1)
    return LabelledWindows(pixels_WBHW, labels_WHW, valid_WHW, np.full((len(labels_WHW), 2), span))


def _draw_places(labels_WHW: NDArray[np.uint8], index: int, random: np.random.Generator) -> NDArray[np.int64]:
    candidates = np.flatnonzero(labels_WHW == index)
    drawn = random.choice(candidates, min(len(candidates), _PLACES_PER_CLASS), replace=False)
    return np.stack(np.unravel_index(drawn, labels_WHW.shape), axis=1)
