"""The chunks that a run is asked for: all of them, a sample, or those in a box of longitudes and latitudes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

import shapely

from batchseg.errors import RecipeError
from batchseg.ledger.keys import ChunkKey
from batchseg.resolve.job import Job
from batchseg.scene.outline import make_outline


def select_chunks(
    job: Job, *, bbox: Sequence[float] | None = None, num_chunks: int | None = None
) -> frozenset[ChunkKey] | None:
    """The chunks that touch a box, or a sample of those, or a sample of all; None for all chunks."""
    if bbox is None and num_chunks is None:
        return None
    chunks = list_chunks(job) if bbox is None else find_chunks_in_box(job, bbox)
    return chunks if num_chunks is None else sample_chunks(chunks, num_chunks)


def list_chunks(job: Job) -> frozenset[ChunkKey]:
    return frozenset(key for scene in job.scenes.values() for key in job.list_chunks(scene))


def sample_chunks(chunks: Iterable[ChunkKey], num_chunks: int) -> frozenset[ChunkKey]:
    """A sample of chunks by the hash of their names: spread over the scenes, and the same at each call."""
    if num_chunks < 1:
        raise RecipeError(
            "a sample must have at least one chunk", where="--sample", expected="1 or more", got=str(num_chunks)
        )
    ordered = sorted(chunks, key=lambda key: hashlib.blake2b(str(key).encode(), digest_size=8).digest())
    return frozenset(ordered[:num_chunks])


def find_chunks_in_box(job: Job, bbox: Sequence[float]) -> frozenset[ChunkKey]:
    """The chunks that touch a box of longitudes and latitudes (west, south, east, north)."""
    west, south, east, north = bbox
    if not (west < east and south < north):
        raise RecipeError(
            "the box must not be empty",
            where="--bbox",
            expected="west south east north, with west < east and south < north",
            got=" ".join(f"{degrees:g}" for degrees in bbox),
            todo="for a box across the antimeridian give an east beyond 180",
        )
    # Outlines may go beyond 180 degrees too, so the box is tried one turn to the west and one to the east.
    box = shapely.MultiPolygon([shapely.box(west + turn, south, east + turn, north) for turn in (-360, 0, 360)])
    chunks = frozenset(
        key
        for scene in job.scenes.values()
        for key in job.list_chunks(scene)
        if (shape := make_outline(scene.grid, job.window(key))) is not None and shape.intersects(box)
    )
    if not chunks:
        raise RecipeError(
            "no chunk touches this box",
            where="--bbox",
            todo="give longitudes and latitudes in degrees, west south east north",
        )
    return chunks
