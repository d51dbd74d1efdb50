"""Chunks by where they lie."""

from __future__ import annotations

from collections.abc import Sequence

import shapely

from batchseg.errors import RecipeError
from batchseg.job.job import Job
from batchseg.ledger.keys import ChunkKey
from batchseg.reports.table import outline


def chunks_in_box(job: Job, bbox: Sequence[float]) -> frozenset[ChunkKey]:
    """Chunks that a box of longitudes and latitudes (west, south, east, north) touches."""
    west, south, east, north = bbox
    if not (west < east and south < north):
        raise RecipeError(
            "the box is empty",
            where="--bbox",
            expected="west south east north",
            got=" ".join(f"{degrees:g}" for degrees in bbox),
            todo="across the antimeridian let east go on beyond 180",
        )
    # Outlines may go on beyond 180 degrees too.
    box = shapely.MultiPolygon([shapely.box(west + turn, south, east + turn, north) for turn in (-360, 0, 360)])
    found = frozenset(
        key
        for scene in job.scenes
        for key in (ChunkKey(scene, row, col) for row, col in job.chunk_grid(scene))
        if (shape := outline(job.scenes[scene].header.georef, job.window(key))) is not None and shape.intersects(box)
    )
    if not found:
        raise RecipeError("no chunk touches this box", where="--bbox", todo="give longitudes and latitudes in degrees")
    return found
