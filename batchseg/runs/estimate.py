"""What a run will do, take and cost, from headers alone. Nothing is read but headers, nothing is written.

Every figure names what it rests on. What is not known is None, and says why; it is never guessed.
"""

from __future__ import annotations

import shutil
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil

from batchseg.adapt.trial import usual_tile_px
from batchseg.budget.pilot_file import read_pilot
from batchseg.budget.threshold import read_threshold, with_threshold
from batchseg.errors import RecipeError
from batchseg.ledger.keys import ChunkKey
from batchseg.ledger.ledger import Ledger
from batchseg.model.contract import Contract
from batchseg.recipe import Fleet
from batchseg.remote import is_remote
from batchseg.resolve.destination import check_output
from batchseg.resolve.file_layout import layout_warnings
from batchseg.resolve.job import Job, SceneJob
from batchseg.resolve.resolve import Resolved
from batchseg.resolve.routing import count_heavy_alone
from batchseg.runs.backlog import backlog
from batchseg.scene.area import gross_area_km2
from batchseg.scene.dataset import RAW_BLOCKS_BYTES
from batchseg.scene.empty import EmptyIndex
from batchseg.store import LocalStore, Store
from batchseg.tiers import DeviceKind, Tier
from batchseg.workers.models import device_of
from batchseg.workers.pool import DEPTH
from tiling.grid import cells

LIBRARIES_BYTES = 700 << 20
"""A worker with its libraries and one small model, before the first chunk; measured by bench/memory.py."""
OUTPUT_BYTES_PER_PX = 0.6
"""Of all layers, Zarr and GeoTIFF together; measured on the demo's scene, where it was 0.4."""
REST_S_PER_MPX = 0.04
"""What a worker of two cores takes beside its models' forward passes: bench/engine.py measured 0.037 with the bulk
model and 0.039 with the heavy one."""
SHEET_OBJECTS = 8
"""GeoTIFFs and sidecars a scene."""
READ_USD, WRITE_USD = 0.4e-6, 5e-6
"""List prices of one request: Amazon S3 Standard, us-east-1."""
READ_BLOCKS_A_REQUEST = 8
"""GDAL joins neighbouring blocks of a row into one request."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SceneEstimate:
    name: str
    shape_px: tuple[int, int]
    num_chunks: int
    num_committed: int
    num_empty: int
    """Chunks known to be empty from the file's index of blocks; there may be more."""
    num_tiles: int
    num_priority_tiles: int
    num_heavy_alone: int
    """Of these, tiles that the bulk model does not see."""
    area_km2: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    scenes: tuple[SceneEstimate, ...]
    num_to_do: int
    worker_bytes: int
    output_bytes: int
    num_objects: int
    num_reads: int
    num_writes: int
    requests_usd: float
    """Of both, if scenes and output are in an object store."""
    seconds: float | None
    usd: float | None
    assumptions: tuple[str, ...]
    warnings: tuple[str, ...]


