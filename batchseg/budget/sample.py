"""The pilot: a sample of tiles, before a run, so that a budget becomes a threshold.

Theory of operation
-------------------
The sample is the valid tiles whose hashes are smallest: the same ones whenever, wherever and however often a pilot is
run, and spread over all scenes. Each is computed by the engine itself, as a chunk of one tile, so it gets the score
that the run will give it. The threshold is a quantile of these scores, an integer; a share of heavy tiles needs no
clock at all. A budget in dollars also rehearses some chunks against the clock (`rehearsal.py`), solves for the share
(`forecast.py`), and goes on from there. Where a run has begun, its threshold is read from what it wrote down: a resume
runs no pilot, and may not.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batchseg.engine.route import NEVER, NO_SCORE, tile_hash
from batchseg.engine.segment import ChunkWork, Model, Prediction, segment_chunk
from batchseg.errors import RecipeError
from batchseg.resolve.job import Job, SceneJob
from batchseg.resolve.routing import is_heavy_alone, make_fade
from batchseg.scene.pixels import Pixels
from batchseg.tiers import BULK, HEAVY_BY_UNCERTAINTY, Tier
from batchseg.workers.measure import score
from tiling.grid import Tile, tiles_of
from tiling.span import Window

READS_A_TILE = 8
"""Tiles looked at for each valid one that is wanted, before a pilot makes do with what it has."""
TIERS: tuple[Tier, Tier] = ("bulk", "heavy")


@dataclass(frozen=True, slots=True, kw_only=True)
class PilotTile:
    """One valid tile of the sample."""

    scene: str
    row: int
    col: int
    is_priority: bool
    """Heavy by its place, whatever the bulk model says."""
    runs_bulk: bool
    """The bulk model sees it in a run."""
    num_px: int
    score: int
    """The bulk model's doubt; NO_SCORE where it was not run."""
    agreeing_px: dict[Tier, int] = field(default_factory=dict)
    """Pixels with the heavy model's label, by the tier that the tile is sent to, where both were run."""
    confusion: dict[Tier, NDArray[np.int64]] = field(default_factory=dict)
    """The same way, where there is a reference too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pilot:
    tiles: tuple[PilotTile, ...]
    num_looked_at: int
    looked_at_px: int
    """That these tiles own, valid or not."""

    @property
    def valid_share(self) -> float:
        return len(self.tiles) / self.num_looked_at

    @property
    def valid_px_share(self) -> float:
        return sum(tile.num_px for tile in self.tiles) / self.looked_at_px

    @property
    def bulk_share(self) -> float:
        """Tiles that the bulk model sees, also those that only fade into what it says."""
        return sum(tile.runs_bulk for tile in self.tiles) / len(self.tiles)

    @property
    def priority_share(self) -> float:
        return sum(tile.is_priority for tile in self.tiles) / len(self.tiles)


def threshold_for_share(share: float, tiles: Sequence[PilotTile]) -> int:
    """The lowest score from which on at most this share of tiles is heavy, those of priority ground included."""
    scores = sorted((tile.score for tile in tiles if not tile.is_priority), reverse=True)
    room = round(share * len(tiles)) - (len(tiles) - len(scores))
    if room <= 0:
        return NEVER
    return 0 if room >= len(scores) else scores[room] + 1


def is_heavy(tile: PilotTile, threshold: int) -> bool:
    return tile.is_priority or tile.score >= threshold


def share_at_threshold(threshold: int, tiles: Sequence[PilotTile]) -> float:
    return sum(is_heavy(tile, threshold) for tile in tiles) / max(1, len(tiles))


def take_sample(job: Job, models: dict[Tier, Model], *, num_tiles: int, runs_both: bool) -> Pilot:
    """Compute the sample; `runs_both` runs the heavy model on each tile too, and the bulk one on priority ground."""
    if num_tiles < 1:
        raise RecipeError("a sample has at least one tile", where="budget: sample_tiles", got=str(num_tiles))
    found: list[PilotTile] = []
    looked_at = looked_at_px = 0
    for scene, tile in _candidates(job, num_tiles * READS_A_TILE):
        if len(found) == num_tiles:
            break
        looked_at += 1
        looked_at_px += tile.owned.num_px
        seen = _look(job, scene, tile, models, runs_both=runs_both)
        if seen is not None:
            found.append(seen)
    if not found:
        raise RecipeError("the sample holds no valid pixel", where="budget", todo="check `nodata` and `aoi`")
    return Pilot(tiles=tuple(found), num_looked_at=looked_at, looked_at_px=looked_at_px)


def _candidates(job: Job, limit: int) -> list[tuple[SceneJob, Tile]]:
    """Tiles of all scenes in the order of their hashes."""
    places = (
        (tile_hash("sample", name, row, col), name, row, col)
        for name, scene in job.scenes.items()
        for row, col in job.lattice(scene)
    )
    chosen = [(job.scenes[name], row, col) for _, name, row, col in heapq.nsmallest(limit, places)]
    return [(scene, tiles_of(job.lattice(scene), job.lattice(scene).window(row, col))[0]) for scene, row, col in chosen]


def _look(job: Job, scene: SceneJob, tile: Tile, models: dict[Tier, Model], *, runs_both: bool) -> PilotTile | None:
    found = read_wanted(job, scene, tile.owned)
    if found is None:
        return None
    pixels, wanted_HW = found
    seen = PilotTile(
        scene=scene.name,
        row=tile.row,
        col=tile.col,
        is_priority=(tile.row, tile.col) in scene.priority_tiles,
        runs_bulk=not is_heavy_alone(job, scene, tile.row, tile.col),
        num_px=int(wanted_HW.sum()),
        score=NO_SCORE,
    )
    if seen.is_priority and not runs_both:
        return seen  # its tier is known, so no model has to say anything
    made: dict[Tier, Prediction] = {}
    for tier, code in zip(TIERS, (BULK, HEAVY_BY_UNCERTAINTY), strict=True):
        if tier == "bulk" or runs_both:
            work = make_work(job, scene, [tile], [code], pixels, wanted_HW)
            made[tier] = segment_chunk(work, models, nodata=job.nodata, timed=_untimed)
    seen = replace(seen, score=made["bulk"].scores[0])
    return _compared(job, seen, tile, made, wanted_HW) if runs_both else seen


def _compared(
    job: Job, seen: PilotTile, tile: Tile, made: dict[Tier, Prediction], wanted_HW: NDArray[np.bool_]
) -> PilotTile:
    heavy, scene = made["heavy"], job.scenes[seen.scene]
    agreeing_px: dict[Tier, int] = {}
    confusion: dict[Tier, NDArray[np.int64]] = {}
    for tier, labels_HW in zip(TIERS, (made["bulk"].labels_HW, _routed(job, scene, tile, made)), strict=True):
        agreeing_px[tier] = int(((labels_HW == heavy.labels_HW) & wanted_HW).sum())
        agreement = score(job, scene, heavy.window, labels_HW, heavy.tier_HW)
        if agreement is not None:
            confusion[tier] = np.array(agreement.confusion, np.int64)
    return replace(seen, agreeing_px=agreeing_px, confusion=confusion)


def _routed(job: Job, scene: SceneJob, tile: Tile, made: dict[Tier, Prediction]) -> NDArray[Any]:
    """The labels that a run gives to a tile of the heavy model: at its edges, where they fade, some of the bulk's."""
    bulk, heavy = made["bulk"], made["heavy"]
    fade, whole = make_fade(job, scene, [tile], tile.owned), tile.owned.within(tile.owned)
    if fade is None or not fade.touches(0):
        return heavy.labels_HW
    stays_HW = fade.bulk_stays(0, whole, bulk.confidence_HW, heavy.confidence_HW)
    return np.where(stays_HW, bulk.labels_HW, heavy.labels_HW)


