"""Tiles of a real scene, with their reference where there is one: what a bundle is tuned, calibrated and judged on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batchseg.engine.inputs import cut_tile
from batchseg.errors import SceneError
from batchseg.job.accuracy import Labels, class_index
from batchseg.job.fit import check_fit, input_rule
from batchseg.job.reference import open_reference, source_of
from batchseg.model.bundle import Bundle
from batchseg.model.trial import usual_tile_px
from batchseg.recipe.recipe import Recipe
from batchseg.scene.bands import choose_bands
from batchseg.scene.header import read_header
from batchseg.scene.nodata import NodataPolicy, check_policy
from batchseg.scene.source import RasterSource
from tiling.grid import Grid, Tile, tiles_of
from tiling.span import Window


@dataclass(frozen=True, slots=True)
class Samples:
    """Tiles as the bundle gets them in a run; what is judged of each is its core."""

    x_NBHW: NDArray[Any]
    judged_NHW: NDArray[np.bool_]
    """Of the cores: valid pixels that the tile owns."""
    reference_NHW: NDArray[np.uint8] | None
    """Class indexes; the number of classes where nothing is labelled."""


def sample_tiles(bundle: Bundle, recipe: Recipe, count: int) -> Samples:
    """`count` tiles spread evenly over the recipe's first scene, read and scaled as a run would."""
    header = read_header(recipe.scenes[0])
    bands = choose_bands(header, bundle.contract.bands, recipe.bands)
    policy = NodataPolicy(from_=recipe.nodata.from_, value=recipe.nodata.value, rule=recipe.nodata.rule)
    check_policy(header, policy, bands)
    check_fit(recipe, header, bundle)
    source, rule = RasterSource(header, bands, policy), input_rule(recipe, header, bundle)
    given, contract = recipe.labels[0] if recipe.labels else None, bundle.contract
    labels = None if given is None else source_of(open_reference(given, header.georef, header.url, contract.classes))
    shape_px, halo_px = (header.georef.height_px, header.georef.width_px), bundle.contract.halo_px
    core_px = usual_tile_px(bundle.contract) - 2 * halo_px
    inputs, judged, references = [], [], []
    for tile in _spread(tiles_of(Grid(shape_px, core_px), Window.of(0, shape_px[0], 0, shape_px[1])), count):
        want = tile.read_window(halo_px)
        pixels = source.read(want.clip(shape_px))
        owned = tile.owned.within(tile.core)
        judged_HW = np.zeros(tile.core.shape, bool)
        judged_HW[owned] = pixels.valid_HW[tile.owned.within(pixels.window)]
        if not judged_HW.any():
            continue
        inputs.append(cut_tile(rule.apply(pixels), pixels.window, tile, halo_px, shape_px))
        judged.append(judged_HW)
        if labels is not None:
            references.append(_reference(bundle, labels, tile))
    if not inputs:
        raise SceneError("no tile of this scene has data", where=header.url, todo="give another scene")
    return Samples(np.stack(inputs), np.stack(judged), np.stack(references) if references else None)


def _reference(bundle: Bundle, labels: Labels, tile: Tile) -> NDArray[np.uint8]:
    ids = tuple(c.id for c in bundle.contract.classes)
    raw_HW, labelled_HW = labels.read(tile.owned)
    reference_HW = np.full(tile.core.shape, len(ids), np.uint8)
    reference_HW[tile.owned.within(tile.core)] = np.where(labelled_HW, class_index(raw_HW, ids, 65535), len(ids))
    return reference_HW


def _spread(tiles: list[Tile], count: int) -> list[Tile]:
    """Evenly, and always the same."""
    if len(tiles) <= count:
        return tiles
    return [tiles[i] for i in np.linspace(0, len(tiles) - 1, count).round().astype(int)]
