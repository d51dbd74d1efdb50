"""Progress of a run, as numbers. `jobs/terminal/` decides how they are shown."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field

from batchseg.ledger.keys import ChunkKey
from batchseg.ledger.records import Record, SheetRecord, TaskRecord
from batchseg.redact import redact
from batchseg.runs.drive import Stop
from batchseg.workers.happenings import (
    AttemptFailed,
    Happening,
    NodataSuspected,
    OutputLost,
    SceneAbsent,
    SceneBadlyLaidOut,
    SceneGivenUp,
    SceneReturned,
    SpotNoticed,
    TaskCommitted,
    TaskQuarantined,
    WorkerGone,
    WorkerLate,
    WorkerLeaving,
    WorkerOpened,
    WorkerPlaced,
    WorkerSentHome,
    WorkersUnplaced,
)

NUM_HAPPENINGS = 5
"""The number of recent troubles that are shown."""


@dataclass(slots=True, kw_only=True)
class PoolView:
    """Present and past work of one pool of the fleet."""

    name: str
    num_ready: int = 0
    num_starting: int = 0
    """The number of workers that are on a node and open their models."""
    num_draining: int = 0
    num_lost: int = 0
    num_done: int = 0
    """The number of chunks that the pool has committed."""
    valid_px: int = 0
    usd_per_hour: float = 0.0
    """The price of the workers that are there now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """Progress of a run at one moment."""

    num_chunks: int
    num_done: int
    num_failed: int
    num_sheets: int
    num_sheets_done: int
    num_workers: int
    num_draining: int
    """The number of ready workers on nodes that will be taken away."""
    num_preempted: int
    """The number of workers that were lost to a preemption."""
    num_retries: int
    """The number of attempts that failed."""
    message: str | None
    """Advice for the user at this moment, for example that the cluster has no room for a worker."""
    valid_px: int
    elapsed_s: float
    usd: float
    left_s: float | None
    """The expected seconds to the end; None until the first chunk is done."""
    pools: tuple[PoolView, ...] = ()
    happenings: tuple[str, ...] = ()
    """The last things that did not go as they should, the newest at the end."""

    @property
    def chunks_ended(self) -> bool:
        return self.num_done + self.num_failed >= self.num_chunks

    @property
    def sheets_ended(self) -> bool:
        return self.num_sheets_done >= self.num_sheets

    @property
    def mpx_per_s(self) -> float:
        return self.valid_px / 1e6 / self.elapsed_s if self.elapsed_s > 0 else 0.0


