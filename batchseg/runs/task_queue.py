"""The queue of pending tasks, and what the run state remembers of tasks and workers.

The queue has one line per need, so that a worker is offered only tasks that its tiers can do.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import islice

from batchseg.ledger.keys import TaskKey
from batchseg.tiers import Need, Tier
from batchseg.workers.events import FailureKind, LossKind

NEEDS: tuple[Need, ...] = ("both", "heavy", "bulk", "any")
"""All needs, in the order in which a worker without limits takes them: the rarest ability first."""

LOOK_AHEAD = 8
"""Number of tasks of a line that a worker looks at for one that it may take."""


def list_needs(only: Tier | None) -> tuple[Need, ...]:
    """The needs that a worker can meet, in the order in which it takes tasks."""
    return NEEDS if only is None else (only, "any")


@dataclass(slots=True)
class TaskQueue:
    """First in, first out, one line per need."""

    find_need: Callable[[TaskKey], Need]
    _queues: dict[Need, deque[TaskKey]]
    _num: int = 0

    @classmethod
    def of(cls, tasks: Iterable[TaskKey], find_need: Callable[[TaskKey], Need]) -> TaskQueue:
        queue = cls(find_need, {need: deque() for need in NEEDS})
        for task in tasks:
            queue.append(task)
        return queue

    def __len__(self) -> int:
        return self._num

    def append(self, task: TaskKey) -> None:
        self._queues[self.find_need(task)].append(task)
        self._num += 1

    def take_scene(self, scene: str) -> list[TaskKey]:
        """Take all tasks that need the pixels of a scene, in order within each line."""
        taken: list[TaskKey] = []
        for need, line in self._queues.items():
            of_scene = [task for task in line if task.reads_scene and task.scene == scene]
            if of_scene:
                gone = set(of_scene)
                self._queues[need] = deque(task for task in line if task not in gone)
                taken += of_scene
        self._num -= len(taken)
        return taken

    def take(self, needs: Iterable[Need], may: Callable[[TaskKey], bool]) -> TaskKey | None:
        """Take the first task with one of these needs that `may` allows; None where it allows none of the first few."""
        for need in needs:
            line = self._queues[need]
            for place, task in enumerate(islice(line, LOOK_AHEAD)):
                if may(task):
                    del line[place]
                    self._num -= 1
                    return task
        return None


SUSPECT_LOSSES = 2
"""The number of workers that a task may lose before it is held alone. One loss is common on spot machines."""


@dataclass(slots=True)
class History:
    """History of one task so far; only tasks that failed or lost a worker have one."""

    failures: int = 0
    preemptions: int = 0
    out_of_memory: int = 0
    absences: int = 0
    """The number of attempts that missed the scene."""
    story: list[str] = field(default_factory=list)
    failed_on: str | None = None

    def count(self, kind: FailureKind | LossKind) -> None:
        match kind:
            case "preemption":
                self.preemptions += 1
            case "out_of_memory":
                self.out_of_memory += 1
            case _:
                self.failures += 1

    @property
    def num_attempts(self) -> int:
        return self.failures + self.preemptions + self.out_of_memory + self.absences

    @property
    def num_tries(self) -> int:
        return self.failures + self.out_of_memory

    @property
    def is_suspect(self) -> bool:
        return self.out_of_memory > 0 or self.preemptions >= SUSPECT_LOSSES


SICK_FAILURES = 3
"""The number of different tasks that fail in a row on a worker before it is dismissed, if other workers succeed."""


@dataclass(slots=True)
class WorkerState:
    """Facts about a worker that decisions need."""

    name: str
    rank: tuple[float, int]
    """The price, then the order of arrival: the lowest rank is fed first."""
    needs: tuple[Need, ...]
    failed_in_a_row: set[TaskKey] = field(default_factory=set)
    num_done_before: int = 0
    """The number of tasks that all workers had done when the first of those failed."""

    def note_failure(self, task: TaskKey, num_done: int) -> bool:
        """Take note of a failed task; return whether the worker seems to be what fails, and not its tasks.

        Args:
            task: The task that failed on the worker.
            num_done: The number of tasks that all workers have done.
        """
        if not self.failed_in_a_row:
            self.num_done_before = num_done
        self.failed_in_a_row.add(task)
        return len(self.failed_in_a_row) >= SICK_FAILURES and num_done > self.num_done_before