def estimate(resolved: Resolved, fleet: Fleet, store: Store) -> Estimate:
    job = resolved.job
    check_output(store)
    known = read_threshold(store)
    if resolved.budget is not None and known is not None:
        resolved = with_threshold(resolved, known)
        job = resolved.job
    Ledger(store).check_recipe(resolved.fingerprint, resolved.content)
    todo = backlog(job, store, wanted=lambda _: True, retry_quarantined=True)
    scenes = tuple(_scene(job, scene, todo.committed) for scene in job.scenes.values())
    worker_bytes = worker_memory_bytes(job)
    pixels = sum(rows * cols for rows, cols in (scene.shape_px for scene in scenes))
    output_bytes = int(pixels * OUTPUT_BYTES_PER_PX)
    _refuse_what_cannot_fit(job, worker_bytes, fleet)
    if isinstance(store, LocalStore):
        _refuse_full_disk(output_bytes, store.root)
    device = device_of(fleet.pools[0], job, in_process=fleet == Fleet())
    per_tile_s = {tier: _tile_s(bundle.contract, device, job, tier) for tier, bundle in resolved.bundles.items()}
    share = len(todo.chunks) / max(todo.num_total, 1)
    heavy_share, note = _heavy_share(resolved, store)
    all_seconds, notes = _seconds(scenes, per_tile_s, job.core_px, fleet, heavy_share)
    seconds = None if all_seconds is None else all_seconds * share
    notes += note
    workers_usd_per_hour = sum(p.workers * p.usd_per_hour for p in fleet.pools) + fleet.head_usd_per_hour
    stored = sum(len(scene.zarr.stored_grid) * len(scene.zarr.layers) for scene in job.scenes.values())
    num_reads, num_writes = _requests(job, todo.chunks)
    return Estimate(
        scenes=scenes,
        num_to_do=len(todo.chunks),
        worker_bytes=worker_bytes,
        output_bytes=output_bytes,
        num_objects=stored + todo.num_total + SHEET_OBJECTS * len(scenes),
        num_reads=num_reads,
        num_writes=num_writes,
        requests_usd=num_reads * READ_USD + num_writes * WRITE_USD,
        seconds=seconds,
        usd=None if seconds is None else seconds * workers_usd_per_hour / 3600,
        assumptions=(
            *notes,
            f"output: {OUTPUT_BYTES_PER_PX} bytes a pixel in all layers and both formats",
            f"memory: {DEPTH} chunks in hand with their halos, libraries {LIBRARIES_BYTES >> 20} MiB",
            f"prices: {', '.join(f'{p.workers} x {p.name} at ${p.usd_per_hour}/h' for p in fleet.pools)}",
        ),
        warnings=tuple(layout_warnings(job).values()),
    )


def _scene(job: Job, scene: SceneJob, committed: Collection[ChunkKey]) -> SceneEstimate:
    return SceneEstimate(
        name=scene.name,
        shape_px=scene.shape_px,
        num_chunks=len(job.chunk_grid(scene)),
        num_committed=sum(key.scene == scene.name for key in committed),
        num_empty=_surely_empty(job, scene),
        num_tiles=len(job.lattice(scene)),
        num_priority_tiles=len(scene.priority_tiles),
        num_heavy_alone=count_heavy_alone(job, scene),
        area_km2=gross_area_km2(scene.grid),
    )


def _surely_empty(job: Job, scene: SceneJob) -> int:
    index = EmptyIndex(scene.raster, scene.bands, scene.nodata_policy)
    if not index.can_tell:
        return 0
    grid = job.chunk_grid(scene)
    return sum(index.surely_empty(grid.window(row, col)) for row, col in grid)


def worker_memory_bytes(job: Job) -> int:
    """The most that a worker may need: everything that one chunk makes, for each chunk in hand."""
    chunk_px = job.chunk_px**2
    read_px = (job.chunk_px + 2 * job.halo_px) ** 2
    most = 0
    for scene in job.scenes.values():
        item_bytes = np.dtype(scene.raster.dtype).itemsize
        model_bytes = max(np.dtype(rule.dtype).itemsize for rule in scene.rules.values())
        read = read_px * (len(scene.bands) * (item_bytes + model_bytes) + 2)
        if is_remote(scene.raster.url):
            read += min(RAW_BLOCKS_BYTES, read_px * len(scene.bands) * item_bytes)
        # Layers, class indexes, confusion pairs and the encoded objects.
        made = chunk_px * (len(scene.zarr.layers) + 12)
        most = max(most, read + made)
    return LIBRARIES_BYTES + DEPTH * most


def _refuse_what_cannot_fit(job: Job, worker_bytes: int, fleet: Fleet) -> None:
    have = psutil.virtual_memory().total
    if worker_bytes > have and len(fleet.pools) == 1:
        raise RecipeError(
            "a worker does not fit into this machine's memory",
            where="tiling: chunk",
            expected=f"at most {have / 2**30:.1f} GiB",
            got=f"{worker_bytes / 2**30:.1f} GiB with chunks of {job.chunk_px} px",
            todo=f"take chunk: {max(job.core_px, job.chunk_px // 2 // job.core_px * job.core_px)}",
        )


def _refuse_full_disk(output_bytes: int, output: Path) -> None:
    existing = next(folder for folder in (output, *output.absolute().parents) if folder.exists())
    free = shutil.disk_usage(existing).free
    if output_bytes > free:
        raise RecipeError(
            "the output does not fit on this disk",
            where=f"output: {output}",
            expected=f"at most {free / 1e9:.1f} GB",
            got=f"{output_bytes / 1e9:.1f} GB",
            todo="free some space or give another output folder",
        )


