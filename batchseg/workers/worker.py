"""A worker: does one task at a time, or several at once, and says what it cost. In this process or in a Ray actor.

Theory of operation
-------------------
`attempt` may be called from several threads. Reading and writing then overlap with another task's compute, while all
compute runs on one thread of its own, so the device never sees two chunks at once and the models' threads are set once.
Models are opened on that thread too: a worker that has only begun may be given tasks, which read meanwhile.
Whatever a task raises ends here, at the worker's edge: it becomes a Failure that the run state can judge.

The order of one chunk: read, route, predict, measure, put the stored chunks, then the record (invariant I3). A chunk
without a pixel to label gets a record too (invariant I6).
"""

from __future__ import annotations

import platform
import resource
import secrets
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

from batchseg.engine.chunk import ChunkWork, Prediction
from batchseg.engine.route import is_audited
from batchseg.engine.segment import Model, Timer, make_blank, segment_chunk
from batchseg.errors import RefusedError, StorageError
from batchseg.layers import take_layers
from batchseg.ledger.keys import ChunkKey, SheetKey, TaskKey
from batchseg.ledger.ledger import Ledger
from batchseg.ledger.records import Attempt, Record, SheetRecord, Stint
from batchseg.ledger.stages import Stage, StageClock, paid_s
from batchseg.output.sheet import make_sheet
from batchseg.output.stored import write_chunk
from batchseg.resolve.job import Job, SceneJob
from batchseg.resolve.routing import assign_tier_codes, make_fade
from batchseg.scene.pixels import Source
from batchseg.store import Store, find_refusal
from batchseg.tiers import DeviceKind, Tier
from batchseg.workers.failure import Failure, failure_of, is_out_of_memory
from batchseg.workers.heartbeat import Heartbeat
from batchseg.workers.measure import measure
from batchseg.workers.wanted import read_wanted
from tiling.grid import Tile, tiles_of
from tiling.span import Window

BEAT_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSpec:
    name: str
    pool: str
    device: DeviceKind
    usd_per_hour: float

    @classmethod
    def new(cls, *, pool: str, device: DeviceKind, usd_per_hour: float) -> WorkerSpec:
        """A name that no other worker ever had: it is also the name of the stint."""
        name = f"{pool}-{secrets.token_hex(4)}"
        return cls(name=name, pool=pool, device=device, usd_per_hour=usd_per_hour)


OpenModels = Callable[[Job, WorkerSpec], tuple[dict[Tier, Model], dict[str, str]]]
"""Opens the models of a job on a device, and names the numeric environment."""