@dataclass(slots=True)
class Progress:
    """A watcher that counts what is committed, and stops the run when it has cost as much as it may."""

    num_chunks: int
    num_before: int
    num_sheets: int
    usd_before: float
    head_usd_per_hour: float
    max_usd: float | None
    stop: Stop
    show: Callable[[Snapshot], None]
    now: Callable[[], float] = time.monotonic
    _begun_s: float = field(init=False)
    _first_s: float | None = None
    _done: set[ChunkKey] = field(default_factory=set)
    _num_failed: int = 0
    _num_sheets_done: int = 0
    _valid_px: int = 0
    _workers: set[str] = field(default_factory=set)
    _usd_per_hour: dict[str, float] = field(default_factory=dict)
    """The price of each worker that is on a node, ready or not. A worker without a place costs nothing."""
    _draining: set[str] = field(default_factory=set)
    _usd: float = 0.0
    _paid_s: float = field(init=False)
    _num_preempted: int = 0
    _num_retries: int = 0
    _message: str | None = None
    _happenings: deque[str] = field(default_factory=lambda: deque(maxlen=NUM_HAPPENINGS))
    _chunks_by_pool: Counter[str] = field(default_factory=Counter)
    _px_by_pool: Counter[str] = field(default_factory=Counter)
    _lost_by_pool: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._begun_s = self._paid_s = self.now()

    def notice(self, happening: Happening) -> None:
        self._pay()
        trouble = _describe_trouble(happening)
        if trouble is not None:
            self._happenings.append(f"{time.strftime('%H:%M:%S')} {redact(trouble)}")
        match happening:
            case TaskCommitted(record=record):
                self._count_record(record)
            case AttemptFailed():
                self._num_retries += 1
            case TaskQuarantined():
                self._num_failed += 1
            case WorkersUnplaced(why=why):
                self._message = redact(why)
            case SceneAbsent(scene=scene):
                self._message = f"scene {scene} cannot be read; its chunks wait"
            case SceneReturned():
                self._message = None
            case SceneGivenUp(num_tasks=num_tasks):
                self._message = None
                self._num_failed += num_tasks
            case _:
                self._count_worker(happening)

    def _count_worker(self, happening: Happening) -> None:
        match happening:
            case WorkerPlaced(worker=worker, usd_per_hour=usd_per_hour):
                self._usd_per_hour[worker] = usd_per_hour
            case WorkerOpened(worker=worker, usd_per_hour=usd_per_hour):
                self._workers.add(worker)
                self._usd_per_hour[worker] = usd_per_hour
                self._first_s = self._first_s or self.now()
                self._message = None
            case WorkerLeaving(worker=worker):
                self._draining.add(worker)
            case WorkerGone(worker=worker, kind=kind):
                self._drop_worker(worker)
                self._lost_by_pool[read_pool_name(worker)] += 1
                self._num_preempted += kind == "preemption"
            case WorkerSentHome(worker=worker):
                self._drop_worker(worker)
            case _:
                pass

    def _drop_worker(self, worker: str) -> None:
        self._workers.discard(worker)
        self._usd_per_hour.pop(worker, None)
        self._draining.discard(worker)

    def _pay(self) -> None:
        """Add the cost of the time since the last call, at the price of the workers that were there."""
        now_s = self.now()
        self._usd += (now_s - self._paid_s) * (self.head_usd_per_hour + sum(self._usd_per_hour.values())) / 3600
        self._paid_s = now_s

    def _count_record(self, record: TaskRecord) -> None:
        if isinstance(record, Record):
            self._done.add(record.key)  # a chunk that was found damaged is committed twice
            self._valid_px += record.measured.valid_px
            self._chunks_by_pool[record.attempt.pool] += 1
            self._px_by_pool[record.attempt.pool] += record.measured.valid_px
        elif isinstance(record, SheetRecord):
            self._num_sheets_done += 1

    def tick(self) -> None:
        snapshot = self.snapshot()
        if self.max_usd is not None and snapshot.usd >= self.max_usd:
            self.stop.request("budget")
        self.show(snapshot)

    def snapshot(self) -> Snapshot:
        self._pay()
        elapsed_s = self.now() - self._begun_s
        left = self.num_chunks - self.num_before - len(self._done) - self._num_failed
        working_s = self.now() - self._first_s if self._first_s is not None else 0.0
        return Snapshot(
            num_chunks=self.num_chunks,
            num_done=self.num_before + len(self._done),
            num_failed=self._num_failed,
            num_sheets=self.num_sheets,
            num_sheets_done=self._num_sheets_done,
            num_workers=len(self._workers),
            num_draining=len(self._draining & self._workers),
            num_preempted=self._num_preempted,
            num_retries=self._num_retries,
            message=self._message,
            valid_px=self._valid_px,
            elapsed_s=elapsed_s,
            usd=self.usd_before + self._usd,
            left_s=working_s / len(self._done) * left if self._done else None,
            pools=self._pools(),
            happenings=tuple(self._happenings),
        )

    def _pools(self) -> tuple[PoolView, ...]:
        pools: dict[str, PoolView] = {}
        for worker, usd_per_hour in self._usd_per_hour.items():
            pool = pools.setdefault(read_pool_name(worker), PoolView(name=read_pool_name(worker)))
            pool.usd_per_hour += usd_per_hour
            pool.num_ready += worker in self._workers
            pool.num_starting += worker not in self._workers
            pool.num_draining += worker in self._draining
        for name in {*self._chunks_by_pool, *self._lost_by_pool}:
            pool = pools.setdefault(name, PoolView(name=name))
            pool.num_done, pool.valid_px = self._chunks_by_pool[name], self._px_by_pool[name]
            pool.num_lost = self._lost_by_pool[name]
        return tuple(pools[name] for name in sorted(pools))


def read_pool_name(worker: str) -> str:
    """The name of a worker's pool, which its own name begins with."""
    return worker.rpartition("-")[0]


def _describe_trouble(happening: Happening) -> str | None:
    """A line like `worker lost gpu-1: spot` where something did not go as it should; None for everything else."""
    match happening:
        case AttemptFailed(worker=subject, error=why):
            pass
        case WorkerGone(worker=subject, why=why) | WorkerLeaving(worker=subject, why=why):
            pass
        case WorkerLate(worker=subject, why=why) | SpotNoticed(node=subject, why=why):
            pass
        case SceneBadlyLaidOut(scene=subject, why=why) | NodataSuspected(scene=subject, why=why):
            pass
        case SceneAbsent(scene=subject, why=why):
            pass
        case SceneReturned(scene=subject):
            why = "its chunks are tried again"
        case SceneGivenUp(scene=subject, num_tasks=num_tasks):
            why = f"{num_tasks} chunks are left undone"
        case TaskQuarantined(task=task, story=story):
            subject, why = str(task), story[-1] if story else ""
        case OutputLost(num=num):
            subject, why = f"output of {num} tasks", "they are done again"
        case _:
            return None
    first_line = why.splitlines()[0] if why else ""
    return f"{happening.log_name.replace('_', ' ')} {subject}: {first_line}".removesuffix(": ")