def _heavy_share(resolved: Resolved, store: Store) -> tuple[float, list[str]]:
    """As far as it is known before a tile is seen, and what to say of it."""
    pilot = read_pilot(store)
    if pilot is not None:
        cost = "" if pilot.expected is None else f"; the run was planned to cost ${pilot.expected.usd:.3g}"
        return pilot.expected_heavy_share, [f"heavy tiles: {pilot.expected_heavy_share:.1%}, by its pilot{cost}"]
    if resolved.budget is not None and resolved.budget.heavy_share is not None:
        return resolved.budget.heavy_share, []
    if resolved.job.doubt is None:
        return 0.0, []
    return 0.0, ["heavy tiles: priority ground only; what uncertainty and a budget add, `plan --pilot` finds out"]


def _tile_s(contract: Contract, device: DeviceKind, job: Job, tier: Tier) -> float | None:
    """By its pixels: bundles are tuned with tiles of one size."""
    tuned_s = contract.numerics[device].seconds_per_tile
    if tuned_s is None:
        return None
    return float(tuned_s * ((job.core_px + 2 * job.models[tier].halo_px) / usual_tile_px(contract)) ** 2)


def _seconds(
    scenes: Sequence[SceneEstimate],
    per_tile_s: dict[Tier, float | None],
    core_px: int,
    fleet: Fleet,
    heavy_share: float,
) -> tuple[float | None, list[str]]:
    if any(seconds is None for seconds in per_tile_s.values()):
        return None, [
            "time and cost: unknown, since a bundle does not say how long a tile takes; `run --sample 1` shows it"
        ]
    tiles = sum(scene.num_tiles for scene in scenes)
    priority = sum(scene.num_priority_tiles for scene in scenes)
    # A tile that is heavy because the bulk model is not sure of it costs both, and so does one that fades.
    num: dict[Tier, float] = {"heavy": tiles if "bulk" not in per_tile_s else max(priority, heavy_share * tiles)}
    num["bulk"] = 0 if "bulk" not in per_tile_s else tiles - sum(scene.num_heavy_alone for scene in scenes)
    compute_s = sum(num[tier] * (seconds or 0.0) for tier, seconds in per_tile_s.items())
    workers = sum(pool.workers for pool in fleet.pools)
    pace = ", ".join(f"{tier} {1000 * (s or 0.0):.0f} ms" for tier, s in per_tile_s.items())
    rest = f"{1000 * REST_S_PER_MPX:.0f} ms a Mpx for reading, writing and all else, as on a local disk"
    note = f"time: a tile of {core_px} px takes {pace}, by what was measured in tuning; {rest}; {workers} workers"
    return (compute_s + tiles * core_px**2 / 1e6 * REST_S_PER_MPX) / workers, [note]


def _requests(job: Job, chunks: Sequence[ChunkKey]) -> tuple[int, int]:
    """Reads of blocks; puts of stored chunks, records and beats. Both are products of a row's and a column's share."""
    shares = {name: _shares(job, scene) for name, scene in job.scenes.items()}
    reads = writes = 0
    for key in chunks:
        rows, cols = shares[key.scene]
        reads += rows[key.row][0] * cols[key.col][0]
        writes += rows[key.row][1] * cols[key.col][1] * len(job.scenes[key.scene].zarr.layers) + 2
    return reads, writes


def _shares(job: Job, scene: SceneJob) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Of each row and each column of chunks: blocks or joined blocks to read, stored chunks to put."""
    grid = job.chunk_grid(scene)
    block_rows, block_cols = scene.raster.block_px
    windows = [grid.window(row, 0) for row in range(grid.shape[0])], [grid.window(0, c) for c in range(grid.shape[1])]
    wide = [[window.grow(job.halo_px).clip(scene.shape_px) for window in side] for side in windows]
    stored_px = scene.zarr.stored_px
    rows = [
        (-(-len(read.rows) // block_rows) + 1, len(cells(window.rows, stored_px)))
        for read, window in zip(wide[0], windows[0], strict=True)
    ]
    cols = [
        (-(-(-(-len(read.cols) // block_cols) + 1) // READ_BLOCKS_A_REQUEST), len(cells(window.cols, stored_px)))
        for read, window in zip(wide[1], windows[1], strict=True)
    ]
    return rows, cols
