"""The pilot: both tiers on a sample of tiles, before a run, so that a budget becomes a threshold.

Theory of operation
-------------------
The sample is the valid tiles whose hashes are smallest: the same ones whenever, wherever and however often a pilot is
run, and spread over all scenes. Each is computed by the engine itself, as a chunk of one tile, so it gets the score
that the run will give it. The threshold is a quantile of these scores, an integer; a share of heavy tiles needs no
clock at all. A budget in dollars also times both tiers and what is neither, solves for the share, and goes on from
there. Where a run has begun, its threshold is read from what it wrote down: a resume runs no pilot, and may not.
"""

from __future__ import annotations

import heapq
import statistics
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace

from batchseg.engine.route import NEVER, NO_SCORE, tile_hash
from batchseg.engine.segment import ChunkWork, Model, segment_chunk
from batchseg.engine.tiers import BULK, Tier
from batchseg.errors import RecipeError
from batchseg.runs.job import Job
from batchseg.scene.source import RasterSource
from tiling.grid import Tile, tiles_of

READS_A_TILE = 8
"""Tiles looked at for each valid one that is wanted, before a pilot makes do with what it has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PilotTile:
    """One valid tile of the sample."""

    scene: str
    row: int
    col: int
    is_priority: bool
    """Heavy by its place, whatever the bulk model says."""
    num_px: int
    score: int
    """The bulk model's doubt; NO_SCORE where it was not run."""
    agreeing_px: int | None = None
    """Pixels on which both tiers agree, where both were run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pilot:
    tiles: tuple[PilotTile, ...]
    num_looked_at: int
    seconds_a_tile: dict[str, float]
    """By stage: of a typical tile."""

    @property
    def valid_share(self) -> float:
        return len(self.tiles) / max(1, self.num_looked_at)

    @property
    def priority_share(self) -> float:
        return sum(tile.is_priority for tile in self.tiles) / max(1, len(self.tiles))


def threshold_for(share: float, tiles: Sequence[PilotTile]) -> int:
    """The lowest score from which on at most this share of tiles is heavy, those of priority ground included."""
    scores = sorted((tile.score for tile in tiles if not tile.is_priority), reverse=True)
    room = round(share * len(tiles)) - (len(tiles) - len(scores))
    if room <= 0:
        return NEVER
    return 0 if room >= len(scores) else scores[room] + 1


def share_at(threshold: int, tiles: Sequence[PilotTile]) -> float:
    heavy = sum(tile.is_priority or tile.score >= threshold for tile in tiles)
    return heavy / max(1, len(tiles))


def run_pilot(job: Job, models: dict[Tier, Model], *, num_tiles: int, both: bool) -> Pilot:
    """Compute the sample; `both` runs the heavy model on each tile too, and the bulk one on priority ground."""
    if num_tiles < 1:
        raise RecipeError("a sample has at least one tile", where="budget: sample_tiles", got=str(num_tiles))
    watch = _Watch()
    found: list[PilotTile] = []
    looked_at = 0
    for scene, tile in _candidates(job, num_tiles * READS_A_TILE):
        if len(found) == num_tiles:
            break
        looked_at += 1
        seen = _look(job, scene, tile, models, watch, both=both)
        if seen is not None:
            found.append(seen)
    if not found:
        raise RecipeError("the sample holds no valid pixel", where="budget", todo="check `nodata` and `aoi`")
    return Pilot(tiles=tuple(found), num_looked_at=looked_at, seconds_a_tile=watch.typical(models))


def _candidates(job: Job, limit: int) -> list[tuple[str, Tile]]:
    """Tiles of all scenes in the order of their hashes."""
    named = (
        (tile_hash("sample", scene, row, col), scene, row, col)
        for scene in job.scenes
        for row, col in job.lattice(scene)
    )
    return [
        (scene, tiles_of(job.lattice(scene), job.lattice(scene).window(row, col))[0])
        for _, scene, row, col in heapq.nsmallest(limit, named)
    ]


def _look(job: Job, name: str, tile: Tile, models: dict[Tier, Model], watch: _Watch, *, both: bool) -> PilotTile | None:
    scene, window = job.scenes[name], tile.owned
    inside_HW = None if scene.aoi is None else scene.aoi.mask(window)
    if inside_HW is not None and not inside_HW.any():
        return None
    read_window = window.grow(job.halo_px).clip(scene.shape_px)
    with watch("read"):
        pixels = RasterSource(scene.header, scene.bands, scene.policy).read(read_window)
    wanted_HW = pixels.valid_HW[window.within(read_window)]
    wanted_HW = wanted_HW if inside_HW is None else wanted_HW & inside_HW
    if not wanted_HW.any():
        return None
    is_priority = (tile.row, tile.col) in scene.priority_tiles
    if is_priority and not both:
        # Its tier is known, so no model has to say anything.
        return PilotTile(
            scene=name, row=tile.row, col=tile.col, is_priority=True, num_px=int(wanted_HW.sum()), score=NO_SCORE
        )
    work = ChunkWork(
        window=window,
        tiles=[tile],
        codes=[BULK],
        pixels=pixels,
        wanted_HW=wanted_HW,
        scene_shape_px=scene.shape_px,
        rules=scene.rules,
        doubt=None if job.doubt is None else replace(job.doubt, threshold=NEVER),
        audited=(both,),
    )
    made = segment_chunk(work, models, nodata=job.nodata, timed=watch.of_tier)
    return PilotTile(
        scene=name,
        row=tile.row,
        col=tile.col,
        is_priority=is_priority,
        num_px=int(wanted_HW.sum()),
        score=made.scores[0],
        agreeing_px=made.audits[0].agreeing_px if made.audits else None,
    )


class _Watch:
    """Seconds of each stage, one number a tile."""

    def __init__(self) -> None:
        self._seconds: defaultdict[str, list[float]] = defaultdict(list)

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        begun_s = time.perf_counter()
        yield
        self._seconds[stage].append(time.perf_counter() - begun_s)

    def of_tier(self, tier: Tier, /, *, is_audit: bool = False) -> AbstractContextManager[None]:  # noqa: ARG002
        return self(f"compute_{tier}")

    def typical(self, models: dict[Tier, Model]) -> dict[str, float]:
        """Medians: the first call of a model is slow. A tile alone takes as long as the batch that it is padded to."""
        batches = {f"compute_{tier}": model.segmenter.batch for tier, model in models.items()}
        return {stage: statistics.median(s) / batches.get(stage, 1) for stage, s in self._seconds.items()}