def read_wanted(job: Job, scene: SceneJob, window: Window) -> tuple[Pixels, NDArray[np.bool_]] | None:
    """A window with its halo, and which of its pixels are to be labelled; None if none is."""
    inside_HW = None if scene.aoi is None else scene.aoi.mask(window)
    if inside_HW is not None and not inside_HW.any():
        return None
    read_window = window.grow(job.halo_px).clip(scene.shape_px)
    pixels = scene.open_source().read(read_window)
    wanted_HW = pixels.valid_HW[window.within(read_window)]
    wanted_HW = wanted_HW if inside_HW is None else wanted_HW & inside_HW
    return (pixels, wanted_HW) if wanted_HW.any() else None


def make_work(
    job: Job, scene: SceneJob, tiles: list[Tile], codes: list[int], pixels: Pixels, wanted_HW: NDArray[np.bool_]
) -> ChunkWork:
    """Tiles that are judged but go where `codes` sends them. They fill the window that is wanted."""
    rows, cols = tiles[0].owned.rows, tiles[0].owned.cols
    window = Window.of(rows.start, rows.start + wanted_HW.shape[0], cols.start, cols.start + wanted_HW.shape[1])
    return ChunkWork(
        window=window,
        tiles=tiles,
        codes=codes,
        pixels=pixels,
        wanted_HW=wanted_HW,
        scene_shape_px=scene.shape_px,
        rules=scene.rules,
        doubt=None if job.doubt is None else replace(job.doubt, threshold=NEVER),
    )


def _untimed(_tier: Tier, /, *, is_audit: bool = False) -> AbstractContextManager[None]:  # noqa: ARG001
    return nullcontext()
