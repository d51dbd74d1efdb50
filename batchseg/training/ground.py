"""Labelled ground in memory: windows of synthetic scenes, or of rasters read as a run reads them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batchseg.errors import RecipeError
from batchseg.synth import CLASSES, render
from batchseg.training.rasters import raster_windows
from batchseg.training.train_recipe import GroundSpec, TrainRecipe

UNLABELLED = 255
_PLACES_A_CLASS = 4096
_EVERY_PX = 4
_LEAST_STD = 4e-6
"""Of the range: a band that says nothing is not divided by nothing."""


@dataclass(frozen=True, slots=True)
class Ground:
    """Windows in memory, with places of each class to centre crops on."""

    pixels_WBHW: NDArray[Any]
    labels_WHW: NDArray[np.uint8]
    """Places in the list of classes; UNLABELLED where nothing is known."""
    places: dict[int, NDArray[np.int64]]
    """By class: rows of (window, row, column)."""
    mean: NDArray[np.float64]
    """A band, of the pixels that have data."""
    std: NDArray[np.float64]
    fill: NDArray[np.float64]
    """A band, what pixels without data have: the mean of the bundle that is trained or measured."""
    inside_W2: NDArray[np.int64]
    """Rows and columns of each window that its raster has; beyond them the edge is repeated."""
    names: tuple[str, ...] = tuple(c.name for c in CLASSES)

    @property
    def digest(self) -> str:
        """Of every pixel and label: what exactly was learnt from, for the lineage of a bundle."""
        digest = hashlib.blake2b(digest_size=16)
        for array in (self.pixels_WBHW, self.labels_WHW):
            digest.update(f"{array.shape} {array.dtype}".encode())
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()


def open_ground(spec: GroundSpec, recipe: TrainRecipe, fill: Sequence[float] | None = None) -> Ground:
    """Read the whole of it. What has no data gets the mean that the bundle has, as at inference: its own, where it
    makes one.
    """
    # What is measured on is the same for all seeds: else their spread would be that of ground.
    random = np.random.default_rng(recipe.seed if spec == recipe.train else 0)
    if spec.seeds is None:
        (pixels_WBHW, labels_WHW, valid_WHW), inside = raster_windows(spec, recipe, random)
    else:
        pixels_WBHW, labels_WHW = _synth_windows(spec, spec.seeds, random)
        valid_WHW = (pixels_WBHW != 0).any(axis=1)
        inside = [(spec.window_px, spec.window_px)] * len(labels_WHW)
    inside_W2, classes = np.asarray(inside), recipe.class_list
    own_WHW = valid_WHW & _within(inside_W2, spec.window_px)
    _check_pixels(spec, recipe, own_WHW, labels_WHW)
    places = {number: _places(labels_WHW, number, random) for number in range(len(classes))}
    mean, std = _scaling(pixels_WBHW, own_WHW)
    std = np.maximum(std, _LEAST_STD * (recipe.input_range[1] - recipe.input_range[0]))
    filled = mean if fill is None else np.asarray(fill, np.float64)
    filled = np.rint(filled) if pixels_WBHW.dtype == np.uint8 else filled
    np.moveaxis(pixels_WBHW, 1, -1)[~valid_WHW] = filled
    return Ground(pixels_WBHW, labels_WHW, places, mean, std, filled, inside_W2, tuple(c.name for c in classes))


def _within(inside_W2: NDArray[np.int64], side_px: int) -> NDArray[np.bool_]:
    """Of each window, what is no repetition beyond its raster's edge."""
    rows_WH, cols_WH = (np.arange(side_px) < inside_W2[:, axis, None] for axis in (0, 1))
    return np.asarray(rows_WH[:, :, None] & cols_WH[:, None])


def _check_pixels(
    spec: GroundSpec, recipe: TrainRecipe, own_WHW: NDArray[np.bool_], labels_WHW: NDArray[np.uint8]
) -> None:
    name = next((name for name in ("train", "validate", "watch") if getattr(recipe, name) == spec), "ground")
    where = f"{name}: {', '.join(raster.image for raster in spec.rasters) or f'seeds {spec.seeds}'}"
    if not own_WHW.any():
        raise RecipeError("no pixel of this ground is valid", where=where, todo="take other scenes, or more `windows`")
    taught_alone = name == "train" and recipe.teacher is not None
    if not taught_alone and (labels_WHW == UNLABELLED).all():
        raise RecipeError(
            "no pixel of this ground has a label",
            where=where,
            expected="ids of `classes` where the image is valid",
            todo="give other labels, or more `windows`",
        )


def _scaling(pixels_WBHW: NDArray[Any], own_WHW: NDArray[np.bool_]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and deviation of the valid pixels on every fourth row and column of all windows, so that each scene counts;
    of all, where those have none. A window at a time: in double precision the ground is eight times as large.
    """
    step = _EVERY_PX if own_WHW[:, ::_EVERY_PX, ::_EVERY_PX].any() else 1

    def mean_of(change: Callable[[NDArray[Any]], NDArray[Any]]) -> NDArray[np.float64]:
        sums = np.zeros(pixels_WBHW.shape[1])
        for pixels_BHW, own_HW in zip(pixels_WBHW[..., ::step, ::step], own_WHW[:, ::step, ::step], strict=True):
            sums += change(pixels_BHW[:, own_HW]).sum(1, dtype=np.float64)
        return sums / np.count_nonzero(own_WHW[:, ::step, ::step])

    mean = mean_of(lambda values_BN: values_BN)
    variance = mean_of(lambda values_BN: (values_BN - mean[:, None]) ** 2)
    return mean, np.sqrt(variance)


def _synth_windows(
    spec: GroundSpec, seeds: tuple[int, int], random: np.random.Generator
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """A window somewhere in the scene of each seed."""
    windows = []
    for scene_seed in range(*seeds):
        row, col = random.integers(0, spec.size_px - spec.window_px + 1, 2)
        span = spec.window_px
        windows.append(render(scene_seed, spec.size_px, slice(row, row + span), slice(col, col + span), 3, "uint8"))
    pixels_WBHW, labels_WHW = (np.stack(arrays) for arrays in zip(*windows, strict=True))
    return pixels_WBHW, labels_WHW


def _places(labels_WHW: NDArray[np.uint8], class_id: int, random: np.random.Generator) -> NDArray[np.int64]:
    found = np.flatnonzero(labels_WHW == class_id)
    drawn = random.choice(found, min(len(found), _PLACES_A_CLASS), replace=False)
    return np.stack(np.unravel_index(drawn, labels_WHW.shape), axis=1)
