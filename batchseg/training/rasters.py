"""Windows of labelled rasters: bands, scaling, nodata and edges as in a run, by the same code."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batchseg.engine.inputs import InputRule
from batchseg.errors import BundleError, RecipeError
from batchseg.recipe import NodataPolicy
from batchseg.scene.area import gsd_beyond
from batchseg.scene.bands import BandWanted, choose_bands
from batchseg.scene.header import SceneHeader, read_header
from batchseg.scene.labels import LabelSource, read_labels_header
from batchseg.scene.pixels import describe_window
from batchseg.scene.source import open_source
from batchseg.training.train_recipe import GroundSpec, LabelledRaster, TrainRecipe
from tiling.pad import replicate
from tiling.span import Window

_UNLABELLED = 255
_AUTO = NodataPolicy(from_="auto")
Read = tuple[NDArray[Any], NDArray[np.uint8], NDArray[np.bool_]]


def raster_windows(
    spec: GroundSpec, recipe: TrainRecipe, random: np.random.Generator
) -> tuple[Read, list[tuple[int, int]]]:
    """Pixels, places in the list of classes, validity; and how much of each window lies in its raster, in rows and
    columns. All headers are checked before the first pixel is read.
    """
    readers = [_Reader(raster, recipe) for raster in spec.rasters]
    wanted = [(reader, window) for reader in readers for window in _windows(reader.grid.shape_px, spec.window_px)]
    if spec.windows is not None and spec.windows < len(wanted):
        drawn = np.sort(random.choice(len(wanted), spec.windows, replace=False))
        wanted = [wanted[number] for number in drawn]
    pixels, labels, valid = zip(*(reader.read(window) for reader, window in wanted), strict=True)
    inside = [window.clip(reader.grid.shape_px).shape for reader, window in wanted]
    return (np.stack(pixels), np.stack(labels), np.stack(valid)), inside


def check_rasters(recipe: TrainRecipe) -> None:
    """All headers of all grounds, before the first pixel of any is read."""
    for spec in recipe.grounds:
        for raster in spec.rasters:
            _Reader(raster, recipe)


def _windows(shape_px: tuple[int, int], side_px: int) -> Iterator[Window]:
    """Side by side; the last of a row or column reach beyond the raster."""
    for row in range(0, shape_px[0], side_px):
        for col in range(0, shape_px[1], side_px):
            yield Window.of(row, row + side_px, col, col + side_px)


class _Reader:
    """One raster with its labels."""

    def __init__(self, raster: LabelledRaster, recipe: TrainRecipe) -> None:
        self.header = read_header(raster.image)
        self.grid = self.header.grid
        _check_dtype(self.header, recipe)
        _check_gsd(self.header, recipe)
        wanted = tuple(BandWanted(name=name, common=name) for name in recipe.bands)
        self._source = open_source(self.header.raster, choose_bands(self.header.raster, wanted, recipe.take), _AUTO)
        self._labels = raster.labels and LabelSource(
            read_labels_header(raster.labels, self.header.grid, self.header.raster.url)
        )
        dtype = "uint8" if recipe.dtype == "uint8" else "float32"
        same = self.header.raster.dtype == dtype and recipe.scale in (None, recipe.input_range)
        self._rule = InputRule(
            dtype=dtype,
            raw_range=None if same else (recipe.scale or recipe.input_range),
            model_range=recipe.input_range,
            fill=(0.0,) * len(wanted),  # the mean, once it is known
        )
        self._ids = [c.id for c in recipe.class_list]

    def read(self, want: Window) -> Read:
        """Beyond the raster the edge is repeated, as in a run, and nothing is labelled."""
        inside = want.clip(self.grid.shape_px)
        found = self._source.read(inside)
        labels_HW = np.full(want.shape, _UNLABELLED, np.uint8)
        labels_HW[inside.within(want)] = self._known(inside, found.valid_HW)
        pixels_BHW = replicate(self._rule.apply(found), inside, want)
        return pixels_BHW, labels_HW, replicate(found.valid_HW[None], inside, want)[0]

    def _known(self, window: Window, valid_HW: NDArray[np.bool_]) -> NDArray[np.uint8]:
        places_HW = np.full(window.shape, _UNLABELLED, np.uint8)
        if not self._labels:
            return places_HW
        ids_HW, labelled_HW = self._labels.read(window)
        strange = sorted(set(np.unique(ids_HW[labelled_HW]).tolist()) - set(self._ids))
        if strange:
            raise RecipeError(
                "labels hold what is no class",
                where=describe_window(self._labels.header.raster.url, window),
                expected=f"ids {self._ids}, or 255 for unlabelled",
                got=str(strange[:10]),
                todo="name them under `classes`, or declare them as nodata of the labels",
            )
        for place, class_id in enumerate(self._ids):
            places_HW[labelled_HW & valid_HW & (ids_HW == class_id)] = place
        return places_HW


def _check_dtype(header: SceneHeader, recipe: TrainRecipe) -> None:
    if header.raster.dtype != recipe.dtype and recipe.scale is None:
        raise BundleError(
            "the raster's data type is not the model's",
            where=header.raster.url,
            expected=recipe.dtype,
            got=header.raster.dtype,
            todo=f"set `dtype`, or `scale: [low, high]`, the raw values that stand for {list(recipe.input_range)}",
        )


def _check_gsd(header: SceneHeader, recipe: TrainRecipe) -> None:
    """The bundle would refuse the scene that it learnt from."""
    beyond_m = gsd_beyond(header.grid, recipe.gsd_m)
    if beyond_m is not None:
        low_m, high_m = recipe.gsd_m
        raise RecipeError(
            "the raster's pixels are not of the size that the bundle is to know",
            where=header.raster.url,
            expected=f"{low_m:g} to {high_m:g} m (`gsd_m`)",
            got=f"{beyond_m:.3g} m",
            todo="write `gsd_m: [low, high]` around the pixels of all rasters, "
            f"[{beyond_m / 2:.3g}, {beyond_m * 2:.3g}] for this one",
        )
