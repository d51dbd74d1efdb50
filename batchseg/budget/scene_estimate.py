"""Work of a run in one scene, from headers, polygons and the file's index of blocks alone."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from batchseg.ledger.keys import ChunkKey
from batchseg.resolve.job import Job, SceneJob
from batchseg.resolve.routing import count_heavy_alone
from batchseg.scene.area import measure_gross_area_km2
from batchseg.scene.empty import EmptyIndex


@dataclass(frozen=True, slots=True, kw_only=True)
class SceneEstimate:
    """Work of a run in one scene."""

    name: str
    shape_px: tuple[int, int]
    num_chunks: int
    num_committed: int
    """Number of chunks that an earlier run has committed."""
    num_empty: int
    """Number of chunks that the file's index of blocks shows to be empty; there may be more."""
    num_tiles: int
    num_priority_tiles: int
    num_heavy_alone: int
    """Number of priority tiles that the bulk model does not see."""
    area_km2: float | None
    """Ground area of the whole raster; None where it has no place on the Earth."""


def estimate_scene(job: Job, scene: SceneJob, committed: Collection[ChunkKey]) -> SceneEstimate:
    return SceneEstimate(
        name=scene.name,
        shape_px=scene.shape_px,
        num_chunks=len(job.chunk_grid(scene)),
        num_committed=sum(key.scene == scene.name for key in committed),
        num_empty=_count_empty(job, scene),
        num_tiles=len(job.lattice(scene)),
        num_priority_tiles=len(scene.priority_tiles),
        num_heavy_alone=count_heavy_alone(job, scene),
        area_km2=measure_gross_area_km2(scene.grid),
    )


def _count_empty(job: Job, scene: SceneJob) -> int:
    index = EmptyIndex(scene.raster, scene.bands, scene.nodata_policy)
    if not index.can_tell:
        return 0
    grid = job.chunk_grid(scene)
    return sum(index.is_surely_empty(grid.window(row, col)) for row, col in grid)
