"""Speed of a worker on this machine: some chunks done for real, into a folder that is thrown away.

Theory of operation
-------------------
The cost of a run depends on what overlaps: reading may hide behind computing, or may not. So the rehearsal does not add
up parts that were timed alone. The real worker does a few chunks, chosen by hash, with the bulk model alone and with as
many in hand as in a run; what counts is the time from the first to the last. A heavy tile adds compute only, which
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

from batchseg.budget.sample import make_work
from batchseg.engine.route import NEVER, hash_tile
from batchseg.engine.segment import Model, segment_chunk
from batchseg.errors import RecipeError
from batchseg.ledger.keys import ChunkKey, SheetKey
from batchseg.ledger.records import Record
from batchseg.output.sheet import make_sheet
from batchseg.output.stored import ZarrLayout
from batchseg.resolve.job import Job
from batchseg.scene.polygons import find_touched_tiles
from batchseg.store import LocalStore, Store
from batchseg.tasks.wanted import read_wanted
from batchseg.tiers import HEAVY_BY_UNCERTAINTY, Tier
from batchseg.workers.failure import Failure
from batchseg.workers.worker import Worker, WorkerSpec
from tiling.grid import tiles_of
from tiling.span import Window

LEAST_TILES, LEAST_CHUNKS = 128, 4
"""Size of a rehearsal, where the scenes have as many: enough that the first read and the last write weigh little."""
MOST_ROUNDS = 4
"""Groups of chunks that are tried until one has a pixel to label."""
HEAVY_BATCHES = 8
"""Batches of the heavy model that are timed, where the rehearsed chunks have as many."""
LEAST_SHEET_PX = 1 << 18
"""Smallest chunk that tells the time per megapixel of GeoTIFF apart from the time per file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """Speed of one worker."""

    start_s: float
    """Seconds until the models are open."""
    tile_s: float
    """Seconds per valid tile of the bulk model, with its share of reading and writing."""
    bulk_tile_s: float
    """Seconds of these in which the bulk model runs."""
    heavy_batch_s: float
    """Seconds per batch of the heavy model."""
    heavy_batch: int
    """Number of tiles in such a batch."""
    sheet_s: float
    """Seconds for the GeoTIFFs of one sheet, however small."""
    sheet_s_per_mpx: float
    """Seconds on top of that per megapixel of the sheet."""


def rehearse(job: Job, models: dict[Tier, Model], spec: WorkerSpec, *, start_s: float, depth: int) -> Pace:
    """Do some chunks, throw them away, and say how fast it went.

    Args:
        job: The run that is rehearsed.
        models: The opened models of both tiers.
        spec: The worker that rehearses.
        start_s: Seconds that it took to open the models.
        depth: Number of chunks in hand at once.

    Raises:
        RecipeError: A chunk fails, or no chunk that was tried has a valid pixel.
    """
    bulk_job = _remove_heavy_reasons(job)
    with TemporaryDirectory() as folder:
        worker = Worker(
            spec, bulk_job, LocalStore(Path(folder), durable=False), lambda _job, _spec: (models, {})
        ).open()
        try:
            records, spent_s = _time_bulk(bulk_job, worker, depth)
            sheet_s, sheet_s_per_mpx = _time_sheets(bulk_job, worker, records)
        finally:
            worker.close()
    tiles = sum(record.measured.tiles.bulk for record in records)
    bulk_s = sum(record.attempt.seconds.get("compute_bulk", 0.0) for record in records)
    return Pace(
        start_s=start_s,
        tile_s=spent_s / tiles,
        bulk_tile_s=bulk_s / tiles,
        heavy_batch_s=_time_heavy(job, models, [record.key for record in records]),
        heavy_batch=models["heavy"].forward_tiles,
        sheet_s=sheet_s,
        sheet_s_per_mpx=sheet_s_per_mpx,
    )


def _remove_heavy_reasons(job: Job) -> Job:
    """The same job, but no tile has a reason to be heavy. Tiles are still scored where the run scores them."""
    scenes = {
        name: replace(scene, priority_tiles=find_touched_tiles([], job.lattice(scene)))
        for name, scene in job.scenes.items()
    }
    doubt = None if job.doubt is None else replace(job.doubt, threshold=NEVER)
    return replace(job, scenes=scenes, audit_share=0.0, doubt=doubt)


