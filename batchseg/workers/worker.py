"""A worker: performs tasks, several at once, and keeps account of its time. In this process or in a Ray actor.

Theory of operation
-------------------
`attempt` may be called from several threads. Reading and writing then overlap with another task's compute, while all
compute runs on one thread of its own. So the device never sees two chunks at once, and the models' threads are set
once. Models are opened on that thread too: a worker may be given tasks before its models are open, and reads meanwhile.
Any error of a task ends here, at the worker's edge: it becomes a Failure that the run state can judge. How a task of
each kind is performed is in `tasks/`.
"""

from __future__ import annotations

import platform
import resource
import secrets
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import AbstractContextManager, ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

from batchseg.clock import Moment
from batchseg.engine.chunk import ChunkWork, Prediction
from batchseg.engine.segment import Model, Timer, make_blank, segment_chunk
from batchseg.errors import RefusedError, StorageError, TaskError
from batchseg.ledger.keys import TaskKey
from batchseg.ledger.ledger import Ledger
from batchseg.ledger.records import Attempt, Stint, TaskRecord
from batchseg.ledger.stages import Stage, StageClock, sum_paid_s
from batchseg.patient_threads import PatientThreads
from batchseg.resolve.job import Job, SceneJob
from batchseg.scene.limited_source import READ_S, LimitedSource
from batchseg.scene.pixels import Source
from batchseg.store import Store, find_refusal
from batchseg.tasks.table import find_kind
from batchseg.tiers import DeviceKind, Tier
from batchseg.workers.failure import Failure, is_out_of_memory, make_failure
from batchseg.workers.heartbeat import Heartbeat
from tiling.grid import Tile
from tiling.span import Window

