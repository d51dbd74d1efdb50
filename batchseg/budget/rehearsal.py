"""How fast a worker is on this machine: some chunks done for real, into a folder that is thrown away.

Theory of operation
-------------------
What a run will cost depends on what overlaps: reading hides behind computing, or does not. So nothing is added up from
parts that were timed alone: the real worker does a few chunks, chosen by hash, with the bulk model alone and as many in
hand as in a run, and what counts is the time from the first to the last. What a heavy tile adds is compute, which
overlaps with nothing else on the device, so batches of the heavy model are timed by themselves. The GeoTIFFs at the end
are made of one rehearsed chunk as if it were a scene.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from batchseg.budget.sample import make_work, read_wanted
from batchseg.engine.route import tile_hash
from batchseg.engine.segment import Model, segment_chunk
from batchseg.errors import RecipeError
from batchseg.ledger.keys import ChunkKey, SheetKey
from batchseg.ledger.records import Record
from batchseg.output.sheet import make_sheet
from batchseg.output.stored import ZarrLayout
from batchseg.resolve.job import Job
from batchseg.scene.polygons import touched_tiles
from batchseg.store import LocalStore, Store
from batchseg.tiers import HEAVY_BY_UNCERTAINTY, Tier
from batchseg.workers.failure import Failure
from batchseg.workers.worker import Worker, WorkerSpec
from tiling.grid import tiles_of
from tiling.span import Window

LEAST_TILES, LEAST_CHUNKS = 128, 4
"""Of a rehearsal, where the scenes have as many: enough that the first read and the last write weigh little."""
MOST_ROUNDS = 4
"""Groups of chunks tried until one has something to label."""
HEAVY_BATCHES = 8
LEAST_SHEET_PX = 1 << 18
"""Smaller chunks say nothing of what a megapixel of GeoTIFFs takes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """Seconds of one worker."""

    start_s: float
    """Until its models are open."""
    tile_s: float
    """Of a valid tile of the bulk model, with its share of reading and writing."""
    bulk_tile_s: float
    """Of that, the bulk model."""
    heavy_batch_s: float
    heavy_batch: int
    sheet_s: float
    """Of the GeoTIFFs of one sheet, however small."""
    sheet_s_per_mpx: float
    """And on top of that, by what they cover."""


def rehearse(job: Job, models: dict[Tier, Model], spec: WorkerSpec, *, start_s: float, depth: int) -> Pace:
    """Do some chunks and throw them away."""
    plain = _bulk_alone(job)
    with TemporaryDirectory() as folder:
        worker = Worker(spec, plain, LocalStore(Path(folder), durable=False), lambda _job, _spec: (models, {})).open()
        try:
            records, spent_s = _bulk_pass(plain, worker, depth)
            sheet_s, sheet_s_per_mpx = _sheet_pass(plain, worker, records)
        finally:
            worker.close()
    tiles = sum(record.measured.tiles.bulk for record in records)
    bulk_s = sum(record.attempt.seconds.get("compute_bulk", 0.0) for record in records)
    return Pace(
        start_s=start_s,
        tile_s=spent_s / tiles,
        bulk_tile_s=bulk_s / tiles,
        heavy_batch_s=_heavy_pass(job, models, [record.key for record in records]),
        heavy_batch=models["heavy"].forward_tiles,
        sheet_s=sheet_s,
        sheet_s_per_mpx=sheet_s_per_mpx,
    )


def _bulk_alone(job: Job) -> Job:
    """The same job, with no reason to be heavy."""
    scenes = {
        name: replace(scene, priority_tiles=touched_tiles([], job.lattice(scene))) for name, scene in job.scenes.items()
    }
    return replace(job, scenes=scenes, audit_share=0.0)


