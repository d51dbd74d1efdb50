"""The sample of a pilot: some tiles, labelled before a run, and the threshold that sends a share of them to heavy.

Theory of operation
-------------------
The sample is the valid tiles whose hashes are smallest. So it is the same whenever, wherever and however often a pilot
runs, and it is spread over all scenes. The engine itself computes each tile as a chunk of one tile, so the tile gets
the score that the run will give it. The threshold is a quantile of these scores, an integer, and a share of heavy tiles
needs no clock at all. A budget in dollars also rehearses some chunks against the clock (`rehearsal.py`), solves for the
share (`forecast.py`), and continues from there. Where a run has begun, its threshold is read from its recipe file: a
resume never runs a pilot.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batchseg.engine.chunk import ChunkWork, Prediction
from batchseg.engine.route import NEVER, NO_SCORE, hash_tile
from batchseg.engine.segment import Model, segment_chunk
from batchseg.errors import RecipeError
from batchseg.resolve.job import Job, SceneJob
from batchseg.resolve.routing import is_heavy_alone, make_fade
from batchseg.tasks.measure import score
from batchseg.tasks.wanted import WantedPixels, read_wanted
from batchseg.tiers import BULK, HEAVY_BY_UNCERTAINTY, Tier
from tiling.grid import Tile, tiles_of
from tiling.span import Window

READS_PER_TILE = 8
"""Tiles read per valid tile of the sample, before a pilot makes do with the valid tiles that it has."""
TIER_CODES: tuple[tuple[Tier, int], ...] = (("bulk", BULK), ("heavy", HEAVY_BY_UNCERTAINTY))
"""Tier -> code that sends a tile there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PilotTile:
    """One valid tile of the sample."""

    scene: str
    row: int
    col: int
    is_priority: bool
    """True if the tile is heavy by its place, whatever its score."""
    runs_bulk: bool
    """True if the bulk model labels it in a run."""
    num_px: int
    """Number of pixels to label."""
    score: int
    """Uncertainty of the bulk model, in ten-thousandths; NO_SCORE where it did not run."""
    agreeing_px: dict[Tier, int] = field(default_factory=dict)
    """Pixels with the heavy model's label, by the tier that the tile is sent to; empty unless both tiers ran."""
    confusion: dict[Tier, NDArray[np.int64]] = field(default_factory=dict)
    """Confusion matrix against the reference, by the same tier; empty without a reference."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pilot:
    """The sample, and how many tiles were read to find it."""

    tiles: tuple[PilotTile, ...]
    num_looked_at: int
    """Number of tiles that were read, valid or not."""
    looked_at_px: int
    """Number of pixels that these tiles own, valid or not."""

    @property
    def valid_share(self) -> float:
        return len(self.tiles) / self.num_looked_at

    @property
    def valid_px_share(self) -> float:
        return sum(tile.num_px for tile in self.tiles) / self.looked_at_px

    @property
    def bulk_share(self) -> float:
        """Share of the tiles that the bulk model labels, also of those that only fade into its labels."""
        return sum(tile.runs_bulk for tile in self.tiles) / len(self.tiles)

    @property
    def priority_share(self) -> float:
        return sum(tile.is_priority for tile in self.tiles) / len(self.tiles)


def threshold_for_share(share: float, tiles: Sequence[PilotTile]) -> int:
    """The lowest score from which on at most this share of tiles is heavy, tiles on priority ground included."""
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
    """Find and label the tiles of a sample.

    Args:
        job: The run that the sample is for.
        models: The opened models.
        num_tiles: Number of valid tiles that the sample should have. It has fewer where the scenes have fewer.
        runs_both: Whether both models run on every tile. Otherwise only the bulk model runs, and on no tile of
            priority ground, whose tier is known.

    Raises:
        RecipeError: No tile that was read has a valid pixel.
    """
    if num_tiles < 1:
        raise RecipeError(
            "a sample must have at least one tile", where="budget: sample_tiles", got=str(num_tiles), todo="raise it"
        )
    tiles: list[PilotTile] = []
    num_looked_at = looked_at_px = 0
    for scene, tile in _order_candidates(job, num_tiles * READS_PER_TILE):
        if len(tiles) == num_tiles:
            break
        num_looked_at += 1
        looked_at_px += tile.owned.num_px
        wanted = read_wanted(job, scene, scene.open_source(), tile.owned)
        if wanted is not None:
            tiles.append(_label_tile(job, scene, tile, wanted, models, runs_both=runs_both))
    if not tiles:
        raise RecipeError(
            "the sample must have a valid pixel, but none of its tiles has one",
            where="budget",
            todo="check `nodata` and `aoi`",
        )
    return Pilot(tiles=tuple(tiles), num_looked_at=num_looked_at, looked_at_px=looked_at_px)


def _order_candidates(job: Job, limit: int) -> list[tuple[SceneJob, Tile]]:
    """The tiles of all scenes with the smallest hashes, in the order of their hashes."""
    places = (
        (hash_tile("sample", name, row, col), name, row, col)
        for name, scene in job.scenes.items()
        for row, col in job.lattice(scene)
    )
    chosen = [(job.scenes[name], row, col) for _, name, row, col in heapq.nsmallest(limit, places)]
    return [(scene, tiles_of(job.lattice(scene), job.lattice(scene).window(row, col))[0]) for scene, row, col in chosen]


def _label_tile(
    job: Job, scene: SceneJob, tile: Tile, wanted: WantedPixels, models: dict[Tier, Model], *, runs_both: bool
) -> PilotTile:
    pilot_tile = PilotTile(
        scene=scene.name,
        row=tile.row,
        col=tile.col,
        is_priority=(tile.row, tile.col) in scene.priority_tiles,
        runs_bulk=not is_heavy_alone(job, scene, tile.row, tile.col),
        num_px=int(wanted.wanted_HW.sum()),
        score=NO_SCORE,
    )
    if pilot_tile.is_priority and not runs_both:
        return pilot_tile  # its tier is known, so no model has to run
    predictions: dict[Tier, Prediction] = {}
    for tier, code in TIER_CODES:
        if tier == "bulk" or runs_both:
            work = make_work(job, scene, [tile], [code], wanted)
            predictions[tier] = segment_chunk(work, models, nodata=job.nodata, timed=_ignore_time)
    pilot_tile = replace(pilot_tile, score=predictions["bulk"].scores[0])
    return _compare_tiers(job, pilot_tile, tile, predictions, wanted.wanted_HW) if runs_both else pilot_tile


def _compare_tiers(
    job: Job,
    pilot_tile: PilotTile,
    tile: Tile,
    predictions: dict[Tier, Prediction],
    wanted_HW: NDArray[np.bool_],
) -> PilotTile:
    heavy, scene = predictions["heavy"], job.scenes[pilot_tile.scene]
    labels: dict[Tier, NDArray[Any]] = {
        "bulk": predictions["bulk"].labels_HW,
        "heavy": _fade_labels(job, scene, tile, predictions),
    }
    agreeing_px: dict[Tier, int] = {}
    confusion: dict[Tier, NDArray[np.int64]] = {}
    for tier, labels_HW in labels.items():
        agreeing_px[tier] = int(((labels_HW == heavy.labels_HW) & wanted_HW).sum())
        agreement = score(job, scene, heavy.window, labels_HW, heavy.tier_HW)
        if agreement is not None:
            confusion[tier] = np.array(agreement.confusion, np.int64)
    return replace(pilot_tile, agreeing_px=agreeing_px, confusion=confusion)


def _fade_labels(job: Job, scene: SceneJob, tile: Tile, predictions: dict[Tier, Prediction]) -> NDArray[Any]:
    """The labels that a run gives to a heavy tile: at edges that fade, some are those of the bulk model."""
    bulk, heavy = predictions["bulk"], predictions["heavy"]
    fade, whole = make_fade(job, scene, [tile], tile.owned), tile.owned.within(tile.owned)
    if fade is None or not fade.touches(0):
        return heavy.labels_HW
    stays_HW = fade.find_bulk_pixels(0, whole, bulk.confidence_HW, heavy.confidence_HW)
    return np.where(stays_HW, bulk.labels_HW, heavy.labels_HW)


def make_work(job: Job, scene: SceneJob, tiles: list[Tile], tier_codes: list[int], wanted: WantedPixels) -> ChunkWork:
    """Work on tiles that fill a window. They are scored, but go to the tiers of `tier_codes` whatever their scores."""
    rows, cols, shape = tiles[0].owned.rows, tiles[0].owned.cols, wanted.wanted_HW.shape
    return ChunkWork(
        window=Window.of(rows.start, rows.start + shape[0], cols.start, cols.start + shape[1]),
        tiles=tiles,
        tier_codes=tier_codes,
        pixels=wanted.pixels,
        wanted_HW=wanted.wanted_HW,
        scene_shape_px=scene.shape_px,
        rules=scene.rules,
        doubt=None if job.doubt is None else replace(job.doubt, threshold=NEVER),
    )


def _ignore_time(_tier: Tier, /, *, is_audit: bool = False) -> AbstractContextManager[None]:  # noqa: ARG001
    return nullcontext()
