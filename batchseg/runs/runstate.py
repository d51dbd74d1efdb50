"""Choice of the next task of each worker: events in, instructions out.

Theory of operation
-------------------
The run state decides and never acts: it knows no clock, no storage and no Ray. The driver's loop feeds it one event at
a time, and carries out the instructions that come back:

    WorkerReady, WorkerDraining, WorkerLost,   ->   Assign(worker, task, attempt), Dismiss(worker, why)
    WorkerRetired, TaskDone, TaskFailed,            Quarantine(task, story), Finish(quarantined)
    SceneDue, StopFeeding, StopWaiting              AwaitScene, ReopenScene, GiveUpScene(scene, story)

A task is in exactly one place at any time: *waiting* for other tasks, *pending*, kept for an *absent* scene, *held* by
one worker, *done*, or given up: *quarantined*, or with its scene (`absent_scenes.py`). Each event moves tasks between
places, and then hungry workers are filled from `pending`, the cheapest first, so the driver has nothing else to call.
Each task has three counters, because they mean different things: failures (the task's fault, so few are allowed),
preemptions (the worker went away, so many are allowed, but not endlessly: a chunk that kills every worker is poison
too) and out-of-memory (a failure whose remedy is known). A report from a worker that no longer holds the task is
ignored. The state ends: each task leaves by being done or given up, and all counters have limits (invariant I5).

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
from batchseg.runs.absent_scenes import AbsentScenes
from batchseg.runs.roster import Roster
from batchseg.runs.task_queue import SICK_FAILURES, History, TaskQueue, WorkerState
from batchseg.runs.waiting_tasks import WaitingTasks
from batchseg.tiers import Need
from batchseg.workers.events import (
    Assign,
    Dismiss,
    Event,
    Finish,
    Instruction,
    Quarantine,
    SceneDue,
    StopFeeding,
    StopWaiting,
    TaskDone,
    TaskFailed,
    WorkerDraining,
    WorkerLost,
    WorkerReady,
    WorkerRetired,
)


@dataclass(slots=True)
class RunState:
    """The tasks and the workers of a run; see the head of this module."""

    pending: TaskQueue
    waiting: WaitingTasks
    max_failures: int
    max_preemptions: int
    roster: Roster
    histories: dict[TaskKey, History] = field(default_factory=dict)
    quarantined: set[TaskKey] = field(default_factory=set)
    absent: AbsentScenes = field(default_factory=AbsentScenes)
    stopped: str | None = None
    finished: bool = False
    _num_done: int = 0

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
            roster=Roster(depth),
        )

    @property
    def held(self) -> Mapping[str, list[TaskKey]]:
        """The tasks that each worker holds."""
        return self.roster.held

    @property
    def num_open(self) -> int:
        """The number of tasks that have not ended."""
        return len(self.pending) + len(self.waiting) + len(self.absent) + self.roster.num_held

    def handle(self, event: Event) -> list[Instruction]:
        """Take one event in, and say what the driver has to do."""
        out: list[Instruction] = []
        match event:
            case WorkerReady():
                self.roster.add(event)
            case WorkerDraining(worker):
                self.roster.drain(worker)
            case WorkerRetired(worker):
                out = self._lose_worker(WorkerLost(worker, event.why))
            case WorkerLost():
                out = self._lose_worker(event)
            case TaskDone(worker, task):
                out = self._end_task(worker, task)
            case TaskFailed():
                out = self._fail_task(event)
            case SceneDue(scene):
                self.absent.mark_due(scene)
            case StopFeeding(why):
                self.stopped = self.stopped or why
            case StopWaiting():
                self._leave_tasks()
        return out + self._fill() + self._finish()

    def _leave_tasks(self) -> None:
        """Put the tasks in hand back into the queue, where a stopped run leaves them."""
        for worker in list(self.held):
            for task in self.roster.remove(worker):
                self.pending.append(task)

    def _lose_worker(self, event: WorkerLost) -> list[Instruction]:
        out: list[Instruction] = []
        for task in self.roster.remove(event.worker):
            history = self.histories.setdefault(task, History())
            history.count(event.kind if event.blamed in (None, task) else "preemption")
            give_up = history.preemptions >= self.max_preemptions or history.num_tries >= self.max_failures
            out += self._retry_or_quarantine(task, f"{event.worker} was lost: {event.why}", give_up=give_up)
        return out

    def _end_task(self, worker: str, task: TaskKey) -> list[Instruction]:
        if not self.roster.release(worker, task):
            return []
        self._num_done += 1
        self.roster.get(worker).failed_in_a_row.clear()
        self._wake_waiters(task)
        return [*self.absent.find(task, self.pending)]

    def _fail_task(self, event: TaskFailed) -> list[Instruction]:
        task = event.task
        if not self.roster.release(event.worker, task):
            return []
        if event.kind == "refused":
            self.pending.append(task)
            self.stopped = self.stopped or event.error
            return []
        history = self.histories.setdefault(task, History())
        if event.kind == "absent" and not self.absent.is_to_blame(task):
            return self._miss_scene(event, history) + self._judge_worker(event)
        history.count(event.kind)
        out: list[Instruction] = [*self.absent.find(task, self.pending)]
        give_up = not event.retryable or history.num_tries >= self.max_failures
        if event.undone and not give_up:
            history.story.append(f"{event.worker}: {event.error}")
            self._redo(task, event.undone)
            return out
        history.failed_on = event.worker
        out += self._retry_or_quarantine(task, f"{event.worker}: {event.error}", give_up=give_up)
        return out + self._judge_worker(event)

    def _miss_scene(self, event: TaskFailed, history: History) -> list[Instruction]:
        history.absences += 1
        history.failed_on = event.worker
        instructions, given_up = self.absent.miss(event.task, event.worker, event.error, self.pending)
        for task in given_up:
            self._wake_waiters(task)
        return [*instructions]

    def _judge_worker(self, event: TaskFailed) -> list[Instruction]:
        """Dismiss the worker if it seems to be the worker that fails, and not its tasks."""
        is_sick = self.roster.get(event.worker).note_failure(event.task, self._num_done)
        if not is_sick or event.worker in self.roster.draining:
            return []
        self.roster.drain(event.worker)
        why = f"{SICK_FAILURES} tasks in a row failed on it while others were done elsewhere, last: {event.error}"
        return [Dismiss(event.worker, why)]

    def _redo(self, task: TaskKey, undone: tuple[TaskKey, ...]) -> None:
        """Damaged tasks are done again before the task that needs them."""
        for other in dict.fromkeys(undone):
            self.histories.setdefault(other, History()).story.append("its stored objects were found damaged")
        for other in self.waiting.wait_again(task, undone):
            self.quarantined.discard(other)
            self._queue(other)

    def _retry_or_quarantine(self, task: TaskKey, why: str, *, give_up: bool) -> list[Instruction]:
        history = self.histories.setdefault(task, History())
        history.story.append(why)
        if not give_up:
            self._queue(task)
            return []
        self.quarantined.add(task)
        self.absent.drop(task)
        self._wake_waiters(task)
        return [Quarantine(task, tuple(history.story))]

    def _wake_waiters(self, task: TaskKey) -> None:
        """A task that is done or given up may be the last that others waited for."""
        for ready in self.waiting.end(task):
            self._queue(ready)

    def _queue(self, task: TaskKey) -> None:
        """To the back, so that it delays no other task; or to its absent scene."""
        if not self.absent.keep(task):
            self.pending.append(task)

    def _fill(self) -> list[Instruction]:
        """Give tasks to the workers that can take another one."""
        if self.stopped is not None:
            return []
        for probe, missed_on in () if self.pending else self.absent.take_probes():
            self.histories.setdefault(probe, History()).failed_on = missed_on
            self.pending.append(probe)
        if not self.pending:
            return []
        assigns = (self._feed(worker) for worker in self.roster.find_hungry())
        return [assign for assign in assigns if assign is not None]

    def _feed(self, worker: WorkerState) -> Assign | None:
        held = self.held[worker.name]
        if any(self._is_suspect(task) for task in held):
            return None
        task = self.pending.take(worker.needs, lambda task: self._may_take(worker, task, is_first=not held))
        if task is None:
            return None
        self.roster.give(worker.name, task)
        history = self.histories.get(task)
        return Assign(worker.name, task, 1 + (history.num_attempts if history else 0))

    def _may_take(self, worker: WorkerState, task: TaskKey, *, is_first: bool) -> bool:
        history = self.histories.get(task)
        if history is None:
            return True
        if history.is_suspect and not is_first:
            return False
        return history.failed_on != worker.name or not self.roster.has_another(
            worker.name, self.pending.find_need(task)
        )

    def _is_suspect(self, task: TaskKey) -> bool:
        history = self.histories.get(task)
        return history is not None and history.is_suspect

    def _finish(self) -> list[Instruction]:
        ended = not self.pending and not self.waiting and not self.absent
        if self.finished or self.roster.num_held or not (ended or self.stopped is not None):
            return []
        self.finished = True
        return [Finish(len(self.quarantined), None if ended else self.stopped)]