def _bulk_pass(job: Job, worker: Worker, depth: int) -> tuple[list[Record], float]:
    """Chunks with something to label, and the seconds that they took."""
    tiles_a_chunk = (job.chunk_px // job.core_px) ** 2
    num = max(LEAST_CHUNKS, -(-LEAST_TILES // tiles_a_chunk))
    chunks = _chunks(job, num * MOST_ROUNDS)
    for start in range(0, len(chunks), num):
        begun_s = time.perf_counter()
        with ThreadPoolExecutor(depth) as threads:
            done = list(threads.map(lambda key: worker.attempt(key, 1), chunks[start : start + num]))
        spent_s = time.perf_counter() - begun_s
        records = [_record_of(one) for one in done]
        if any(record.measured.tiles.bulk for record in records):
            return [record for record in records if record.measured.tiles.bulk], spent_s
    raise RecipeError("no chunk of the sample has a valid pixel", where="budget", todo="check `nodata` and `aoi`")


def _chunks(job: Job, limit: int) -> list[ChunkKey]:
    """In the order of their hashes."""
    keys = (key for scene in job.scenes.values() for key in job.list_chunks(scene))
    return heapq.nsmallest(limit, keys, key=lambda key: tile_hash("rehearse", key.scene, key.row, key.col))


def _record_of(outcome: object) -> Record:
    if isinstance(outcome, Failure):
        raise RecipeError("a chunk of the rehearsal cannot be done", where="budget", got=outcome.error)
    assert isinstance(outcome, Record)
    return outcome


def _sheet_pass(job: Job, worker: Worker, records: Sequence[Record]) -> tuple[float, float]:
    """Seconds of any sheet, and of a megapixel: the largest rehearsed chunk becomes a scene of its own."""
    record = max(records, key=lambda record: job.window(record.key).num_px)
    window, layout = job.window(record.key), job.scenes[record.key.scene].zarr
    corner = Window.of(window.rows.start, window.rows.start + 1, window.cols.start, window.cols.start + 1)
    for _ in range(2):  # the first one only warms up
        least_s = _sheet_s(job, worker.store, _cropped(layout, corner), None)
    small = _cropped(layout, window)
    chunk_s = _sheet_s(job, worker.store, small, _moved(worker.store, record, layout, small, window))
    if window.num_px < LEAST_SHEET_PX:
        return chunk_s, 0.0
    return least_s, max(0.0, chunk_s - least_s) / (window.num_px / 1e6)


def _cropped(layout: ZarrLayout, window: Window) -> ZarrLayout:
    return replace(layout, georef=layout.georef.part(window), sheet_px=max(window.shape))


def _sheet_s(job: Job, store: Store, layout: ZarrLayout, record: Record | None) -> float:
    """Of one chunk, or of none."""
    chunk = ChunkKey(layout.scene, 0, 0)
    work = replace(job.sheet_work(SheetKey(layout.scene, 0, 0), [] if record is None else [record]), layout=layout)
    begun_s = time.perf_counter()
    make_sheet(store, work, {chunk: record})
    return time.perf_counter() - begun_s


def _moved(store: Store, record: Record, layout: ZarrLayout, small: ZarrLayout, window: Window) -> Record:
    """What a chunk stored, put again under the first rows and columns."""
    top, left = window.rows.start // layout.stored_px, window.cols.start // layout.stored_px
    cells = {
        layout.object_key(layer.name, row, col): small.object_key(layer.name, row - top, col - left)
        for layer in layout.layers
        for row, col in layout.stored_grid.touching(window)
    }
    for stored in record.objects:
        store.put(cells[stored.key], store.get(stored.key))
    objects = tuple(replace(stored, key=cells[stored.key]) for stored in record.objects)
    return replace(record, key=ChunkKey(layout.scene, 0, 0), objects=objects)


def _heavy_pass(job: Job, models: dict[Tier, Model], chunks: Sequence[ChunkKey]) -> float:
    """Seconds of a batch, from as many tiles as there are and need be."""
    batch, watch, num_batches = models["heavy"].forward_tiles, _Watch(), 0
    _run_heavy(job, models, chunks[0], batch, _Watch())  # the first call of a model is slow
    for key in chunks:
        num_batches += -(-_run_heavy(job, models, key, HEAVY_BATCHES * batch, watch) // batch)
        if num_batches >= HEAVY_BATCHES:
            break
    return watch.seconds / num_batches


def _run_heavy(job: Job, models: dict[Tier, Model], key: ChunkKey, most: int, watch: _Watch) -> int:
    """Label some tiles of a chunk; how many."""
    scene = job.scenes[key.scene]
    found = read_wanted(job, scene, job.window(key))
    assert found is not None, "a chunk with a labelled tile has something to label"
    pixels, wanted_HW = found
    tiles = tiles_of(job.lattice(scene), job.window(key))
    live = [at for tile in tiles if wanted_HW[at := tile.owned.within(job.window(key))].any()][:most]
    few_HW = np.zeros_like(wanted_HW)
    for at in live:
        few_HW[at] = wanted_HW[at]
    work = make_work(job, scene, tiles, [HEAVY_BY_UNCERTAINTY] * len(tiles), pixels, few_HW)
    segment_chunk(work, models, nodata=job.nodata, timed=watch)
    return len(live)


@dataclass(slots=True)
class _Watch:
    """Seconds in a model."""

    seconds: float = 0.0

    @contextmanager
    def __call__(self, _tier: Tier, /, *, is_audit: bool = False) -> Iterator[None]:  # noqa: ARG002
        begun_s = time.perf_counter()
        yield
        self.seconds += time.perf_counter() - begun_s
