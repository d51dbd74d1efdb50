"""One chunk: pixels in, labels out.

Theory of operation
-------------------
A chunk is read once, with the widest halo around it. Each of its tiles has a tier code by its place. The bulk model
runs first, and a tile whose outcome is too uncertain is given to the heavy model after all (engine/route.py). The heavy
model's labels replace the bulk model's, gradually at the tile's edges (engine/fade.py); so a tile that is heavy by its
place runs the bulk model too where one of its edges fades. Tiles of one tier are gathered into batches of the fixed
shape that the bundle's numerics name. The last batch is padded with zeros, because a model may round differently at
another batch size, and a tile's result must not depend on its neighbours (invariant I2). Models that compute tile by
tile need no padding. Only the core of each tile's result is kept. Every pixel of the chunk is owned by exactly one
core, so cores are copied side by side and nothing is averaged.

Models answer with class *indexes*, positions in the bundle's class list (`index_HW`). Outputs hold class *ids*, the
codes of the labels layer (`labels_HW`). `Model.map_to_ids` is the one place between the two.

Invalid pixels get the nodata code in every layer, whatever a model answered (invariant I8).

A softmax over at most 255 classes never rounds to a confidence of 0. But scores that are NaN or infinite do, in every
backend. So a confidence of 0 on a wanted pixel means that the model computed no probability, and the chunk fails.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from itertools import groupby, islice
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from batchseg.engine.chunk import ChunkWork, Prediction
from batchseg.engine.inputs import InputRule, make_tile_input
from batchseg.engine.route import NO_SCORE, Doubt, TileAudit, audit_tile
from batchseg.errors import BrokenModelError
from batchseg.layers.confidence import NO_CONFIDENCE
from batchseg.tiers import BULK, NODATA_CODE, Tier, find_tier
from tiling.grid import Tile
from tiling.span import Span, Window


class Segmenter(Protocol):
    """A model on its device, for inputs of one fixed shape."""

    @property
    def batch(self) -> int: ...

    def __call__(self, x_NBHW: NDArray[Any], /) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Return class indexes and confidences (round(254 p)), both N x H x W.

        The result covers the whole tiles, or the tiles without their halo.
        """
        ...


@dataclass(frozen=True, slots=True)
class Model:
    """The model of one tier."""

    segmenter: Segmenter
    halo_px: int
    class_ids: NDArray[Any]
    """Class id of each class index, in the data type of the labels layer."""
    pads: bool = True
    """True if a batch that is not full is padded; else tiles are computed one by one."""

    @property
    def forward_tiles(self) -> int:
        """Number of tiles that are computed, or padded, together."""
        return self.segmenter.batch if self.pads else 1

    def map_to_ids(self, index_HW: NDArray[np.uint8]) -> NDArray[Any]:
        """Map class indexes to class ids."""
        labels_HW: NDArray[Any] = self.class_ids[index_HW]
        return labels_HW


class Timer(Protocol):
    def __call__(self, tier: Tier, /, *, is_audit: bool = False) -> AbstractContextManager[None]:
        """Return a context that is entered while a tier's model runs, for the map or for an audit alone."""
        ...


def segment_chunk(work: ChunkWork, models: dict[Tier, Model], *, nodata: int, timed: Timer) -> Prediction:
    """Label the wanted pixels of a chunk.

    Args:
        work: The chunk.
        models: Model of each tier that the tier codes or the doubt may send a tile to.
        nodata: Code of the labels layer where nothing is labelled.
        timed: Times each model.
    """
    live = [index for index, tile in enumerate(work.tiles) if work.get_wanted(tile).any()]
    if not live:
        return make_blank(work.window, work.tiles, models, nodata)
    chunk = _Chunk.start(work, models, timed, nodata)
    for index in live:
        chunk.tier_codes[index] = work.tier_codes[index]
    audited = {index for index in live if chunk.is_audited(index)}
    by_bulk = [index for index in live if chunk.tier(index) == "bulk" or chunk.fades(index)]
    chunk.run("bulk", by_bulk)
    chunk.run("bulk", sorted(audited.difference(by_bulk)), is_audit=True)
    if work.doubt is not None:
        chunk.judge([index for index in live if chunk.tier_codes[index] == BULK], work.doubt)
    chunk.run("heavy", [index for index in live if chunk.tier(index) == "heavy"])
    chunk.run("heavy", sorted(index for index in audited if chunk.tier(index) == "bulk"), is_audit=True)
    for index in live:
        chunk.finish_tile(index, nodata)
    return chunk.finish(live)


