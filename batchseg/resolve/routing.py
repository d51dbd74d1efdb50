"""Decisions by the place of a tile, before any model runs: its tier code, its fading edges, and the models it needs."""

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
    """Assign a tier code to each tile by its place: heavy where it touches priority ground, else bulk."""
    if len(job.models) == 1:
        only = BULK if "bulk" in job.models else HEAVY_ALONE
        return [only] * len(tiles)
    priority = scene.priority_tiles
    return [HEAVY_BY_POLYGONS if (tile.row, tile.col) in priority else BULK for tile in tiles]


def make_fade(job: Job, scene: SceneJob, tiles: Sequence[Tile], window: Window) -> Fade | None:
    """Make the fade of the tiles of one window; None when nothing fades."""
    if len(job.models) == 1 or not job.fade_px:
        return None
    ground, firm = scene.priority, scene.priority_tiles
    lattice = job.lattice(scene).shape
    edges = tuple(find_fading_edges(tile.row, tile.col, lattice=lattice, firm=firm) for tile in tiles)
    needs_mask = any((tile.row, tile.col) in firm and any(fading) for tile, fading in zip(tiles, edges, strict=True))
    return Fade(job.fade_px, edges, ground.mask(window) if needs_mask and ground is not None else None)


def is_heavy_alone(job: Job, scene: SceneJob, row: int, col: int) -> bool:
    """Test if only the heavy model runs on a tile: it is priority ground and so are all of its neighbours."""
    firm = scene.priority_tiles
    if (row, col) not in firm:
        return False
    return not job.fade_px or not any(find_fading_edges(row, col, lattice=job.lattice(scene).shape, firm=firm))


def count_heavy_alone(job: Job, scene: SceneJob) -> int:
    """Count the tiles of a scene that only the heavy model runs on."""
    firm = scene.priority_tiles
    return int(_find_inner(firm).sum()) if job.fade_px else len(firm)


def _find_inner(tiles: TileSet) -> NDArray[np.bool_]:
    """Find the tiles of a set whose neighbours all belong to the set; the border of the lattice does not count."""
    wide = np.pad(tiles.mask(), 1, constant_values=True)
    inner_HW: NDArray[np.bool_] = wide[1:-1, 1:-1] & wide[:-2, 1:-1] & wide[2:, 1:-1] & wide[1:-1, :-2] & wide[1:-1, 2:]
    return inner_HW


def make_chunk_need_rule(job: Job) -> Callable[[ChunkKey], Need]:
    """Make the function that finds the tiers that a worker must have for a chunk of a job."""
    if len(job.models) == 1:
        return lambda _: next(iter(job.models))
    # Uncertain tiles and audited tiles are known only while a chunk is done.
    is_open = job.doubt is not None or job.audit_share > 0

    def find_need(chunk: ChunkKey) -> Need:
        scene = job.scenes[chunk.scene]
        tiles = tiles_of(job.lattice(scene), job.window(chunk))
        if all(is_heavy_alone(job, scene, tile.row, tile.col) for tile in tiles):
            return "heavy"
        return "both" if is_open or any((tile.row, tile.col) in scene.priority_tiles for tile in tiles) else "bulk"

    return find_need
