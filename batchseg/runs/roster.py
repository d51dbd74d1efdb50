"""The workers of a run: the tasks that each one holds, and which of them can take another one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from batchseg.ledger.keys import TaskKey
from batchseg.runs.task_queue import WorkerState, list_needs
from batchseg.tiers import Need
from batchseg.workers.events import WorkerReady


@dataclass(slots=True)
class Roster:
    """All workers that are there. A decision looks only at those that can take another task."""

    depth: int
    """The number of tasks that a worker holds at once, so that its reads hide behind its compute."""
    held: dict[str, list[TaskKey]] = field(default_factory=dict)
    draining: set[str] = field(default_factory=set)
    """The workers that get no more tasks."""
    num_held: int = 0
    _states: dict[str, WorkerState] = field(default_factory=dict)
    _hungry: set[str] = field(default_factory=set)
    _num_arrived: int = 0

    def get(self, worker: str) -> WorkerState:
        return self._states[worker]

    def add(self, event: WorkerReady) -> None:
        self._num_arrived += 1
        rank = (event.usd_per_hour, self._num_arrived)
        self._states[event.worker] = WorkerState(event.worker, rank, list_needs(event.only))
        self.held.setdefault(event.worker, [])
        self._mark_hungry(event.worker)

    def _mark_hungry(self, worker: str) -> None:
        """A worker that stays and holds fewer than `depth` tasks can take another one."""
        if worker not in self.draining and len(self.held[worker]) < self.depth:
            self._hungry.add(worker)

    def drain(self, worker: str) -> None:
        self.draining.add(worker)
        self._hungry.discard(worker)

    def remove(self, worker: str) -> list[TaskKey]:
        """Forget a worker; returns the tasks that it held."""
        self.draining.discard(worker)
        self._hungry.discard(worker)
        self._states.pop(worker, None)
        held = self.held.pop(worker, [])
        self.num_held -= len(held)
        return held

    def give(self, worker: str, task: TaskKey) -> None:
        held = self.held[worker]
        held.append(task)
        self.num_held += 1
        if len(held) >= self.depth:
            self._hungry.discard(worker)

    def release(self, worker: str, task: TaskKey) -> bool:
        """Take a task from a worker; False where the worker no longer holds it, so that its report is too late."""
        held = self.held.get(worker, [])
        if task not in held:
            return False
        held.remove(task)
        self.num_held -= 1
        self._mark_hungry(worker)
        return True

    def find_hungry(self) -> Iterator[WorkerState]:
        """Go through the workers that can take another task, level by level and the cheapest first.

        So every worker gets a first task before any worker gets a second one.
        """
        hungry = sorted((self._states[worker] for worker in self._hungry), key=lambda state: state.rank)
        for level in range(self.depth):
            for state in hungry:
                if len(self.held[state.name]) == level:
                    yield state

    def has_another(self, worker: str, need: Need) -> bool:
        """Test if another worker that stays can meet a need."""
        return any(
            need in state.needs and name != worker and name not in self.draining for name, state in self._states.items()
        )
