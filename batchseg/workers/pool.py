"""The pool of workers that the driver's loop needs, and the pool in this process."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from typing import Protocol

from batchseg.ledger.records import TaskRecord
from batchseg.patient_threads import PatientThreads
from batchseg.workers.events import (
    Assign,
    Event,
    TaskDone,
    TaskFailed,
    WorkerLost,
    WorkerReady,
)
from batchseg.workers.failure import Failure
from batchseg.workers.happenings import Happening
from batchseg.workers.worker import CLOSE_S, Worker

DEPTH = 2
"""The number of tasks that a worker holds at once: it computes one while it reads the next or writes the last."""


@dataclass(frozen=True, slots=True)
class PoolEvent:
    """An event for the run state, with the record where a task was done."""

    event: Event
    record: TaskRecord | None = None


class Pool(Protocol):
    """Workers, wherever they are. A pool decides nothing."""

    def send(self, assign: Assign) -> None:
        """Give a worker a task; the result comes back from `poll`."""
        ...

    def poll(self, timeout_s: float) -> list[PoolEvent | Happening]:
        """Everything that has happened since the last call; waits up to `timeout_s` for the first event."""
        ...

    def resize(self, num_open: int) -> None:
        """Adapt the number of workers to `num_open` tasks, within the least and the most of each pool of the fleet."""
        ...

    def dismiss(self, loss: WorkerLost) -> None:
        """End a worker now; the loss comes back from `poll`."""
        ...

    def close(self) -> None:
        """End all workers; the tasks that they hold are lost."""
        ...


def make_attempt_event(assign: Assign, outcome: TaskRecord | Failure) -> PoolEvent:
    """The event that an attempt ends with."""
    if isinstance(outcome, Failure):
        event = TaskFailed(assign.worker, assign.task, outcome.error, outcome.retryable, outcome.kind, outcome.undone)
        return PoolEvent(event)
    return PoolEvent(TaskDone(assign.worker, assign.task), outcome)


class LocalPool:
    """One worker in this process. `depth` of its tasks run at once, so that it reads ahead and writes behind.

    A thread cannot be ended. A worker that is dismissed is left to itself, commits nothing any more, and another worker
    takes its place.
    """

    def __init__(self, open_worker: Callable[[], Worker], *, depth: int) -> None:
        self._open_worker, self._depth = open_worker, depth
        self._news: list[PoolEvent | Happening] = []
        self._begin()

    def _begin(self) -> None:
        self._threads = PatientThreads(self._depth, "task")
        self._opening: Future[Worker] | None = self._threads.submit(self._open_worker)
        self._worker: Worker | None = None
        self._running: dict[Future[TaskRecord | Failure], Assign] = {}

    def send(self, assign: Assign) -> None:
        worker = self._worker
        if worker is None or worker.spec.name != assign.worker:
            return  # the worker was dismissed in the turn that assigned this task; its loss gives the task back
        self._running[self._threads.submit(lambda: worker.attempt(assign.task, assign.attempt))] = assign

    def resize(self, num_open: int) -> None:
        """There is always one worker."""

    def dismiss(self, loss: WorkerLost) -> None:
        if self._worker is not None and self._worker.spec.name == loss.worker:
            self._leave(self._worker)
            self._begin()
            self._news.append(PoolEvent(loss))

    def poll(self, timeout_s: float) -> list[PoolEvent | Happening]:
        if self._news:
            news, self._news = self._news, []
            return news
        if self._opening is not None:
            return self._poll_opening(self._opening, timeout_s)
        if not self._running:
            time.sleep(timeout_s)  # nothing to do until an absent scene is due
        done, _ = wait(self._running, timeout_s, FIRST_COMPLETED)
        if self._worker is not None:
            self._worker.check()
        return [make_attempt_event(self._running.pop(future), future.result()) for future in done]

    def _poll_opening(self, opening: Future[Worker], timeout_s: float) -> list[PoolEvent | Happening]:
        """A worker that cannot be opened here once cannot be opened later either, so its error ends the run."""
        done, _ = wait([opening], timeout_s)
        if not done:
            return []
        self._worker, self._opening = opening.result(), None
        return [PoolEvent(WorkerReady(self._worker.spec.name, self._worker.spec.usd_per_hour))]

    def close(self) -> None:
        wait(self._running, CLOSE_S)
        if self._opening is not None and self._opening.done() and self._opening.exception() is None:
            self._worker = self._opening.result()
        if self._worker is None:
            self._threads.close(CLOSE_S)
        elif all(future.done() for future in self._running):
            self._threads.close(CLOSE_S)
            self._worker.close()
        else:
            self._leave(self._worker)

    def _leave(self, worker: Worker) -> None:
        worker.leave()
        self._threads.close(0.0)