@dataclass(slots=True)
class Worker:
    spec: WorkerSpec
    job: Job
    store: Store
    open_models: OpenModels
    open_source: Callable[[SceneJob], Source] = SceneJob.open_source
    clock: StageClock = field(default_factory=StageClock)
    beat_s: float = BEAT_S
    _begun_unix_s: float = field(default_factory=time.time)
    _start_s: float = 0.0
    _waste_s: float = 0.0
    _failures: list[str] = field(default_factory=list)
    _models: dict[Tier, Model] = field(default_factory=dict)
    _environment: dict[str, str] = field(default_factory=dict)
    _sources: dict[str, Source] = field(default_factory=dict)
    _device: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, thread_name_prefix="device"))
    _opening: Future[None] | None = None
    _heartbeat: Heartbeat | None = None
    _last_tier: Tier | None = None
    """That the device computed last; only the device's one thread sets it."""

    def open(self) -> Worker:
        self.begin().check(wait=True)
        return self

    def begin(self) -> Worker:
        self._opening = self._device.submit(self._open)
        return self

    def check(self, *, wait: bool = False) -> None:
        """Raise what kept the models from being opened."""
        if self._opening is not None and (wait or self._opening.done()):
            self._opening.result()

    def close(self) -> None:
        self._device.shutdown()
        if self._heartbeat is None:
            return  # it was never open
        self._heartbeat.__exit__(None, None, None)
        self._beat(ended=True)

    def _open(self) -> None:
        """It is paid for from the first moment, so it beats from the first moment, ready or not."""
        self._beat(ended=False)
        with ExitStack() as failing:
            self._heartbeat = failing.enter_context(Heartbeat(lambda: self._beat(ended=False), every_s=self.beat_s))
            with self.clock.stage("start", "start"):
                self._models, self._environment = self.open_models(self.job, self.spec)
            self._start_s = self.clock.take("start").get("start", 0.0)
            self._beat(ended=False)
            failing.pop_all()  # from now on `close` ends it

    def attempt(self, task: TaskKey, number: int) -> Record | SheetRecord | Failure:
        """Do a task. Never raises for what the task did: this is the worker's edge."""
        try:
            record = self._run(task, number)
        except Exception as error:  # noqa: BLE001 - the one place where anything becomes a failure of its task
            failure = self._failure_of(error, task)
            self._waste_s += paid_s(self.clock.take(str(task)))
            self._failures.append(f"{task}, attempt {number}: {failure.error}")
            self._beat(ended=False)
            return failure
        self._beat(ended=False)
        return record

    def _run(self, task: TaskKey, number: int) -> Record | SheetRecord:
        if isinstance(task, SheetKey):
            return self._make_sheet(task, number)
        if number > 1:
            # The one who had it before may have died between its record and its report.
            committed = self._ledger.read_single_record(task)
            if committed is not None:
                return committed
        return self._segment(task, number)

    def _segment(self, key: ChunkKey, number: int) -> Record:
        begun_unix_s, name = time.time(), str(key)
        scene, window = self.job.scenes[key.scene], self.job.window(key)
        prediction = self._predict(scene, window, name)
        with self.clock.stage("write", name):
            measured = measure(self.job, scene, prediction)
            layers = take_layers(scene.zarr.layers, prediction)
            objects = write_chunk(self.store, scene.zarr, window, layers, delete_empty=number > 1)
        record = Record(
            key=key,
            fingerprint=self.job.fingerprint,
            kind="done" if measured.valid_px else "empty",
            objects=objects,
            measured=measured,
            attempt=self._attempt(number, begun_unix_s, name),
        )
        self._ledger.commit(record)
        return record

    def _predict(self, scene: SceneJob, window: Window, task: str) -> Prediction:
        """In a function of its own, so that the pixels are gone before anything is written."""
        tiles = tiles_of(self.job.lattice(scene), window)
        with self.clock.stage("read", task):
            wanted = read_wanted(self.job, scene, self._source(scene), window)
        if wanted is None:
            return self._blank(window, tiles)
        work = ChunkWork(
            window=window,
            tiles=tiles,
            tier_codes=assign_tier_codes(self.job, scene, tiles),
            pixels=wanted.pixels,
            wanted_HW=wanted.wanted_HW,
            scene_shape_px=scene.shape_px,
            rules=scene.rules,
            doubt=self.job.doubt,
            audited=tuple(is_audited(scene.name, t.row, t.col, self.job.audit_share) for t in tiles),
            fade=make_fade(self.job, scene, tiles, window),
        )
        return self._device.submit(self._compute, work, task).result()

    def _blank(self, window: Window, tiles: list[Tile]) -> Prediction:
        """Without a turn on the device, but not before its models are open: they give the layer its type."""
        self.check(wait=True)
        return make_blank(window, tiles, self._models, self.job.nodata)

    def _compute(self, work: ChunkWork, task: str) -> Prediction:
        self.check()
        return segment_chunk(work, self._models, nodata=self.job.nodata, timed=self._timer(task))

    def _timer(self, task: str) -> Timer:
        stages: dict[Tier, Stage] = {"bulk": "compute_bulk", "heavy": "compute_heavy"}

        def timed(tier: Tier, *, is_audit: bool = False) -> AbstractContextManager[None]:
            self._last_tier = tier
            return self.clock.stage("audit" if is_audit else stages[tier], task)

        return timed

    def _source(self, scene: SceneJob) -> Source:
        source = self._sources.get(scene.name)
        if source is None:
            source = self._sources.setdefault(scene.name, self.open_source(scene))
        return source

    def _make_sheet(self, key: SheetKey, number: int) -> SheetRecord:
        begun_unix_s, name = time.time(), str(key)
        with self.clock.stage("write", name):
            chunks = self.job.list_sheet_chunks(key)
            committed = self._ledger.find_records(chunks)
            records, present = {chunk: committed.get(chunk) for chunk in chunks}, list(committed.values())
            sheet = make_sheet(self.store, self.job.sheet_work(key, present), records)
        record = SheetRecord(
            key=key,
            fingerprint=self.job.fingerprint,
            inputs_digest=sheet.inputs_digest,
            missing=sheet.missing,
            objects=sheet.objects,
            seams=sheet.seams,
            edges=sheet.edges,
            attempt=self._attempt(number, begun_unix_s, name),
        )
        self._ledger.commit(record)
        return record

    def _attempt(self, number: int, begun_unix_s: float, task: str) -> Attempt:
        return Attempt(
            number=number,
            worker=self.spec.name,
            pool=self.spec.pool,
            device=self.spec.device,
            environment=self._environment,
            usd_per_hour=self.spec.usd_per_hour,
            started_unix_s=begun_unix_s,
            ended_unix_s=time.time(),
            seconds={stage: round(s, 6) for stage, s in sorted(self.clock.take(task).items())},
        )

    @property
    def _ledger(self) -> Ledger:
        return Ledger(self.store)

    def _failure_of(self, error: Exception, task: TaskKey) -> Failure:
        if not is_out_of_memory(error):
            return failure_of(find_refusal(self.store, error) or error)
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        return Failure(error=self._out_of_memory(first, task), retryable=True, kind="out_of_memory")

    def _out_of_memory(self, first: str, task: TaskKey) -> str:
        """What was being done, and what to lower."""
        tier, chunk = self._last_tier, f"{task} with chunks of {self.job.chunk_px} px"
        if tier is None or isinstance(task, SheetKey):
            return f"out of memory on {self.spec.device} in {chunk}: {first}. Lower `tiling: chunk`"
        model, batch = Path(self.job.models[tier].ref).name, self._models[tier].segmenter.batch
        return (
            f"out of memory on {self.spec.device} in {chunk}, {tier} model {model}, batch {batch}: {first}. "
            "Lower the batch in the bundle's numerics, or `tiling: chunk`, or give the pool larger machines"
        )

    def _beat(self, *, ended: bool) -> None:
        with suppress(OSError, StorageError, RefusedError):  # the next beat tells more, and no task fails for one
            self._write_beat(ended=ended)

    def _write_beat(self, *, ended: bool) -> None:
        self._ledger.write_stint(
            Stint(
                worker=self.spec.name,
                pool=self.spec.pool,
                host=platform.node(),
                device=self.spec.device,
                usd_per_hour=self.spec.usd_per_hour,
                begun_unix_s=self._begun_unix_s,
                beat_unix_s=time.time(),
                ended=ended,
                start_s=self._start_s,
                idle_s=self.clock.idle_s,
                waste_s=self._waste_s,
                in_hand_s=self.clock.in_hand_s(),
                peak_rss_bytes=peak_rss_bytes(),
                failures=tuple(self._failures),
            )
        )


def peak_rss_bytes() -> int:
    """The most memory this process ever held; the kernel counts it in KiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
