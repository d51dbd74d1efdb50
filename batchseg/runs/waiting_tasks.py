"""The tasks that wait for other tasks, like a sheet for its chunks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from batchseg.ledger.keys import TaskKey


@dataclass(slots=True)
class WaitingTasks:
    """Waits of tasks for each other, both ways."""

    _awaited: dict[TaskKey, set[TaskKey]] = field(default_factory=dict)
    """The tasks that wait, each with the tasks that it waits for."""
    _waiters: dict[TaskKey, tuple[TaskKey, ...]] = field(default_factory=dict)
    """The inverse. Most tasks have the same single waiter, and share one tuple."""

    def __len__(self) -> int:
        return len(self._awaited)

    def start(self, tasks: Iterable[TaskKey], waits: Mapping[TaskKey, AbstractSet[TaskKey]]) -> list[TaskKey]:
        """Take the tasks of a run, and give back those that wait for nothing, in order.

        Args:
            tasks: The tasks to do. Each stands after the tasks that it waits for, so no circle is possible.
            waits: The tasks among them that must wait, each with the tasks that it waits for.

        Raises:
            ValueError: A task is listed twice, or waits for a task that does not stand before it.
        """
        self._awaited = {task: set(awaited) for task, awaited in waits.items() if awaited}
        ready, num_tasks, listed = [], 0, set[TaskKey]()
        for task in tasks:
            if not self._awaited.get(task, set()) <= listed:
                raise ValueError(f"{task} must stand after the tasks that it waits for")
            listed.add(task)
            num_tasks += 1
            if task not in self._awaited:
                ready.append(task)
        if len(listed) < num_tasks or not self._awaited.keys() <= listed:
            raise ValueError("every task must be listed once")
        for task, awaited in self._awaited.items():
            alone = (task,)
            for other in awaited:
                others = self._waiters.get(other)
                self._waiters[other] = alone if others is None else (*others, task)
        return ready

    def end(self, task: TaskKey) -> list[TaskKey]:
        """A task is done or given up: the tasks that wait for nothing any more."""
        ready = []
        for waiter in self._waiters.pop(task, ()):
            awaited = self._awaited[waiter]
            awaited.discard(task)
            if not awaited:
                del self._awaited[waiter]
                ready.append(waiter)
        return ready

    def wait_again(self, task: TaskKey, undone: Iterable[TaskKey]) -> list[TaskKey]:
        """A task waits for ended tasks that must be done again: those that no other task has brought back already."""
        undone = list(dict.fromkeys(undone))
        self._awaited[task] = set(undone)
        new = [other for other in undone if other not in self._waiters]
        for other in undone:
            self._waiters[other] = (*self._waiters.get(other, ()), task)
        return new
