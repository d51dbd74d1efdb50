"""Tiles of a real scene, with their reference where there is one: what a bundle is tuned, calibrated and judged on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batchseg.adapt.trial import usual_tile_px
from batchseg.engine.inputs import InputRule, cut_tile
from batchseg.errors import SceneError
from batchseg.model.bundle import Bundle
from batchseg.model.fit import check_fit, find_input_rule
from batchseg.recipe.recipe import Recipe
from batchseg.scene.bands import choose_bands
from batchseg.scene.header import read_header
from batchseg.scene.labelpolygons import PolygonLabels
from batchseg.scene.nodata import check_policy
from batchseg.scene.pixels import Source
from batchseg.scene.polygons import touched_tiles
from batchseg.scene.source import open_source
from batchseg.score.agreement import ReferenceLabels, index_classes
from batchseg.score.reference import open_reference, open_reference_labels
from tiling.grid import Grid, Tile, tiles_of
from tiling.span import Window


@dataclass(frozen=True, slots=True)
class Sample:
    """A tile as the bundle gets it in a run; what is judged of it is its core."""

    tile: Tile
    x_BHW: NDArray[Any]
    judged_HW: NDArray[np.bool_]
    """Of the core: valid pixels that the tile owns."""
    reference_HW: NDArray[np.uint8] | None
    """Class indexes; the number of classes where nothing is labelled."""
    unknown_px: int = 0
    """Of the reference: with a code that is no class."""


@dataclass(frozen=True, slots=True)
class Samples:
    """Several of them at once."""

    x_NBHW: NDArray[Any]
    judged_NHW: NDArray[np.bool_]
    reference_NHW: NDArray[np.uint8] | None


def sample_tiles(bundle: Bundle, recipe: Recipe, count: int) -> Samples:
    """`count` tiles spread evenly over the recipe's first scene, read and scaled as a run would."""
    found = list(Sampling.of(bundle, recipe).read(count))
    if not found:
        raise SceneError("no tile of this scene has data", where=recipe.scenes[0], todo="give another scene")
    references = [one.reference_HW for one in found if one.reference_HW is not None]
    return Samples(
        np.stack([one.x_BHW for one in found]),
        np.stack([one.judged_HW for one in found]),
        np.stack(references) if references else None,
    )


@dataclass(frozen=True, slots=True)
class Sampling:
    """Where tiles of a scene are read, and how."""

    bundle: Bundle
    source: Source
    rule: InputRule
    labels: ReferenceLabels | None
    shape_px: tuple[int, int]

    @staticmethod
    def of(bundle: Bundle, recipe: Recipe) -> Sampling:
        header = read_header(recipe.scenes[0])
        bands = choose_bands(header.raster, bundle.contract.bands, recipe.bands)
        check_policy(header.raster, recipe.nodata, bands)
        check_fit(recipe, header, bundle)
        given, contract = recipe.labels[0] if recipe.labels else None, bundle.contract
        labels = (
            None
            if given is None
            else open_reference_labels(open_reference(given, header.grid, header.raster.url, contract.classes))
        )
        shape_px = header.grid.shape_px
        return Sampling(
            bundle,
            open_source(header.raster, bands, recipe.nodata),
            find_input_rule(recipe, header, bundle),
            labels,
            shape_px,
        )

    @property
    def core_px(self) -> int:
        return usual_tile_px(self.bundle.contract) - 2 * self.bundle.contract.halo_px

    def tiles(self) -> list[Tile]:
        return tiles_of(Grid(self.shape_px, self.core_px), Window.of(0, self.shape_px[0], 0, self.shape_px[1]))

    def labelled_tiles(self, told: Callable[[int, int], None]) -> list[Tile]:
        """Those of which the reference says anything."""
        tiles, found = self._near_labels(), []
        for done, tile in enumerate(tiles, start=1):
            if self.labels is not None and self.labels.read(tile.owned)[1].any():
                found.append(tile)
            told(done, len(tiles))
        return found

    def _near_labels(self) -> list[Tile]:
        """What is drawn tells at once where it is; a raster has to be looked at."""
        if not isinstance(self.labels, PolygonLabels) or self.labels.outside is not None:
            return self.tiles()
        touched = touched_tiles([drawn for _, drawn in self.labels.classes], Grid(self.shape_px, self.core_px))
        return [tile for tile in self.tiles() if (tile.row, tile.col) in touched]

    def read(self, count: int) -> Iterator[Sample]:
        """Of so many tiles, spread evenly, those that have data."""
        return self.read_tiles(spread_evenly(self.tiles(), count))

    def read_tiles(self, tiles: Iterable[Tile]) -> Iterator[Sample]:
        halo_px = self.bundle.contract.halo_px
        for tile in tiles:
            pixels = self.source.read(tile.read_window(halo_px).clip(self.shape_px))
            owned = tile.owned.within(tile.core)
            judged_HW = np.zeros(tile.core.shape, bool)
            judged_HW[owned] = pixels.valid_HW[tile.owned.within(pixels.window)]
            if judged_HW.any():
                x_BHW = cut_tile(self.rule.apply(pixels), pixels.window, tile, halo_px, self.shape_px)
                yield Sample(tile, x_BHW, judged_HW, *self._reference(tile))

    def _reference(self, tile: Tile) -> tuple[NDArray[np.uint8] | None, int]:
        """Class indexes, and how many labelled pixels hold another code."""
        if self.labels is None:
            return None, 0
        ids = tuple(c.id for c in self.bundle.contract.classes)
        raw_HW, labelled_HW = self.labels.read(tile.owned)
        index_HW = np.where(labelled_HW, index_classes(raw_HW, ids, 65535), len(ids))
        reference_HW = np.full(tile.core.shape, len(ids), np.uint8)
        reference_HW[tile.owned.within(tile.core)] = index_HW
        return reference_HW, int((labelled_HW & (index_HW == len(ids))).sum())


def spread_evenly(tiles: list[Tile], count: int) -> list[Tile]:
    """Always the same."""
    if len(tiles) <= count:
        return tiles
    return [tiles[i] for i in np.linspace(0, len(tiles) - 1, count).round().astype(int)]
