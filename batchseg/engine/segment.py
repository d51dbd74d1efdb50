"""One chunk: pixels in, labels out.

Theory of operation
-------------------
A chunk is read once, with the widest halo around it. Its tiles are routed by position alone, so the same tile goes to
the same model whoever computes it. Tiles of one tier are gathered into batches of the fixed shape that the bundle's
numerics name; the last batch is padded with zeros, because a model may round differently at another batch size, and
what a tile gives must not depend on its neighbours (invariant I2). Of each tile's result only the core is kept. Every
pixel of the chunk is owned by exactly one core, so cores are copied side by side and nothing is blended or averaged.

Invalid pixels get the nodata code in every layer, whatever a model said (invariant I8).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import islice
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from batchseg.engine.inputs import InputRule, cut_tile
from batchseg.engine.tiers import NODATA_CODE, Tier, tier_of
from batchseg.scene.pixels import Pixels
from tiling.grid import Tile
from tiling.span import Window


class Segmenter(Protocol):
    """A model on its device, for one fixed shape of input."""

    @property
    def batch(self) -> int: ...

    def __call__(self, x_NBHW: NDArray[Any], /) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Class indexes and confidences (round(254 p)), both N x H x W; the next call may overwrite them."""
        ...


@dataclass(frozen=True, slots=True)
class Model:
    """A tier's model."""

    segmenter: Segmenter
    halo_px: int
    class_ids: NDArray[Any]
    """The id of each of the network's outputs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkWork:
    window: Window
    tiles: list[Tile]
    codes: list[int]
    """A code of the tier layer for each tile: its tier and the reason."""
    pixels: Pixels
    """The chunk with the widest halo around it, as far as the scene reaches."""
    wanted_HW: NDArray[np.bool_]
    """The pixels of the chunk to label: valid ones, and inside the area of interest."""
    scene_shape_px: tuple[int, int]
    rules: dict[Tier, InputRule]
    """How this scene's raw values become each model's input."""


@dataclass(frozen=True, slots=True)
class Prediction:
    window: Window
    labels_HW: NDArray[Any]
    confidence_HW: NDArray[np.uint8]
    tier_HW: NDArray[np.uint8]
    num_tiles: int
    num_tiles_by_tier: dict[Tier, int]
    """Tiles that each tier's model labelled; the others had no pixel to label."""

    def layers(self) -> dict[str, NDArray[Any]]:
        return {"labels": self.labels_HW, "confidence": self.confidence_HW, "tier": self.tier_HW}


Timer = Callable[[Tier], AbstractContextManager[None]]


def segment_chunk(work: ChunkWork, models: dict[Tier, Model], *, nodata: int, timed: Timer) -> Prediction:
    """Label the wanted pixels of a chunk."""
    result = blank(work.window, work.tiles, models, nodata)
    tiles_of: dict[Tier, list[Tile]] = {"bulk": [], "heavy": []}
    for tile, code in zip(work.tiles, work.codes, strict=True):
        owned = tile.owned.within(work.window)
        if work.wanted_HW[owned].any():
            tiles_of[tier_of(code)].append(tile)
            result.tier_HW[owned] = code
    inputs: dict[InputRule, NDArray[Any]] = {}  # two bundles of one family take the same input
    for tier, tiles in tiles_of.items():
        if tiles:
            with timed(tier):
                rule = work.rules[tier]
                if rule not in inputs:
                    inputs[rule] = rule.apply(work.pixels)
                _run_tier(models[tier], inputs[rule], tiles, work, result)
        result.num_tiles_by_tier[tier] = len(tiles)
    unwanted_HW = ~work.wanted_HW
    for layer, code in ((result.labels_HW, nodata), (result.confidence_HW, 255), (result.tier_HW, NODATA_CODE)):
        layer[unwanted_HW] = code
    return result


def blank(window: Window, tiles: list[Tile], models: dict[Tier, Model], nodata: int) -> Prediction:
    """A chunk without a single labelled pixel."""
    dtype = next(iter(models.values())).class_ids.dtype
    return Prediction(
        window,
        np.full(window.shape, nodata, dtype),
        np.full(window.shape, 255, np.uint8),
        np.full(window.shape, NODATA_CODE, np.uint8),
        len(tiles),
        {"bulk": 0, "heavy": 0},
    )


def _run_tier(model: Model, x_BHW: NDArray[Any], tiles: list[Tile], work: ChunkWork, result: Prediction) -> None:
    side_px = len(tiles[0].core.rows) + 2 * model.halo_px
    # One buffer for all batches: fresh memory a batch costs page faults, and the backend binds each new address anew.
    x_NBHW = np.zeros((model.segmenter.batch, x_BHW.shape[0], side_px, side_px), x_BHW.dtype)
    for group in _batches(tiles, model.segmenter.batch):
        x_NBHW[len(group) :] = 0
        for slot, tile in zip(x_NBHW, group, strict=False):
            slot[:] = cut_tile(x_BHW, work.pixels.window, tile, model.halo_px, work.scene_shape_px)
        labels_NHW, confidence_NHW = model.segmenter(x_NBHW)
        for tile, labels_HW, confidence_HW in zip(group, labels_NHW, confidence_NHW, strict=False):
            to = tile.owned.within(result.window)
            of = tile.owned.within(tile.read_window(model.halo_px))
            result.labels_HW[to] = model.class_ids[labels_HW[of]]
            result.confidence_HW[to] = confidence_HW[of]


def _batches(tiles: Iterable[Tile], size: int) -> Iterator[list[Tile]]:
    rest = iter(tiles)
    while group := list(islice(rest, size)):
        yield group
