"""Ray's metrics of a run, which every node's Prometheus endpoint shows: counters with few labels and no names."""

from __future__ import annotations

from functools import cached_property

from ray.util.metrics import Counter, Gauge

from batchseg.ledger.keys import ChunkKey
from batchseg.ledger.records import Record, TaskRecord
from batchseg.ledger.stages import STAGES
from batchseg.runs.progress import Snapshot
from batchseg.workers.happenings import (
    AttemptFailed,
    Happening,
    SceneGivenUp,
    TaskCommitted,
    TaskQuarantined,
    WorkerGone,
)


class _Meters:
    def __init__(self) -> None:
        self.chunks = Counter("batchseg_chunks", "Chunks by outcome: done, empty, failed.", ("outcome",))
        self.tiles = Counter("batchseg_tiles", "Tiles by tier.", ("tier",))
        self.stages = Counter("batchseg_stage_seconds", "Paid seconds of committed work by stage.", ("stage",))
        self.usd = Gauge("batchseg_usd", "Dollars that the run has cost so far.")
        self.retries = Counter("batchseg_retries", "Attempts that failed, by kind.", ("kind",))
        self.preemptions = Counter("batchseg_preemptions", "Workers lost to preemptions.")
        self.workers = Gauge("batchseg_workers", "Workers that are ready.")


class RayMetrics:
    """A watcher of a run on Ray. It makes its meters at the first happening, since Ray runs by then."""

    @cached_property
    def _meters(self) -> _Meters:
        return _Meters()

    def notice(self, happening: Happening) -> None:
        match happening:
            case TaskCommitted(record=record):
                self._count_record(record)
            case AttemptFailed(kind=kind):
                self._meters.retries.inc(1, {"kind": kind})
            case WorkerGone(kind="preemption"):
                self._meters.preemptions.inc(1)
            case TaskQuarantined(task=ChunkKey()):
                self._meters.chunks.inc(1, {"outcome": "failed"})
            case SceneGivenUp(num_tasks=num_tasks):
                self._meters.chunks.inc(num_tasks, {"outcome": "failed"})
            case _:
                pass

    def _count_record(self, record: TaskRecord) -> None:
        for stage in STAGES:
            seconds = record.attempt.seconds.get(stage, 0.0)
            if seconds > 0:
                self._meters.stages.inc(seconds, {"stage": stage})
        if not isinstance(record, Record):
            return
        self._meters.chunks.inc(1, {"outcome": record.kind})
        tiles = record.measured.tiles
        for tier, num in (("bulk", tiles.bulk), ("heavy", tiles.heavy), ("skipped", tiles.skipped)):
            if num:
                self._meters.tiles.inc(num, {"tier": tier})

    def tick(self) -> None:
        """Nothing is due: dollars and workers come with `show`."""

    def show(self, snapshot: Snapshot) -> None:
        self._meters.usd.set(snapshot.usd)
        self._meters.workers.set(snapshot.num_workers)
