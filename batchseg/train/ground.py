"""Labelled ground in memory: windows of synthetic scenes, or of rasters read as a run reads them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batchseg.synth import CLASSES, render
from batchseg.train.rasters import raster_windows
from batchseg.train.recipe import GroundSpec, TrainRecipe

UNLABELLED = 255
_PLACES_A_CLASS = 4096


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
    random = np.random.default_rng(recipe.seed)
    if spec.seeds is None:
        (pixels_WBHW, labels_WHW, valid_WHW), inside = raster_windows(spec, recipe, random)
    else:
        pixels_WBHW, labels_WHW = _synth_windows(spec, spec.seeds, random)
        valid_WHW = (pixels_WBHW != 0).any(axis=1)
        inside = [(spec.window_px, spec.window_px)] * len(labels_WHW)
    classes = recipe.class_list
    places = {number: _places(labels_WHW, number, random) for number in range(len(classes))}
    sample = np.moveaxis(pixels_WBHW[::4], 1, -1)[valid_WHW[::4]]
    mean, std = sample.mean(0, dtype=np.float64), np.maximum(sample.std(0, dtype=np.float64), 1e-3)
    filled = mean if fill is None else np.asarray(fill, np.float64)
    filled = np.rint(filled) if pixels_WBHW.dtype == np.uint8 else filled
    np.moveaxis(pixels_WBHW, 1, -1)[~valid_WHW] = filled
    names = tuple(c.name for c in classes)
    return Ground(pixels_WBHW, labels_WHW, places, mean, std, filled, np.asarray(inside), names)


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
