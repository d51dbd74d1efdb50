"""Tiles of a real scene, with their reference if there is one: bundles are tuned, calibrated and judged on them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batchseg.engine.inputs import InputRule, cut_tile
from batchseg.errors import InputError, SceneError
from batchseg.model.bundle import Bundle
from batchseg.model.fit import check_fit, find_input_rule
from batchseg.recipe import LabelPolygons
from batchseg.recipe.recipe import Leave, Models, Recipe
from batchseg.redact import make_public_url
from batchseg.scene.bands import choose_bands
from batchseg.scene.header import read_header
from batchseg.scene.nodata import check_policy
from batchseg.scene.pixels import Source
from batchseg.scene.polygon_labels import PolygonLabels
from batchseg.scene.polygons import find_touched_tiles
from batchseg.scene.source import open_source
from batchseg.score.agreement import ReferenceLabels, index_classes
from batchseg.score.reference import open_reference, open_reference_labels
from tiling.grid import Grid, Tile, tiles_of
from tiling.span import Window


@dataclass(frozen=True, slots=True)
class Sample:
    """A tile as the bundle gets it in a run. Its core is judged."""

    tile: Tile
    x_BHW: NDArray[Any]
    judged_HW: NDArray[np.bool_]
    """Mask of the core: valid pixels that the tile owns."""
    reference_HW: NDArray[np.uint8] | None
    """Class indexes of the core; the number of classes means that a pixel has no label."""
    unknown_px: int = 0
    """Labelled pixels whose code is not the id of any class."""


@dataclass(frozen=True, slots=True)
class Samples:
    """Several samples as one batch."""

    x_NBHW: NDArray[Any]
    judged_NHW: NDArray[np.bool_]
    reference_NHW: NDArray[np.uint8] | None


def make_raster_recipe(
    ref: str,
    raster: str,
    *,
    labels: str | LabelPolygons | None = None,
    bands: Sequence[int | str] | None = None,
    scale: tuple[float, float] | None = None,
    accept: Sequence[Leave] = (),
) -> Recipe:
    """A recipe that says how one raster is read for a bundle. No run is made of it."""
    return Recipe(
        scenes=(raster,),
        output="nothing is written",
        models=Models(bulk=ref),
        labels=() if labels is None else (labels,),
        bands=None if bands is None else tuple(bands),
        scale=scale,
        accept=tuple(accept),
    )


def check_num_tiles(tiles: int, *, least: int) -> None:
    if tiles < least:
        raise InputError(f"the number of tiles must be {least} or more", where="tiles", got=str(tiles))


def sample_tiles(bundle: Bundle, recipe: Recipe, count: int) -> Samples:
    """Read up to `count` tiles, spread evenly over the recipe's first scene, and scale them as a run does."""
    samples = list(Sampling.of(bundle, recipe).read(count))
    if not samples:
        raise SceneError("no tile of this scene has data", where=recipe.scenes[0], todo="give another scene")
    references = [sample.reference_HW for sample in samples if sample.reference_HW is not None]
    return Samples(
        np.stack([sample.x_BHW for sample in samples]),
        np.stack([sample.judged_HW for sample in samples]),
        np.stack(references) if references else None,
    )


@dataclass(frozen=True, slots=True)
class Sampling:
    """The tiles of a scene for a bundle, and how they are read."""

    bundle: Bundle
    source: Source
    rule: InputRule
    labels: ReferenceLabels | None
    shape_px: tuple[int, int]

    @staticmethod
    def of(bundle: Bundle, recipe: Recipe) -> Sampling:
        header = read_header(recipe.scenes[0], recipe.trust)
        raster = header.raster
        bands = choose_bands(raster, bundle.contract.bands, recipe.bands)
        check_policy(raster, recipe.nodata, bands)
        check_fit(recipe, header, bundle)
        labels = None
        if recipe.labels and recipe.labels[0] is not None:
            reference = open_reference(recipe.labels[0], header.grid, raster.url, bundle.contract.classes, recipe.trust)
            labels = open_reference_labels(reference)
        return Sampling(
            bundle=bundle,
            source=open_source(raster, bands, recipe.nodata),
            rule=find_input_rule(recipe, header, bundle),
            labels=labels,
            shape_px=header.grid.shape_px,
        )

    @property
    def core_px(self) -> int:
        return self.bundle.contract.default_tile_px - 2 * self.bundle.contract.halo_px

    def tiles(self) -> list[Tile]:
        return tiles_of(Grid(self.shape_px, self.core_px), Window.of(0, self.shape_px[0], 0, self.shape_px[1]))

    def find_labelled_tiles(self, show: Callable[[int, int], None]) -> list[Tile]:
        """The tiles in which the reference has a label."""
        tiles, labelled = self._list_tiles_near_labels(), []
        for done, tile in enumerate(tiles, start=1):
            if self.labels is not None and self.labels.read(tile.owned)[1].any():
                labelled.append(tile)
            show(done, len(tiles))
        return labelled

    def _list_tiles_near_labels(self) -> list[Tile]:
        """Polygons and points say where they are; a raster has to be read everywhere."""
        if not isinstance(self.labels, PolygonLabels) or self.labels.outside is not None:
            return self.tiles()
        touched = find_touched_tiles([drawn for _, drawn in self.labels.classes], Grid(self.shape_px, self.core_px))
        return [tile for tile in self.tiles() if (tile.row, tile.col) in touched]

    def read(self, count: int) -> Iterator[Sample]:
        """Read up to `count` tiles, spread evenly over the scene; tiles without data are left out."""
        return self.read_tiles(select_evenly(self.tiles(), count))

    def read_tiles(self, tiles: Iterable[Tile]) -> Iterator[Sample]:
        halo_px = self.bundle.contract.halo_px
        for tile in tiles:
            pixels = self.source.read(tile.read_window(halo_px).clip(self.shape_px))
            owned = tile.owned.within(tile.core)
            judged_HW = np.zeros(tile.core.shape, bool)
            judged_HW[owned] = pixels.valid_HW[tile.owned.within(pixels.window)]
            if judged_HW.any():
                x_BHW = cut_tile(self.rule.apply(pixels), pixels.window, tile, halo_px, self.shape_px)
                yield Sample(tile, x_BHW, judged_HW, *self._read_reference(tile))

    def _read_reference(self, tile: Tile) -> tuple[NDArray[np.uint8] | None, int]:
        """Class indexes of the core, and the number of labelled pixels with an unknown code."""
        if self.labels is None:
            return None, 0
        ids = tuple(c.id for c in self.bundle.contract.classes)
        raw_HW, labelled_HW = self.labels.read(tile.owned)
        index_HW = np.where(labelled_HW, index_classes(raw_HW, ids, 65535), len(ids))
        reference_HW = np.full(tile.core.shape, len(ids), np.uint8)
        reference_HW[tile.owned.within(tile.core)] = index_HW
        return reference_HW, int((labelled_HW & (index_HW == len(ids))).sum())


def select_evenly(tiles: list[Tile], count: int) -> list[Tile]:
    """Up to `count` tiles, spread evenly over the list; always the same ones."""
    if len(tiles) <= count:
        return tiles
    return [tiles[i] for i in np.linspace(0, len(tiles) - 1, count).round().astype(int)]


def make_scene_name(url: str) -> str:
    """A scene's name for the item and the card of a bundle. They are given away, so a URL's signature is left out."""
    return Path(make_public_url(url)).name
