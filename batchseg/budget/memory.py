"""The memory that a worker needs, and whether this machine has it."""

from __future__ import annotations

import numpy as np
import psutil

from batchseg.errors import RecipeError
from batchseg.recipe import Fleet
from batchseg.remote import is_remote
from batchseg.resolve.job import Job
from batchseg.scene.dataset import RAW_BLOCKS_BYTES
from batchseg.workers.pool import DEPTH

LIBRARIES_BYTES = 700 << 20
"""A worker with its libraries and one small model, before the first chunk; measured by bench/memory.py."""


def estimate_worker_bytes(job: Job) -> int:
    """The most that a worker may need: all arrays of one chunk, for each chunk in hand."""
    chunk_px = job.chunk_px**2
    read_px = (job.chunk_px + 2 * job.halo_px) ** 2
    most_bytes = 0
    for scene in job.scenes.values():
        item_bytes = np.dtype(scene.raster.dtype).itemsize
        model_bytes = max(np.dtype(rule.dtype).itemsize for rule in scene.rules.values())
        read_bytes = read_px * (len(scene.bands) * (item_bytes + model_bytes) + 2)
        if is_remote(scene.raster.url):
            read_bytes += min(RAW_BLOCKS_BYTES, read_px * len(scene.bands) * item_bytes)
        # Layers, class indexes, confusion pairs and the encoded objects.
        made_bytes = chunk_px * (len(scene.zarr.layers) + 12)
        most_bytes = max(most_bytes, read_bytes + made_bytes)
    return LIBRARIES_BYTES + DEPTH * most_bytes


def check_memory(job: Job, worker_bytes: int, fleet: Fleet) -> None:
    """Refuse chunks that are too large for this machine; workers of several pools live on other machines."""
    available_bytes = psutil.virtual_memory().total
    if worker_bytes <= available_bytes or len(fleet.pools) > 1:
        return
    smaller_px = max(job.core_px, job.chunk_px // 2 // job.core_px * job.core_px)
    raise RecipeError(
        "a worker must fit into the memory of this machine",
        where="tiling: chunk",
        expected=f"at most {available_bytes / 2**30:.1f} GiB",
        got=f"{worker_bytes / 2**30:.1f} GiB with chunks of {job.chunk_px} px",
        todo=f"take chunk: {smaller_px}" if smaller_px < job.chunk_px else "take a smaller core and chunk",
    )
