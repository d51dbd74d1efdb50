"""What can happen to a run, and what its state can ask for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from batchseg.ledger.keys import TaskKey
from batchseg.tiers import Tier

FailureKind = Literal["failure", "out_of_memory", "refused"]
"""`refused`: storage turns every worker away. The task waits for a resume, and the run stops."""
LossKind = Literal["preemption", "failure", "out_of_memory"]


@dataclass(frozen=True, slots=True)
class WorkerReady:
    worker: str
    usd_per_hour: float = 0.0
    only: Tier | None = None
    """It takes only chunks that are known to need no other tier."""


@dataclass(frozen=True, slots=True)
class WorkerDraining:
    """The worker will be taken away: feed it no more, let what it holds end if there is time."""

    worker: str
    why: str = "its node is going away"


@dataclass(frozen=True, slots=True)
class WorkerRetired:
    """A worker without a task was sent home."""

    worker: str
    why: str


@dataclass(frozen=True, slots=True)
class WorkerLost:
    worker: str
    why: str
    kind: LossKind = "preemption"
    blamed: TaskKey | None = None
    """The task that a loss other than a preemption is counted against; None for all that it held."""


@dataclass(frozen=True, slots=True)
class TaskDone:
    worker: str
    task: TaskKey


@dataclass(frozen=True, slots=True)
class TaskFailed:
    worker: str
    task: TaskKey
    error: str
    retryable: bool
    kind: FailureKind = "failure"
    undone: tuple[TaskKey, ...] = ()
    """Committed tasks whose output this one found damaged: they have to be done again first."""


@dataclass(frozen=True, slots=True)
class StopFeeding:
    """Assign nothing more; finish when what is held has ended."""

    why: str


Event = WorkerReady | WorkerDraining | WorkerRetired | WorkerLost | TaskDone | TaskFailed | StopFeeding


@dataclass(frozen=True, slots=True)
class Assign:
    worker: str
    task: TaskKey
    attempt: int


@dataclass(frozen=True, slots=True)
class Dismiss:
    """End this worker; its loss gives back what it holds."""

    worker: str
    why: str


@dataclass(frozen=True, slots=True)
class Quarantine:
    task: TaskKey
    story: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Finish:
    quarantined: int
    stopped: str | None


Instruction = Assign | Dismiss | Quarantine | Finish
