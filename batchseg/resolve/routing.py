"""What is known of a scene's tiles by their place: their codes, how they fade, and which models they need."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from batchseg.engine.fade import Fade, find_fading_edges
from batchseg.ledger.keys import ChunkKey
from batchseg.resolve.job import Job, SceneJob
from batchseg.tiers import BULK, HEAVY_ALONE, HEAVY_BY_POLYGONS, Need
from tiling.grid import Tile, tiles_of
from tiling.span import Window
from tiling.tileset import TileSet


def assign_tier_codes(job: Job, scene: SceneJob, tiles: Sequence[Tile]) -> list[int]:
    """Of the tier layer, before any model runs."""
    if len(job.models) == 1:
        only = BULK if "bulk" in job.models else HEAVY_ALONE
        return [only] * len(tiles)
    priority = scene.priority_tiles
    return [HEAVY_BY_POLYGONS if (tile.row, tile.col) in priority else BULK for tile in tiles]


def make_fade(job: Job, scene: SceneJob, tiles: Sequence[Tile], window: Window) -> Fade | None:
    """How these tiles of one window fade, should they be heavy."""
    if len(job.models) == 1 or not job.fade_px:
        return None
    ground, firm = scene.priority, scene.priority_tiles
    lattice = job.lattice(scene).shape
    edges = tuple(find_fading_edges(tile.row, tile.col, lattice=lattice, firm=firm) for tile in tiles)
    drawn = any((tile.row, tile.col) in firm and any(fading) for tile, fading in zip(tiles, edges, strict=True))
    return Fade(job.fade_px, edges, ground.mask(window) if drawn and ground is not None else None)


def is_heavy_alone(job: Job, scene: SceneJob, row: int, col: int) -> bool:
    """Whether the bulk model never sees a tile: priority ground with priority ground behind all of its edges."""
    firm = scene.priority_tiles
    if (row, col) not in firm:
        return False
    return not job.fade_px or not any(find_fading_edges(row, col, lattice=job.lattice(scene).shape, firm=firm))


def count_heavy_alone(job: Job, scene: SceneJob) -> int:
    """How many tiles of a scene are."""
    firm = scene.priority_tiles
    return int(_inner(firm).sum()) if job.fade_px else len(firm)


def _inner(tiles: TileSet) -> NDArray[np.bool_]:
    """Tiles of a set that have no neighbour outside of it; beyond the lattice there is none."""
    wide = np.pad(tiles.mask(), 1, constant_values=True)
    inner_HW: NDArray[np.bool_] = wide[1:-1, 1:-1] & wide[:-2, 1:-1] & wide[2:, 1:-1] & wide[1:-1, :-2] & wide[1:-1, 2:]
    return inner_HW


def make_chunk_need_rule(job: Job) -> Callable[[ChunkKey], Need]:
    """The tiers that a worker must have for each chunk of a job."""
    if len(job.models) == 1:
        return lambda _: next(iter(job.models))
    # What the bulk model is unsure of, and what is audited, turns out only while a chunk is done.
    open_ended = getattr(job, "doubt", None) is not None or getattr(job, "audit_share", 0.0) > 0

    def need(chunk: ChunkKey) -> Need:
        scene = job.scenes[chunk.scene]
        tiles = tiles_of(job.lattice(scene), job.window(chunk))
        if all(is_heavy_alone(job, scene, tile.row, tile.col) for tile in tiles):
            return "heavy"
        return "both" if open_ended or any((tile.row, tile.col) in scene.priority_tiles for tile in tiles) else "bulk"

    return need