def make_blank(window: Window, tiles: list[Tile], models: dict[Tier, Model], nodata: int) -> Prediction:
    """Make the prediction of a chunk without a labelled pixel. Its layers repeat one row and cannot be written to."""
    return Prediction(
        window=window,
        labels_HW=_repeat(np.full(len(window.cols), nodata, _labels_dtype(models)), window),
        confidence_HW=_repeat(np.full(len(window.cols), NO_CONFIDENCE, np.uint8), window),
        tier_HW=_repeat(np.full(len(window.cols), NODATA_CODE, np.uint8), window),
        tier_codes=(NODATA_CODE,) * len(tiles),
        scores=(NO_SCORE,) * len(tiles),
    )


def _labels_dtype(models: dict[Tier, Model]) -> np.dtype[Any]:
    return next(iter(models.values())).class_ids.dtype


def _repeat(row_W: NDArray[Any], window: Window) -> NDArray[Any]:
    return np.broadcast_to(row_W, window.shape)


def _find_rows(tiles: list[Tile]) -> tuple[Window, ...]:
    """Find a window for each row of tiles, over all that they own from the first tile to the last."""
    windows = []
    for _, in_row in groupby(sorted(tiles, key=lambda tile: (tile.row, tile.col)), lambda tile: tile.row):
        owned = [tile.owned for tile in in_row]
        windows.append(Window(owned[0].rows, Span(owned[0].cols.start, owned[-1].cols.stop)))
    return tuple(windows)


