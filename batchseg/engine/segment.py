"""One chunk: pixels in, labels out.

Theory of operation
-------------------
A chunk is read once, with the widest halo around it. Each of its tiles has a code by its place; the bulk model runs
first, and a tile whose outcome is too uncertain is given to the heavy model after all (engine/route.py), whose labels
take the place of the bulk's, gradually at the tile's edges (engine/fade.py); tiles that are heavy by their place run
the bulk model too where such an edge is theirs. Tiles of one tier are gathered into batches of the fixed shape that
the bundle's numerics name; the last batch is padded with zeros, because a model may round differently at another batch
size, and what a tile gives must not depend on its neighbours (invariant I2); models that compute tile by tile need no
padding. Of each tile's result only the core is kept. Every pixel of the chunk is owned by exactly one core, so cores
are copied side by side and nothing is averaged.

Invalid pixels get the nodata code in every layer, whatever a model said (invariant I8).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from itertools import groupby, islice
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from batchseg.engine.fade import Fade
from batchseg.engine.inputs import InputRule, tile_input
from batchseg.engine.route import NO_SCORE, Doubt, TileAudit, compared
from batchseg.scene.pixels import Pixels
from batchseg.tiers import BULK, NODATA_CODE, Tier, tier_of
from tiling.grid import Tile
from tiling.span import Span, Window


class Segmenter(Protocol):
    """A model on its device, for one fixed shape of input."""

    @property
    def batch(self) -> int: ...

    def __call__(self, x_NBHW: NDArray[Any], /) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Class indexes and confidences (round(254 p)), both N x H x W: of whole tiles, or of all but their halo."""
        ...


@dataclass(frozen=True, slots=True)
class Model:
    """A tier's model."""

    segmenter: Segmenter
    halo_px: int
    class_ids: NDArray[Any]
    """The id of each of the network's outputs."""
    pads: bool = True
    """A batch that is not full is filled up. Else tiles are computed one by one; what is not there costs nothing."""

    @property
    def forward_tiles(self) -> int:
        """How many tiles are computed, or padded, together."""
        return self.segmenter.batch if self.pads else 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkWork:
    window: Window
    tiles: list[Tile]
    codes: list[int]
    """A code of the tier layer for each tile by its place: its tier and the reason."""
    pixels: Pixels
    """The chunk with the widest halo around it, as far as the scene reaches."""
    wanted_HW: NDArray[np.bool_]
    """The pixels of the chunk to label: valid ones, and inside the area of interest."""
    scene_shape_px: tuple[int, int]
    rules: dict[Tier, InputRule]
    """How this scene's raw values become each model's input."""
    doubt: Doubt | None = None
    """When a bulk tile goes to the heavy model after all."""
    audited: tuple[bool, ...] = ()
    """Tiles that both tiers run on, if any."""
    fade: Fade | None = None
    """How heavy tiles end where bulk ones begin; None: in a hard edge."""

    def wanted(self, tile: Tile) -> NDArray[np.bool_]:
        """Of the pixels that a tile owns, those to label."""
        return self.wanted_HW[tile.owned.within(self.window)]


@dataclass(frozen=True, slots=True)
class Prediction:
    window: Window
    labels_HW: NDArray[Any]
    confidence_HW: NDArray[np.uint8]
    tier_HW: NDArray[np.uint8]
    num_tiles: int
    num_tiles_by_tier: dict[Tier, int]
    """Tiles that each tier's model labelled; the others had no pixel to label."""
    codes: list[int]
    """How each tile was routed at last; nodata where it had no pixel to label."""
    scores: list[int]
    audits: list[TileAudit]
    labelled: tuple[Window, ...]
    """Rows of tiles, each from the first to the last with a pixel to label: outside of them all is nodata."""


class Timer(Protocol):
    def __call__(self, tier: Tier, /, *, is_audit: bool = False) -> AbstractContextManager[None]:
        """Entered while a tier's model runs, for the map or for an audit of it alone."""
        ...


def segment_chunk(work: ChunkWork, models: dict[Tier, Model], *, nodata: int, timed: Timer) -> Prediction:
    """Label the wanted pixels of a chunk."""
    live = [index for index, tile in enumerate(work.tiles) if work.wanted(tile).any()]
    result = blank(work.window, work.tiles, models, nodata)
    if not live:
        return result
    result = replace(
        result,
        labels_HW=result.labels_HW.copy(),
        confidence_HW=result.confidence_HW.copy(),
        tier_HW=result.tier_HW.copy(),
        labelled=_rows_of([work.tiles[index] for index in live]),
    )
    chunk = _Chunk(work, models, timed, result)
    for index in live:
        result.codes[index] = work.codes[index]
    audited = {index for index in live if work.audited and work.audited[index]}
    by_bulk = [index for index in live if tier_of(result.codes[index]) == "bulk" or chunk.fades(index)]
    chunk.run("bulk", by_bulk)
    chunk.run("bulk", sorted(audited.difference(by_bulk)), is_audit=True)
    if work.doubt is not None:
        chunk.judge([index for index in live if result.codes[index] == BULK], work.doubt)
    chunk.run("heavy", [index for index in live if tier_of(result.codes[index]) == "heavy"])
    chunk.run("heavy", sorted(index for index in audited if tier_of(result.codes[index]) == "bulk"), is_audit=True)
    for index in live:
        result.num_tiles_by_tier[tier_of(result.codes[index])] += 1
        result.tier_HW[work.tiles[index].owned.within(work.window)] = result.codes[index]
        chunk.clear(index, nodata)
    return result