BEAT_S = 30.0
CLOSE_S = 5.0
"""Time that a worker which is closed waits for its device."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSpec:
    """A worker's name, and the place and price that its pool gives it."""

    name: str
    pool: str
    device: DeviceKind
    usd_per_hour: float
    read_s: float = READ_S
    """Time limit of one read."""

    @classmethod
    def new(cls, *, pool: str, device: DeviceKind, usd_per_hour: float, read_s: float = READ_S) -> WorkerSpec:
        """A worker with a name that no other worker ever had; its stint has the same name."""
        name = f"{pool}-{secrets.token_hex(4)}"
        return cls(name=name, pool=pool, device=device, usd_per_hour=usd_per_hour, read_s=read_s)


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
    _begun: Moment = field(default_factory=Moment.now)
    _start_s: float = 0.0
    _waste_s: float = 0.0
    _failures: list[str] = field(default_factory=list)
    _models: dict[Tier, Model] = field(default_factory=dict)
    _environment: dict[str, str] = field(default_factory=dict)
    _sources: dict[str, Source] = field(default_factory=dict)
    _device: PatientThreads = field(default_factory=lambda: PatientThreads(1, "device"))
    _opening: Future[None] | None = None
    _heartbeat: Heartbeat | None = None
    _is_left: bool = False
    """True if the pool has given this worker up, while a task of it hangs."""
    _last_tier: Tier | None = None
    """The tier that the device computed last; only the device's thread sets it."""

    def open(self) -> Worker:
        """Open the models and wait for them."""
        self.begin().check(wait=True)
        return self

    def begin(self) -> Worker:
        """Begin to open the models, and wait for nothing."""
        self._opening = self._device.submit(self._open)
        return self

    def check(self, *, wait: bool = False) -> None:
        """Raise the error that kept the models from being opened, if there was one."""
        if self._opening is not None and (wait or self._opening.done()):
            self._opening.result()

    def leave(self) -> None:
        """Give the worker up without waiting for its tasks. What still runs of them commits nothing."""
        self._is_left = True
        self._device.close(0.0)
        self._models = {}
        if self._heartbeat is not None:
            self._heartbeat.stop()

    def close(self) -> None:
        self._device.close(CLOSE_S)
        if self._heartbeat is None:
            return  # it was never open
        self._heartbeat.__exit__(None, None, None)
        self._beat(ended=True)

    def _open(self) -> None:
        """A worker costs money from its first moment, so it beats from its first moment, ready or not."""
        self._beat(ended=False)
        with ExitStack() as failing:
            self._heartbeat = failing.enter_context(Heartbeat(lambda: self._beat(ended=False), every_s=self.beat_s))
            with self.clock.stage("start", "start"):
                self._models, self._environment = self.open_models(self.job, self.spec)
            self._start_s = self.clock.take("start").get("start", 0.0)
            self._beat(ended=False)
            failing.pop_all()  # from now on `close` ends it

    def attempt(self, task: TaskKey, number: int) -> TaskRecord | Failure:
        """Perform a task. Never raises for what the task did: this is the worker's edge."""
        try:
            record: TaskRecord = find_kind(task).perform(self, task, number)
        except Exception as error:  # noqa: BLE001 - the one place where any error becomes a failure of its task
            failure = self._make_failure(error, task)
            self._waste_s += sum_paid_s(self.clock.take(str(task)))
            self._failures.append(f"{task}, attempt {number}: {failure.error}")
            self._beat(ended=False)
            return failure
        self._beat(ended=False)
        return record

    # What a task may use of a worker: the Workbench of tasks/kind.py.

    def get_source(self, scene: SceneJob) -> Source:
        source = self._sources.get(scene.name)
        if source is None:
            limited = LimitedSource.of(self.open_source(scene), scene.raster.url, self.spec.read_s)
            source = self._sources.setdefault(scene.name, limited)
        return source

    def predict(self, work: ChunkWork, task: str) -> Prediction:
        return self._device.submit(lambda: self._compute(work, task)).result()

    def predict_blank(self, window: Window, tiles: list[Tile]) -> Prediction:
        """Takes no turn on the device, but waits until the models are open: they give the layer its type."""
        self.check(wait=True)
        return make_blank(window, tiles, self._models, self.job.nodata)

    def describe_attempt(self, number: int, begun: Moment, task: str) -> Attempt:
        if self._is_left:
            raise TaskError("the worker was ended before its task", where=task)
        return Attempt(
            number=number,
            worker=self.spec.name,
            pool=self.spec.pool,
            device=self.spec.device,
            environment=self._environment,
            usd_per_hour=self.spec.usd_per_hour,
            # By the worker's own steady clock, as the length of its life is, so that the two can be compared.
            started_unix_s=self._begun.unix_s + begun.steady_s - self._begun.steady_s,
            ended_unix_s=self._begun.unix_s + self._begun.measure_age_s(),
            seconds={stage: round(s, 6) for stage, s in sorted(self.clock.take(task).items())},
        )

    def _compute(self, work: ChunkWork, task: str) -> Prediction:
        self.check()
        return segment_chunk(work, self._models, nodata=self.job.nodata, timed=self._timer(task))

    def _timer(self, task: str) -> Timer:
        stages: dict[Tier, Stage] = {"bulk": "compute_bulk", "heavy": "compute_heavy"}

        def time_tier(tier: Tier, *, is_audit: bool = False) -> AbstractContextManager[None]:
            self._last_tier = tier
            return self.clock.stage("audit" if is_audit else stages[tier], task)

        return time_tier

    def _make_failure(self, error: Exception, task: TaskKey) -> Failure:
        if not is_out_of_memory(error):
            return make_failure(find_refusal(self.store, error) or error)
        first_line = str(error).splitlines()[0] if str(error) else type(error).__name__
        text = self._describe_out_of_memory(first_line, task)
        return Failure(error=text, retryable=True, kind="out_of_memory")

    def _describe_out_of_memory(self, error: str, task: TaskKey) -> str:
        """Describe the worker's step, and the setting that the user can lower."""
        tier, chunk = self._last_tier, f"{task} with chunks of {self.job.chunk_px} px"
        if tier is None or not find_kind(task).uses_models:
            return f"out of memory on {self.spec.device} in {chunk}: {error}. Lower `tiling: chunk`"
        model, batch = Path(self.job.models[tier].ref).name, self._models[tier].segmenter.batch
        return (
            f"out of memory on {self.spec.device} in {chunk}, {tier} model {model}, batch {batch}: {error}. "
            "Lower the batch in the bundle's numerics, or `tiling: chunk`, or give the pool larger machines"
        )

    def _beat(self, *, ended: bool) -> None:
        """No task fails for a heartbeat that cannot be written; the next one has the same facts."""
        if self._is_left:
            return
        with suppress(OSError, StorageError, RefusedError):
            Ledger(self.store).write_stint(self._describe_stint(ended=ended))

    def _describe_stint(self, *, ended: bool) -> Stint:
        return Stint(
            worker=self.spec.name,
            pool=self.spec.pool,
            host=platform.node(),
            device=self.spec.device,
            usd_per_hour=self.spec.usd_per_hour,
            begun_unix_s=self._begun.unix_s,
            beat_unix_s=time.time(),
            lived_s=self._begun.measure_age_s(),
            ended=ended,
            start_s=self._start_s,
            idle_s=self.clock.idle_s,
            waste_s=self._waste_s,
            in_hand_s=self.clock.in_hand_s(),
            peak_rss_bytes=read_peak_rss_bytes(),
            failures=tuple(self._failures),
        )


def read_peak_rss_bytes() -> int:
    """The most memory this process ever held; the kernel counts it in KiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
