"""Which worker does which task next: events in, instructions out.

Theory of operation
-------------------
The run state decides and never acts: it knows no clock, no storage and no Ray. The driver's loop feeds it one event at
a time, and carries out the instructions that come back:

    WorkerReady, WorkerDraining, WorkerLost,   ->   Assign(worker, task, attempt)
    WorkerRetired, TaskDone, TaskFailed,            Dismiss(worker, why)
    StopFeeding                                     Quarantine(task, story), Finish(quarantined)

A task is in exactly one place at any time: *waiting* for other tasks, *pending*, *held* by one worker, *done* or
*quarantined*. Each event moves tasks between places, and then hungry workers are filled from `pending`, the cheapest
first, so the driver has nothing else to call. Each task has three counters, because they mean different things:
failures (the task's fault, so few are allowed), preemptions (the worker went away, so many are allowed, but not
endlessly: a chunk that kills every worker is poison too) and out-of-memory (a failure whose remedy is known). A report
from a worker that no longer holds the task is ignored. The state ends: each task leaves by being done or quarantined,
and all counters have limits (invariant I5).

A task that ran out of memory, or whose worker was lost twice, is a *suspect*: from then on it has a worker to itself.
So it has that worker's memory to itself, and a poisonous task does not end the tasks that are held with it.

A task that failed goes to another worker than the one that it failed on, while there is one. A worker on which task
after task fails, while other workers succeed, is sick: it is dismissed before it can use up everybody's attempts.

A task that waits, like a sheet for its chunks, waits until each of them is done or quarantined. A task may find the
output of a committed task damaged: the damaged task becomes pending again (`undone`), and the other waits for it.

A decision costs the same whatever the number of tasks and of busy workers: it looks at hungry workers only, and at the
first few pending tasks (bench/dispatch.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from batchseg.ledger.keys import TaskKey
from batchseg.runs.task_queue import History, TaskQueue, WorkerState, list_needs
from batchseg.runs.waiting_tasks import WaitingTasks
from batchseg.tiers import Need
from batchseg.workers.events import (
    Assign,
    Dismiss,
    Event,
    Finish,
    Instruction,
    Quarantine,
    StopFeeding,
    TaskDone,
    TaskFailed,
    WorkerDraining,
    WorkerLost,
    WorkerReady,
    WorkerRetired,
)

SICK_FAILURES = 3
"""The number of different tasks that fail in a row on a worker before it is dismissed, if other workers succeed."""


@dataclass(slots=True)
class RunState:
    """The tasks and the workers of a run; see the head of this module."""

    pending: TaskQueue
    waiting: WaitingTasks
    max_failures: int
    max_preemptions: int
    depth: int
    """The number of tasks that a worker holds at once, so that its reads hide behind its compute."""
    held: dict[str, list[TaskKey]] = field(default_factory=dict)
    draining: set[str] = field(default_factory=set)
    histories: dict[TaskKey, History] = field(default_factory=dict)
    quarantined: set[TaskKey] = field(default_factory=set)
    stopped: str | None = None
    finished: bool = False
    _members: dict[str, WorkerState] = field(default_factory=dict)
    _hungry: set[str] = field(default_factory=set)
    """The workers that can take another task; a decision looks at no others."""
    _num_held: int = 0
    _num_done: int = 0
    _num_arrived: int = 0

    @classmethod
    def start(
        cls,
        tasks: Iterable[TaskKey],
        waits: Mapping[TaskKey, AbstractSet[TaskKey]],
        *,
        max_failures: int,
        max_preemptions: int,
        depth: int,
        find_need: Callable[[TaskKey], Need] = lambda _: "any",
    ) -> RunState:
        """A run of these tasks, in this order; `waits` has those that must wait, each with what it waits for."""
        waiting = WaitingTasks()
        return cls(
            pending=TaskQueue.of(waiting.start(tasks, waits), find_need),
            waiting=waiting,
            max_failures=max_failures,
            max_preemptions=max_preemptions,
            depth=depth,
        )

    @property
    def num_open(self) -> int:
        """The number of tasks that have not ended."""
        return len(self.pending) + len(self.waiting) + self._num_held

    def handle(self, event: Event) -> list[Instruction]:
        """Take one event in, and say what the driver has to do."""
        out: list[Instruction] = []
        match event:
            case WorkerReady():
                self._welcome(event)
            case WorkerDraining(worker):
                self.draining.add(worker)
                self._hungry.discard(worker)
            case WorkerRetired(worker):
                out = self._lose_worker(WorkerLost(worker, event.why))
            case WorkerLost():
                out = self._lose_worker(event)
            case TaskDone(worker, task):
                self._end_task(worker, task)
            case TaskFailed():
                out = self._fail_task(event)
            case StopFeeding(why):
                self.stopped = self.stopped or why
        return out + self._fill() + self._finish()

    def _welcome(self, event: WorkerReady) -> None:
        self._num_arrived += 1
        rank = (event.usd_per_hour, self._num_arrived)
        self._members[event.worker] = WorkerState(event.worker, rank, list_needs(event.only))
        self.held.setdefault(event.worker, [])
        self._mark_hungry(event.worker)

    def _mark_hungry(self, worker: str) -> None:
        """A worker that stays and holds fewer than `depth` tasks can take another one."""
        if worker not in self.draining and len(self.held[worker]) < self.depth:
            self._hungry.add(worker)

    def _lose_worker(self, event: WorkerLost) -> list[Instruction]:
        worker = event.worker
        self.draining.discard(worker)
        self._hungry.discard(worker)
        self._members.pop(worker, None)
        out: list[Instruction] = []
        for task in self.held.pop(worker, []):
            self._num_held -= 1
            history = self.histories.setdefault(task, History())
            if event.kind == "preemption" or event.blamed not in (None, task):
                history.preemptions += 1
            elif event.kind == "out_of_memory":
                history.out_of_memory += 1
            else:
                history.failures += 1
            give_up = history.preemptions >= self.max_preemptions or history.num_tries >= self.max_failures
            out += self._retry_or_quarantine(task, f"{worker} was lost: {event.why}", give_up=give_up)
        return out

    def _end_task(self, worker: str, task: TaskKey) -> None:
        if self._release(worker, task):
            self._num_done += 1
            self._members[worker].failed_in_a_row.clear()
            self._wake_waiters(task)

    def _fail_task(self, event: TaskFailed) -> list[Instruction]:
        task = event.task
        if not self._release(event.worker, task):
            return []
        if event.kind == "refused":
            self.pending.append(task)
            self.stopped = self.stopped or event.error
            return []
        history = self.histories.setdefault(task, History())
        if event.kind == "out_of_memory":
            history.out_of_memory += 1
        else:
            history.failures += 1
        give_up = not event.retryable or history.num_tries >= self.max_failures
        if event.undone and not give_up:
            history.story.append(f"{event.worker}: {event.error}")
            self._redo(task, event.undone)
            return []
        history.failed_on = event.worker
        return self._retry_or_quarantine(task, f"{event.worker}: {event.error}", give_up=give_up) + self._judge_worker(
            event
        )

    def _judge_worker(self, event: TaskFailed) -> list[Instruction]:
        """Dismiss the worker if it seems to be the worker that fails, and not its tasks."""
        member = self._members[event.worker]
        if not member.failed_in_a_row:
            member.num_done_before = self._num_done
        member.failed_in_a_row.add(event.task)
        others_succeed = self._num_done > member.num_done_before
        if len(member.failed_in_a_row) < SICK_FAILURES or not others_succeed or event.worker in self.draining:
            return []
        self.draining.add(event.worker)
        self._hungry.discard(event.worker)
        why = f"{SICK_FAILURES} tasks in a row failed on it while others were done elsewhere, last: {event.error}"
        return [Dismiss(event.worker, why)]

    def _redo(self, task: TaskKey, undone: tuple[TaskKey, ...]) -> None:
        """Damaged tasks are done again before the task that needs them."""
        for other in dict.fromkeys(undone):
            self.histories.setdefault(other, History()).story.append("its stored objects were found damaged")
        for other in self.waiting.wait_again(task, undone):
            self.quarantined.discard(other)
            self.pending.append(other)

    def _release(self, worker: str, task: TaskKey) -> bool:
        """Take a task from a worker; False where the worker no longer holds it, so that its report is too late."""
        held = self.held.get(worker, [])
        if task not in held:
            return False
        held.remove(task)
        self._num_held -= 1
        self._mark_hungry(worker)
        return True

    def _retry_or_quarantine(self, task: TaskKey, why: str, *, give_up: bool) -> list[Instruction]:
        history = self.histories.setdefault(task, History())
        history.story.append(why)
        if not give_up:
            self.pending.append(task)  # to the back, so that it delays no other task
            return []
        self.quarantined.add(task)
        self._wake_waiters(task)
        return [Quarantine(task, tuple(history.story))]

    def _wake_waiters(self, task: TaskKey) -> None:
        """A task that is done or given up may be the last that others waited for."""
        for ready in self.waiting.end(task):
            self.pending.append(ready)

    def _fill(self) -> list[Instruction]:
        """Fill level by level, so that every worker gets a first task before any worker gets a second one."""
        out: list[Instruction] = []
        if self.stopped is not None or not self.pending or not self._hungry:
            return out
        members = sorted((self._members[name] for name in self._hungry), key=lambda member: member.rank)
        for level in range(self.depth):
            for member in members:
                held = self.held[member.name]
                if len(held) == level and self.pending:
                    out += self._feed(member, held)
        return out

    def _feed(self, member: WorkerState, held: list[TaskKey]) -> list[Assign]:
        if held and any(self._is_suspect(task) for task in held):
            return []
        task = self.pending.take(member.needs, lambda task: self._may_take(member, held, task))
        if task is None:
            return []
        held.append(task)
        self._num_held += 1
        if len(held) >= self.depth:
            self._hungry.discard(member.name)
        history = self.histories.get(task)
        return [Assign(member.name, task, 1 + (history.num_attempts if history else 0))]

    def _may_take(self, member: WorkerState, held: list[TaskKey], task: TaskKey) -> bool:
        history = self.histories.get(task)
        if history is None:
            return True
        if held and history.is_suspect:
            return False
        return history.failed_on != member.name or not self._can_another_take(member, task)

    def _can_another_take(self, member: WorkerState, task: TaskKey) -> bool:
        need = self.pending.find_need(task)
        return any(
            need in other.needs and other is not member and name not in self.draining
            for name, other in self._members.items()
        )

    def _is_suspect(self, task: TaskKey) -> bool:
        history = self.histories.get(task)
        return history is not None and history.is_suspect

    def _finish(self) -> list[Instruction]:
        ended = not self.pending and not self.waiting
        if self.finished or self._num_held or not (ended or self.stopped is not None):
            return []
        self.finished = True
        return [Finish(len(self.quarantined), None if ended else self.stopped)]