def blank(window: Window, tiles: list[Tile], models: dict[Tier, Model], nodata: int) -> Prediction:
    """A chunk without a single labelled pixel. Its layers are one row each, repeated, and cannot be written to."""
    dtype = next(iter(models.values())).class_ids.dtype
    return Prediction(
        window,
        _repeated(np.full(len(window.cols), nodata, dtype), window),
        _repeated(np.full(len(window.cols), 255, np.uint8), window),
        _repeated(np.full(len(window.cols), NODATA_CODE, np.uint8), window),
        len(tiles),
        {"bulk": 0, "heavy": 0},
        [NODATA_CODE] * len(tiles),
        [NO_SCORE] * len(tiles),
        [],
        (),
    )


def _repeated(row_W: NDArray[Any], window: Window) -> NDArray[Any]:
    return np.broadcast_to(row_W, window.shape)


def _rows_of(tiles: list[Tile]) -> tuple[Window, ...]:
    """What tiles own: a window for each row of them, from the first to the last."""
    windows = []
    for _, in_row in groupby(sorted(tiles, key=lambda tile: (tile.row, tile.col)), lambda tile: tile.row):
        owned = [tile.owned for tile in in_row]
        windows.append(Window(owned[0].rows, Span(owned[0].cols.start, owned[-1].cols.stop)))
    return tuple(windows)


@dataclass(slots=True)
class _Chunk:
    """One chunk under way. Tiles are meant by their index in `work.tiles`."""

    work: ChunkWork
    models: dict[Tier, Model]
    timed: Timer
    result: Prediction

    def run(self, tier: Tier, indexes: list[int], *, is_audit: bool = False) -> None:
        if not indexes:
            return
        with self.timed(tier, is_audit=is_audit):
            model, rule = self.models[tier], self.work.rules[tier]
            side_px = len(self.work.tiles[0].core.rows) + 2 * model.halo_px
            # One buffer for all batches: fresh memory a batch costs page faults, and the backend binds each new
            # address anew.
            num_bands = len(self.work.pixels.raw_BHW)
            x_NBHW = np.zeros((model.segmenter.batch, num_bands, side_px, side_px), rule.dtype)
            for group in _batches(indexes, model.segmenter.batch):
                self._fill(x_NBHW, rule, group, model.halo_px)
                labels_NHW, confidence_NHW = model.segmenter(x_NBHW if model.pads else x_NBHW[: len(group)])
                for index, labels_HW, confidence_HW in zip(group, labels_NHW, confidence_NHW, strict=False):
                    tile = self.work.tiles[index]
                    halo_left_px = (len(labels_HW) - len(tile.core.rows)) // 2
                    of = tile.owned.within(tile.read_window(halo_left_px))
                    self._take(tier, index, model.class_ids[labels_HW[of]], confidence_HW[of])

    def _fill(self, x_NBHW: NDArray[Any], rule: InputRule, group: list[int], halo_px: int) -> None:
        """Tile by tile: what a tile does not read is never converted, and what it reads stays in the cache."""
        x_NBHW[len(group) :] = 0
        for slot, index in zip(x_NBHW, group, strict=False):
            slot[:] = tile_input(rule, self.work.pixels, self.work.tiles[index], halo_px, self.work.scene_shape_px)

    def _take(self, tier: Tier, index: int, labels_HW: NDArray[Any], confidence_HW: NDArray[np.uint8]) -> None:
        """What the routed tier says of a tile's core is its result; what an audit adds is compared and dropped."""
        tile, code, result = self.work.tiles[index], self.result.codes[index], self.result
        to = tile.owned.within(result.window)
        if tier == "heavy" and self.work.audited and self.work.audited[index]:
            wanted_HW = self.work.wanted(tile)  # the bulk model ran before, so its labels stand in the result so far
            audit = compared(tile.row, tile.col, code, result.labels_HW[to][wanted_HW], labels_HW[wanted_HW])
            result.audits.append(audit)
        if tier == "bulk" or tier_of(code) == "heavy":
            takes_HW: NDArray[np.bool_] | bool = True
            if tier == "heavy" and self.work.fade is not None and self.fades(index):
                takes_HW = ~self.work.fade.bulk_stays(index, to, result.confidence_HW[to], confidence_HW)
            np.copyto(result.labels_HW[to], labels_HW, where=takes_HW)
            np.copyto(result.confidence_HW[to], confidence_HW, where=takes_HW)

    def fades(self, index: int) -> bool:
        """Whether the labels of both models make a tile, if it is heavy."""
        return self.work.fade is not None and self.work.fade.touches(index)

    def judge(self, indexes: list[int], doubt: Doubt) -> None:
        for index in indexes:
            tile = self.work.tiles[index]
            confidence_HW = self.result.confidence_HW[tile.owned.within(self.work.window)]
            score = doubt.score(confidence_HW[self.work.wanted(tile)])
            self.result.scores[index], self.result.codes[index] = score, doubt.code(score)

    def clear(self, index: int, nodata: int) -> None:
        """Whatever a model said of a tile's unwanted pixels."""
        tile, result = self.work.tiles[index], self.result
        unwanted_HW, of = ~self.work.wanted(tile), tile.owned.within(result.window)
        if unwanted_HW.any():
            for layer, code in ((result.labels_HW, nodata), (result.confidence_HW, 255), (result.tier_HW, NODATA_CODE)):
                layer[of][unwanted_HW] = code


def _batches(indexes: Iterable[int], size: int) -> Iterator[list[int]]:
    rest = iter(indexes)
    while group := list(islice(rest, size)):
        yield group
