"""The events that the run state takes in, and the instructions that it gives back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from batchseg.ledger.keys import TaskKey
from batchseg.tiers import Tier

FailureKind = Literal["failure", "out_of_memory", "refused", "absent"]
"""Reason of a failed attempt.

refused   storage refuses every worker, so the run stops and the task waits for a resume
absent    nobody can read the task's scene for now, which says nothing about the task
"""
LossKind = Literal["preemption", "failure", "out_of_memory"]


@dataclass(frozen=True, slots=True)
class WorkerReady:
    """A worker can take tasks."""

    worker: str
    usd_per_hour: float = 0.0
    only: Tier | None = None
    """The only tier that the worker has; it takes only chunks that need no other tier."""


@dataclass(frozen=True, slots=True)
class WorkerDraining:
    """A worker will be taken away: it gets no more tasks, and finishes those that it holds if there is time."""

    worker: str
    why: str = "its node is going away"


@dataclass(frozen=True, slots=True)
class WorkerRetired:
    """A worker without a task was ended on purpose."""

    worker: str
    why: str


@dataclass(frozen=True, slots=True)
class WorkerLost:
    """A worker is gone, with the tasks that it held."""

    worker: str
    why: str
    kind: LossKind = "preemption"
    blamed: TaskKey | None = None
    """The task that a loss other than a preemption counts against; None: it counts against all tasks that it held."""


@dataclass(frozen=True, slots=True)
class TaskDone:
    """A worker has committed a task."""

    worker: str
    task: TaskKey


@dataclass(frozen=True, slots=True)
class TaskFailed:
    """An attempt at a task failed; the worker lives."""

    worker: str
    task: TaskKey
    error: str
    retryable: bool
    kind: FailureKind = "failure"
    undone: tuple[TaskKey, ...] = ()
    """The committed tasks whose output this attempt found damaged; they must be done again first."""


@dataclass(frozen=True, slots=True)
class StopFeeding:
    """Assign no more tasks, and finish when those in hand have ended."""

    why: str


@dataclass(frozen=True, slots=True)
class StopWaiting:
    """Finish now, without the tasks in hand; it comes after `StopFeeding`."""


@dataclass(frozen=True, slots=True)
class SceneDue:
    """It is time to look for an absent scene again."""

    scene: str


Event = (
    WorkerReady
    | WorkerDraining
    | WorkerRetired
    | WorkerLost
    | TaskDone
    | TaskFailed
    | StopFeeding
    | StopWaiting
    | SceneDue
)


@dataclass(frozen=True, slots=True)
class Assign:
    """Give a task to a worker."""

    worker: str
    task: TaskKey
    attempt: int


@dataclass(frozen=True, slots=True)
class Dismiss:
    """End a worker; its loss gives back the tasks that it holds."""

    worker: str
    why: str


@dataclass(frozen=True, slots=True)
class Quarantine:
    """Give a task up, with the story of its attempts."""

    task: TaskKey
    story: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AwaitScene:
    """Send a `SceneDue` after a while: the scene is absent, and its tasks wait."""

    scene: str
    num_looks: int
    """The number of times that the run has looked for it in vain."""
    why: str


@dataclass(frozen=True, slots=True)
class ReopenScene:
    """An absent scene is back; nothing is due for it any more."""

    scene: str


@dataclass(frozen=True, slots=True)
class GiveUpScene:
    """Give an absent scene up, with one story for all of its tasks."""

    scene: str
    story: tuple[str, ...]
    num_tasks: int
    """The number of its tasks that are left undone."""


@dataclass(frozen=True, slots=True)
class Finish:
    """The run has ended."""

    quarantined: int
    """The number of tasks that were given up."""
    stopped: str | None
    """The cause that stopped the run before its last task; None for a run that came to its end."""


Instruction = Assign | Dismiss | Quarantine | AwaitScene | ReopenScene | GiveUpScene | Finish
