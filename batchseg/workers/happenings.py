"""Events of a run, as values, for everything that watches it: the log, the progress, the metrics, compaction.

A happening decides nothing; what the run state needs to decide is an event (`workers/events.py`). Each class below is
one kind of line in run/log.jsonl: `log_name` names the kind, and the fields are the keys of the line.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import ClassVar

from batchseg.ledger.keys import Story, TaskKey
from batchseg.ledger.records import TaskRecord
from batchseg.schema import Json, yaml_name
from batchseg.workers.events import FailureKind, LossKind


@dataclass(frozen=True, slots=True, kw_only=True)
class RunBegun:
    log_name: ClassVar = "begun"
    driver: str
    took_over: str | None
    """The dead driver that this one replaced."""
    fingerprint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStopping:
    """A user, a budget or storage stops the run; the tasks in hand are finished."""

    log_name: ClassVar = "stopping"
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEnded:
    log_name: ClassVar = "ended"
    exit_status: int
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FileRemade:
    """A file of the run was damaged, and the run makes it again."""

    log_name: ClassVar = "file_remade"
    file: str
    why: str
    remedy: str
    """The clause that says what follows: "its chunk is computed again"."""

    def __str__(self) -> str:
        return f"{self.file} was damaged ({self.why}); {self.remedy}"


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputLost:
    """Committed objects are gone or have another size; their tasks are done again."""

    log_name: ClassVar = "lost"
    num: int
    tasks: tuple[TaskKey, ...]
    """The first of these tasks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SceneBadlyLaidOut:
    """Reading a scene costs more than it must, because of how its file is laid out."""

    log_name: ClassVar = "badly_laid_out"
    scene: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NodataSuspected:
    """Ground of a scene looks like nodata that nobody declared."""

    log_name: ClassVar = "nodata_suspected"
    scene: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskCommitted:
    """A worker has committed a task's record. The log calls it by the task's kind, like `chunk_committed`."""

    record: TaskRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptFailed:
    log_name: ClassVar = "task_failed"
    task: TaskKey
    worker: str
    error: str
    kind: FailureKind = field(metadata={"key": "what"})


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskQuarantined:
    """A task was given up after its last attempt."""

    log_name: ClassVar = "quarantined"
    task: TaskKey
    story: Story


@dataclass(frozen=True, slots=True, kw_only=True)
class SceneAbsent:
    """A scene cannot be read any more; its chunks wait and are tried last."""

    log_name: ClassVar = "scene_absent"
    scene: str
    num_looks: int
    """The number of times that the run has looked for it in vain."""
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SceneReturned:
    """An absent scene can be read again."""

    log_name: ClassVar = "scene_returned"
    scene: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SceneGivenUp:
    """A scene stayed absent; the next start of the run tries it again."""

    log_name: ClassVar = "scene_given_up"
    scene: str
    story: Story
    num_tasks: int
    """The number of its chunks that are left undone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordForgotten:
    """The record of a damaged chunk was deleted, so that the chunk is computed again."""

    log_name: ClassVar = "forgotten"
    task: TaskKey


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerPlaced:
    """A worker's process runs on a node, and opens its models."""

    log_name: ClassVar = "worker_placed"
    worker: str
    node: str
    usd_per_hour: float


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerOpened:
    """A worker can take tasks."""

    log_name: ClassVar = "worker_ready"
    worker: str
    usd_per_hour: float


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerLeaving:
    """A worker's node will be taken away; the worker gets no more tasks."""

    log_name: ClassVar = "worker_draining"
    worker: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSentHome:
    """A worker without a task was ended, because there was no more work for it."""

    log_name: ClassVar = "worker_retired"
    worker: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerLate:
    """A worker keeps a task for much too long and is ended."""

    log_name: ClassVar = "worker_late"
    worker: str
    task: TaskKey
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerGone:
    """A worker died or was ended, and its tasks go to other workers."""

    log_name: ClassVar = "worker_lost"
    worker: str
    why: str
    kind: LossKind = field(metadata={"key": "what"})
    held: tuple[TaskKey, ...] = ()
    blamed: TaskKey | None = None
    """The task that may be the cause."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkersUnplaced:
    """The cluster has had no room for some workers for a while."""

    log_name: ClassVar = "unplaced"
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SpotNoticed:
    """The cloud will take a node away."""

    log_name: ClassVar = "spot_notice"
    node: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SpotWatcherLost:
    """Nothing watches for spot notices on a node any more."""

    log_name: ClassVar = "watcher_lost"
    node: str
    why: str


Happening = (
    RunBegun
    | RunStopping
    | RunEnded
    | FileRemade
    | OutputLost
    | SceneBadlyLaidOut
    | NodataSuspected
    | TaskCommitted
    | AttemptFailed
    | TaskQuarantined
    | SceneAbsent
    | SceneReturned
    | SceneGivenUp
    | RecordForgotten
    | WorkerPlaced
    | WorkerOpened
    | WorkerLeaving
    | WorkerSentHome
    | WorkerLate
    | WorkerGone
    | WorkersUnplaced
    | SpotNoticed
    | SpotWatcherLost
)


def make_log_entry(happening: Happening) -> dict[str, Json]:
    """The line of the log, without its time: the kind as `event`, then the facts."""
    if isinstance(happening, TaskCommitted):
        return _make_commit_entry(happening.record)
    facts = {yaml_name(f): (getattr(happening, f.name), f.default) for f in fields(happening)}
    return {"event": happening.log_name} | {
        key: _to_json(value) for key, (value, default) in facts.items() if value is not None or default is not None
    }


def _make_commit_entry(record: TaskRecord) -> dict[str, Json]:
    attempt = record.attempt
    return {
        "event": f"{record.key.kind}_committed",
        "task": str(record.key),
        "worker": attempt.worker,
        "attempt": attempt.number,
        "seconds": round(attempt.ended_unix_s - attempt.started_unix_s, 3),
    }


def _to_json(value: object) -> Json:
    """Tasks by their names."""
    if isinstance(value, tuple):
        return [_to_json(item) for item in value]
    return value if value is None or isinstance(value, bool | int | float) else str(value)
