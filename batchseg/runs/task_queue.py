"""Pending tasks and what the run state remembers of tasks and workers.

Tasks wait in one queue per need, so that a worker is offered only what its tiers can do.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import islice

from batchseg.ledger.keys import TaskKey
from batchseg.tiers import Need, Tier

NEEDS: tuple[Need, ...] = ("both", "heavy", "bulk", "any")
"""What a worker without limits takes first: what the fewest others can do."""

LOOK_AHEAD = 8
"""How far behind the first of a line a worker looks for a task that it may take."""


def list_needs(only: Tier | None) -> tuple[Need, ...]:
    """The lines that a worker serves, in order."""
    return NEEDS if only is None else (only, "any")


@dataclass(slots=True)
class TaskQueue:
    """First in, first out, a line a need."""

    find_need: Callable[[TaskKey], Need]
    _queues: dict[Need, deque[TaskKey]]
    _num: int = 0

    @classmethod
    def of(cls, tasks: Iterable[TaskKey], find_need: Callable[[TaskKey], Need]) -> TaskQueue:
        lines = cls(find_need, {need: deque() for need in NEEDS})
        for task in tasks:
            lines.append(task)
        return lines

    def __len__(self) -> int:
        return self._num

    def append(self, task: TaskKey) -> None:
        self._queues[self.find_need(task)].append(task)
        self._num += 1

    def take(self, needs: Iterable[Need], may: Callable[[TaskKey], bool]) -> TaskKey | None:
        """The first task of these lines that may be taken; None where the first few may not."""
        for need in needs:
            line = self._queues[need]
            for place, task in enumerate(islice(line, LOOK_AHEAD)):
                if may(task):
                    del line[place]
                    self._num -= 1
                    return task
        return None


SUSPECT_LOSSES = 2
"""Workers lost with a task in hand before it is held alone; one loss is common on spot machines, and proves nothing."""


@dataclass(slots=True)
class History:
    """What happened to one task so far; kept only for tasks that something happened to."""

    failures: int = 0
    preemptions: int = 0
    out_of_memory: int = 0
    story: list[str] = field(default_factory=list)
    failed_on: str | None = None

    @property
    def attempts(self) -> int:
        return self.failures + self.preemptions + self.out_of_memory

    @property
    def tried(self) -> int:
        return self.failures + self.out_of_memory

    @property
    def is_suspect(self) -> bool:
        return self.out_of_memory > 0 or self.preemptions >= SUSPECT_LOSSES


@dataclass(slots=True)
class WorkerState:
    """A worker, as far as decisions need to know it."""

    name: str
    rank: tuple[float, int]
    """Price, then order of arrival: who is fed first."""
    needs: tuple[Need, ...]
    failed_in_a_row: set[TaskKey] = field(default_factory=set)
    num_done_before: int = 0
    """By all workers, when the first of those failed."""