@dataclass(slots=True)
class _Chunk:
    """A prediction in the making. An `index` names a tile by its position in `work.tiles`."""

    work: ChunkWork
    models: dict[Tier, Model]
    timed: Timer
    labels_HW: NDArray[Any]
    confidence_HW: NDArray[np.uint8]
    tier_HW: NDArray[np.uint8]
    tier_codes: list[int]
    scores: list[int]
    audits: list[TileAudit] = field(default_factory=list)

    @classmethod
    def start(cls, work: ChunkWork, models: dict[Tier, Model], timed: Timer, nodata: int) -> _Chunk:
        """Begin with nodata everywhere."""
        return cls(
            work,
            models,
            timed,
            labels_HW=np.full(work.window.shape, nodata, _labels_dtype(models)),
            confidence_HW=np.full(work.window.shape, NO_CONFIDENCE, np.uint8),
            tier_HW=np.full(work.window.shape, NODATA_CODE, np.uint8),
            tier_codes=[NODATA_CODE] * len(work.tiles),
            scores=[NO_SCORE] * len(work.tiles),
        )

    def tier(self, index: int) -> Tier:
        return find_tier(self.tier_codes[index])

    def is_audited(self, index: int) -> bool:
        return bool(self.work.audited) and self.work.audited[index]

    def fades(self, index: int) -> bool:
        """Test if a tile, if it is heavy, is made of the labels of both models."""
        return self.work.fade is not None and self.work.fade.touches(index)

    def run(self, tier: Tier, indexes: list[int], *, is_audit: bool = False) -> None:
        """Run a model on some tiles and keep or compare what it answers."""
        if not indexes:
            return
        with self.timed(tier, is_audit=is_audit):
            model, rule = self.models[tier], self.work.rules[tier]
            side_px = len(self.work.tiles[0].core.rows) + 2 * model.halo_px
            # One buffer serves all batches: fresh memory per batch costs page faults, and the backend binds each new
            # address anew.
            num_bands = len(self.work.pixels.raw_BHW)
            x_NBHW = np.zeros((model.segmenter.batch, num_bands, side_px, side_px), rule.dtype)
            for group in _cut_batches(indexes, model.segmenter.batch):
                self._fill(x_NBHW, rule, group, model.halo_px)
                index_NHW, confidence_NHW = model.segmenter(x_NBHW if model.pads else x_NBHW[: len(group)])
                for index, index_HW, confidence_HW in zip(group, index_NHW, confidence_NHW, strict=False):
                    tile = self.work.tiles[index]
                    halo_left_px = (len(index_HW) - len(tile.core.rows)) // 2
                    owned = tile.owned.within(tile.read_window(halo_left_px))
                    self._check(tier, tile, confidence_HW[owned])
                    self._take(tier, index, model.map_to_ids(index_HW[owned]), confidence_HW[owned])

    def _fill(self, x_NBHW: NDArray[Any], rule: InputRule, group: list[int], halo_px: int) -> None:
        """Convert tile by tile, so that a tile's pixels stay in the cache and no other pixel is converted."""
        x_NBHW[len(group) :] = 0
        for slot, index in zip(x_NBHW, group, strict=False):
            slot[:] = make_tile_input(rule, self.work.pixels, self.work.tiles[index], halo_px, self.work.scene_shape_px)

    def _check(self, tier: Tier, tile: Tile, confidence_HW: NDArray[np.uint8]) -> None:
        """Raise BrokenModelError where the model gave wanted pixels no probability."""
        if confidence_HW.min() > 0:
            return  # the one quick pass that every tile pays for
        num_broken = int((confidence_HW[self.work.get_wanted(tile)] == 0).sum())
        if num_broken:
            raise BrokenModelError(
                f"the {tier} model computed no probability, because its scores are NaN or infinite",
                where=f"tile {tile.row}, {tile.col}",
                expected="a confidence above 0 for each pixel",
                got=f"0 for {num_broken} of {tile.owned.num_px} pixels",
                todo="run `batchseg model check` on the bundle, and tune it for another precision or take another one",
            )

    def _take(self, tier: Tier, index: int, labels_HW: NDArray[Any], confidence_HW: NDArray[np.uint8]) -> None:
        """Keep the routed tier's answer for a tile's core; compare and drop an answer that only an audit asked for."""
        tile, tier_code = self.work.tiles[index], self.tier_codes[index]
        owned = tile.owned.within(self.work.window)
        if tier == "heavy" and self.is_audited(index):
            # The bulk model ran before, so its labels are the current ones.
            wanted_HW = self.work.get_wanted(tile)
            self.audits.append(
                audit_tile(tile.row, tile.col, tier_code, self.labels_HW[owned][wanted_HW], labels_HW[wanted_HW])
            )
        if tier == "bulk" or find_tier(tier_code) == "heavy":
            is_taken_HW: NDArray[np.bool_] | bool = True
            if tier == "heavy" and self.work.fade is not None and self.fades(index):
                is_taken_HW = ~self.work.fade.find_bulk_pixels(index, owned, self.confidence_HW[owned], confidence_HW)
            np.copyto(self.labels_HW[owned], labels_HW, where=is_taken_HW)
            np.copyto(self.confidence_HW[owned], confidence_HW, where=is_taken_HW)

    def judge(self, indexes: list[int], doubt: Doubt) -> None:
        """Score the bulk model's outcome on some tiles, and route each of them by its score."""
        for index in indexes:
            tile = self.work.tiles[index]
            confidence_HW = self.confidence_HW[tile.owned.within(self.work.window)]
            score = doubt.score(confidence_HW[self.work.get_wanted(tile)])
            self.scores[index], self.tier_codes[index] = score, doubt.choose_tier_code(score)

    def finish_tile(self, index: int, nodata: int) -> None:
        """Write a tile's tier code, and clear the pixels that are not wanted, whatever a model answered there."""
        tile = self.work.tiles[index]
        owned = tile.owned.within(self.work.window)
        self.tier_HW[owned] = self.tier_codes[index]
        unwanted_HW = ~self.work.get_wanted(tile)
        if unwanted_HW.any():
            self.labels_HW[owned][unwanted_HW] = nodata
            self.confidence_HW[owned][unwanted_HW] = NO_CONFIDENCE
            self.tier_HW[owned][unwanted_HW] = NODATA_CODE

    def finish(self, live: list[int]) -> Prediction:
        return Prediction(
            window=self.work.window,
            labels_HW=self.labels_HW,
            confidence_HW=self.confidence_HW,
            tier_HW=self.tier_HW,
            tier_codes=tuple(self.tier_codes),
            scores=tuple(self.scores),
            audits=tuple(self.audits),
            labelled=_find_rows([self.work.tiles[index] for index in live]),
        )


def _cut_batches(indexes: Iterable[int], size: int) -> Iterator[list[int]]:
    rest = iter(indexes)
    while batch := list(islice(rest, size)):
        yield batch
