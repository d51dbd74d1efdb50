"""The chunk: read its pixels, route and predict its tiles, measure the result, and store it.

The order of one chunk: read, route, predict, measure, put the stored chunks, then the record (invariant I3). A chunk
without a pixel to label gets a record too (invariant I6).
"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Set as AbstractSet

from batchseg.clock import Moment
from batchseg.engine.chunk import ChunkWork, Prediction
from batchseg.engine.route import is_audited
from batchseg.layers import take_layers
from batchseg.ledger.keys import ChunkKey, TaskKey
from batchseg.ledger.ledger import Ledger
from batchseg.ledger.records import Record
from batchseg.output.stored import write_chunk
from batchseg.resolve.job import SceneJob
from batchseg.resolve.routing import assign_tier_codes, make_chunk_need_rule, make_fade
from batchseg.tasks.kind import Survey, TaskKind, Workbench
from batchseg.tasks.measure import measure
from batchseg.tasks.wanted import read_wanted
from tiling.grid import tiles_of
from tiling.span import Window

NOTHING: frozenset[TaskKey] = frozenset()


def find_pending_chunks(survey: Survey) -> Iterator[tuple[ChunkKey, AbstractSet[TaskKey]]]:
    """The chunks that are wanted, not committed and not given up; they wait for nothing."""
    survey.check_recipe(survey.committed_chunks.values())
    for scene in survey.job.scenes.values():
        for key in survey.job.list_chunks(scene):
            if key not in survey.committed_chunks and key not in survey.given_up and survey.is_wanted(key):
                yield key, NOTHING


def perform_chunk(bench: Workbench, key: ChunkKey, number: int) -> Record:
    ledger = Ledger(bench.store)
    if number > 1:
        # An earlier worker may have died between its record and its report.
        committed = ledger.read_single_record(key)
        if committed is not None:
            return committed
    begun, name = Moment.now(), str(key)
    scene, window = bench.job.scenes[key.scene], bench.job.window(key)
    prediction = _predict(bench, scene, window, name)
    with bench.clock.stage("write", name):
        measured = measure(bench.job, scene, prediction)
        layers = take_layers(scene.zarr.layers, prediction)
        objects = write_chunk(bench.store, scene.zarr, window, layers, delete_empty=number > 1)
    record = Record(
        key=key,
        fingerprint=bench.job.fingerprint,
        kind="done" if measured.valid_px else "empty",
        objects=objects,
        measured=measured,
        attempt=bench.describe_attempt(number, begun, name),
    )
    ledger.commit(record)
    return record


def _predict(bench: Workbench, scene: SceneJob, window: Window, task: str) -> Prediction:
    """In a function of its own, so that the pixels are gone before anything is written."""
    job = bench.job
    tiles = tiles_of(job.lattice(scene), window)
    with bench.clock.stage("read", task):
        wanted = read_wanted(job, scene, bench.get_source(scene), window)
    if wanted is None:
        return bench.predict_blank(window, tiles)
    work = ChunkWork(
        window=window,
        tiles=tiles,
        tier_codes=assign_tier_codes(job, scene, tiles),
        pixels=wanted.pixels,
        wanted_HW=wanted.wanted_HW,
        scene_shape_px=scene.shape_px,
        rules=scene.rules,
        doubt=job.doubt,
        audited=tuple(is_audited(scene.name, t.row, t.col, job.audit_share) for t in tiles),
        fade=make_fade(job, scene, tiles, window),
    )
    return bench.predict(work, task)


CHUNKS = TaskKind(
    key_type=ChunkKey,
    perform=perform_chunk,
    find_pending=find_pending_chunks,
    read_records=Ledger.read_records,
    uses_models=True,
    make_need_rule=make_chunk_need_rule,
)
