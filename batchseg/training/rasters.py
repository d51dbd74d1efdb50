"""Windows of labelled rasters: bands, scaling, nodata and edges as in a run, through the same functions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from batchseg.engine.inputs import make_input_rule
from batchseg.errors import RecipeError
from batchseg.recipe import NO_TRUST, NodataPolicy
from batchseg.scene.area import measure_gsd_m
from batchseg.scene.bands import BandWanted, choose_bands
from batchseg.scene.header import SceneHeader, read_header
from batchseg.scene.pixels import describe_window
from batchseg.scene.raster_labels import LabelSource, read_labels_header
from batchseg.scene.requirements import check_dtype, check_pixel_size
from batchseg.scene.source import open_source
from batchseg.training.train_recipe import GroundSpec, LabelledRaster, TrainRecipe
from tiling.pad import replicate
from tiling.span import Window

UNLABELLED = 255
"""The class index of a pixel without a label."""
_AUTO = NodataPolicy(from_="auto")


@dataclass(frozen=True, slots=True)
class LabelledWindows:
    pixels_WBHW: NDArray[Any]
    labels_WHW: NDArray[np.uint8]
    """Class indexes, or UNLABELLED."""
    valid_WHW: NDArray[np.bool_]
    inside_W2: NDArray[np.int64]
    """Rows and columns of each window that lie within its raster."""


class _LabelledWindow(NamedTuple):
    pixels_BHW: NDArray[Any]
    labels_HW: NDArray[np.uint8]
    valid_HW: NDArray[np.bool_]


def read_windows(spec: GroundSpec, recipe: TrainRecipe, random: np.random.Generator) -> LabelledWindows:
    """Read the windows of all rasters, or as many as the spec says, drawn at random.

    All headers are checked before the first pixel is read.
    """
    readers = [_WindowReader(raster, recipe) for raster in spec.rasters]
    places = [
        (reader, window) for reader in readers for window in _cut_windows(reader.header.grid.shape_px, spec.window_px)
    ]
    if spec.windows is not None and spec.windows < len(places):
        drawn = np.sort(random.choice(len(places), spec.windows, replace=False))
        places = [places[number] for number in drawn]
    pixels, labels, valid = zip(*(reader.read(window) for reader, window in places), strict=True)
    inside = [window.clip(reader.header.grid.shape_px).shape for reader, window in places]
    return LabelledWindows(np.stack(pixels), np.stack(labels), np.stack(valid), np.asarray(inside))


def check_rasters(recipe: TrainRecipe) -> None:
    """Check the headers of all rasters of all grounds, before the first pixel of any is read."""
    for spec in recipe.grounds:
        for raster in spec.rasters:
            _WindowReader(raster, recipe)


def _cut_windows(shape_px: tuple[int, int], side_px: int) -> Iterator[Window]:
    """Windows side by side; the last ones of a row or column reach beyond the raster."""
    for row in range(0, shape_px[0], side_px):
        for col in range(0, shape_px[1], side_px):
            yield Window.of(row, row + side_px, col, col + side_px)


class _WindowReader:
    """Reads windows of one raster together with its labels."""

    def __init__(self, raster: LabelledRaster, recipe: TrainRecipe) -> None:
        self.header = read_header(raster.image, recipe.trust or NO_TRUST)
        self.grid = self.header.grid
        _check_dtype(self.header, recipe)
        _check_gsd(self.header, recipe)
        wanted = tuple(BandWanted(name=name, common=name) for name in recipe.bands)
        bands = choose_bands(self.header.raster, wanted, recipe.take)
        self._source = open_source(self.header.raster, bands, _AUTO)
        self._labels = raster.labels and LabelSource(
            read_labels_header(raster.labels, self.header.grid, self.header.raster.url, recipe.trust or NO_TRUST)
        )
        self._rule = make_input_rule(
            self.header.raster.dtype,
            model_dtype=recipe.dtype,
            model_range=recipe.input_range,
            scale=recipe.scale,
            fill=(0.0,) * len(wanted),  # replaced by the mean, once it is known
        )
        self._ids = [c.id for c in recipe.class_list]

    def read(self, window: Window) -> _LabelledWindow:
        """Read a window. Beyond the raster the edge is repeated, as in a run, and nothing is labelled."""
        inside = window.clip(self.header.grid.shape_px)
        pixels = self._source.read(inside)
        labels_HW = np.full(window.shape, UNLABELLED, np.uint8)
        labels_HW[inside.within(window)] = self._read_labels(inside, pixels.valid_HW)
        pixels_BHW = replicate(self._rule.apply(pixels), inside, window)
        return _LabelledWindow(pixels_BHW, labels_HW, replicate(pixels.valid_HW[None], inside, window)[0])

    def _read_labels(self, window: Window, valid_HW: NDArray[np.bool_]) -> NDArray[np.uint8]:
        """Class indexes where the window is valid and labelled."""
        index_HW = np.full(window.shape, UNLABELLED, np.uint8)
        if not self._labels:
            return index_HW
        ids_HW, labelled_HW = self._labels.read(window)
        unknown = sorted(set(np.unique(ids_HW[labelled_HW]).tolist()) - set(self._ids))
        if unknown:
            raise RecipeError(
                "labels must be ids of `classes`",
                where=describe_window(self._labels.header.raster.url, window),
                expected=f"ids {self._ids}, or 255 for unlabelled",
                got=str(unknown[:10]),
                todo="add them to `classes`, or declare them as nodata of the labels",
            )
        for index, class_id in enumerate(self._ids):
            index_HW[labelled_HW & valid_HW & (ids_HW == class_id)] = index
        return index_HW


def _check_dtype(header: SceneHeader, recipe: TrainRecipe) -> None:
    if recipe.scale is None:
        check_dtype(
            header.raster.dtype,
            recipe.dtype,
            url=header.raster.url,
            required_by="`dtype`",
            todo=f"set `dtype`, or `scale: [low, high]`, the raw values that stand for {list(recipe.input_range)}",
        )


def _check_gsd(header: SceneHeader, recipe: TrainRecipe) -> None:
    """Refuse a raster that the bundle itself would refuse in a run."""
    pixel_m = measure_gsd_m(header.grid) or 0.0  # without a place on the Earth there is nothing to check
    check_pixel_size(
        header.grid,
        recipe.gsd_m,
        url=header.raster.url,
        required_by="`gsd_m`",
        todo="write `gsd_m: [low, high]` around the pixels of all rasters, "
        f"[{pixel_m / 2:.3g}, {pixel_m * 2:.3g}] for this one",
    )