def _time_bulk(job: Job, worker: Worker, depth: int) -> tuple[list[Record], float]:
    """Do chunks until some have a pixel to label; their records, and the seconds that they took."""
    tiles_per_chunk = (job.chunk_px // job.core_px) ** 2
    num = max(LEAST_CHUNKS, -(-LEAST_TILES // tiles_per_chunk))
    chunks = _order_chunks(job, num * MOST_ROUNDS)
    for start in range(0, len(chunks), num):
        begun_s = time.perf_counter()
        with ThreadPoolExecutor(depth) as threads:
            outcomes = list(threads.map(lambda key: worker.attempt(key, 1), chunks[start : start + num]))
        spent_s = time.perf_counter() - begun_s
        records = [_require_record(outcome) for outcome in outcomes]
        if any(record.measured.tiles.bulk for record in records):
            return [record for record in records if record.measured.tiles.bulk], spent_s
    raise RecipeError(
        "the rehearsal must have a chunk with a valid pixel, but none of its chunks has one",
        where="budget",
        todo="check `nodata` and `aoi`",
    )


def _order_chunks(job: Job, limit: int) -> list[ChunkKey]:
    """The chunks with the smallest hashes, in the order of their hashes."""
    keys = (key for scene in job.scenes.values() for key in job.list_chunks(scene))
    return heapq.nsmallest(limit, keys, key=lambda key: hash_tile("rehearse", key.scene, key.row, key.col))


def _require_record(outcome: object) -> Record:
    if isinstance(outcome, Failure):
        raise RecipeError(
            "a chunk of the rehearsal failed, so a run would fail there too",
            where="budget",
            got=outcome.error,
            todo="repair the cause, or give `heavy_share`, which needs no rehearsal",
        )
    assert isinstance(outcome, Record)
    return outcome


def _time_sheets(job: Job, worker: Worker, records: Sequence[Record]) -> tuple[float, float]:
    """Seconds per sheet and per megapixel: the largest rehearsed chunk becomes a scene of its own."""
    record = max(records, key=lambda record: job.window(record.key).num_px)
    window, layout = job.window(record.key), job.scenes[record.key.scene].zarr
    corner = Window.of(window.rows.start, window.rows.start + 1, window.cols.start, window.cols.start + 1)
    for _ in range(2):  # the first sheet only warms up
        least_s = _time_sheet(job, worker.store, _crop_layout(layout, corner), None)
    small = _crop_layout(layout, window)
    chunk_s = _time_sheet(job, worker.store, small, _move_record(worker.store, record, layout, small, window))
    if window.num_px < LEAST_SHEET_PX:
        return chunk_s, 0.0
    return least_s, max(0.0, chunk_s - least_s) / (window.num_px / 1e6)


def _crop_layout(layout: ZarrLayout, window: Window) -> ZarrLayout:
    return replace(layout, georef=layout.georef.part(window), sheet_px=max(window.shape))


def _time_sheet(job: Job, store: Store, layout: ZarrLayout, record: Record | None) -> float:
    """Seconds for the GeoTIFFs of one chunk, or of a sheet without a record."""
    chunk = ChunkKey(layout.scene, 0, 0)
    work = replace(job.make_sheet_work(SheetKey(layout.scene, 0, 0), [] if record is None else [record]), layout=layout)
    begun_s = time.perf_counter()
    make_sheet(store, work, {chunk: record})
    return time.perf_counter() - begun_s


def _move_record(store: Store, record: Record, layout: ZarrLayout, small: ZarrLayout, window: Window) -> Record:
    """Put the stored objects of a chunk again, under the first rows and columns."""
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


def _time_heavy(job: Job, models: dict[Tier, Model], chunks: Sequence[ChunkKey]) -> float:
    """Seconds per batch of the heavy model, from at most `HEAVY_BATCHES` batches."""
    batch, stopwatch, num_batches = models["heavy"].forward_tiles, _Stopwatch(), 0
    _run_heavy(job, models, chunks[0], batch, _Stopwatch())  # the first call of a model is slow
    for key in chunks:
        num_batches += -(-_run_heavy(job, models, key, HEAVY_BATCHES * batch, stopwatch) // batch)
        if num_batches >= HEAVY_BATCHES:
            break
    return stopwatch.seconds / num_batches


def _run_heavy(job: Job, models: dict[Tier, Model], key: ChunkKey, most: int, stopwatch: _Stopwatch) -> int:
    """Label at most `most` tiles of a chunk, and count them."""
    scene, window = job.scenes[key.scene], job.window(key)
    wanted = read_wanted(job, scene, scene.open_source(), window)
    assert wanted is not None, "a chunk with a labelled tile has a pixel to label"
    tiles = tiles_of(job.lattice(scene), window)
    valid = [at for tile in tiles if wanted.wanted_HW[at := tile.owned.within(window)].any()][:most]
    few_HW = np.zeros_like(wanted.wanted_HW)
    for at in valid:
        few_HW[at] = wanted.wanted_HW[at]
    work = make_work(job, scene, tiles, [HEAVY_BY_UNCERTAINTY] * len(tiles), replace(wanted, wanted_HW=few_HW))
    segment_chunk(work, models, nodata=job.nodata, timed=stopwatch)
    return len(valid)


@dataclass(slots=True)
class _Stopwatch:
    """A timer that adds up the seconds in which a model runs."""

    seconds: float = 0.0

    @contextmanager
    def __call__(self, _tier: Tier, /, *, is_audit: bool = False) -> Iterator[None]:  # noqa: ARG002
        begun_s = time.perf_counter()
        yield
        self.seconds += time.perf_counter() - begun_s
