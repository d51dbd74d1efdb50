"""Who does what next: events in, instructions out.

Theory of operation
-------------------
The run state decides and never acts: it knows no clock, no storage, no Ray. Whoever drives it feeds it one event at a
time and carries out the instructions that come back:

    WorkerReady, WorkerLost, WorkerDraining,   ->   Assign(worker, task, attempt)
    TaskDone, TaskFailed, TaskUndone,               Quarantine(task, story)
    StopFeeding                                     Finish(quarantined)

A task is in exactly one place at any time: *waiting* (a sheet whose chunks are not all settled), *pending*, *held* by
one worker, *done* or *quarantined*. Every event moves tasks between places and then idle workers are filled from
`pending`, so nothing else has to be called. Three counters a task are kept apart, because they mean different things:
failures (the task's fault, few allowed), preemptions (the worker went away, many allowed, but not endlessly: a chunk
that kills every worker is poison too) and out-of-memory (a failure whose remedy is known). A report from a worker that
no longer holds the task is ignored. The state ends: each task leaves by being done or quarantined, and both counters
have limits (invariant I5).

A task that ran out of memory, or was held twice by a worker that was lost, is a *suspect*: from then on it has a worker
to itself. So it has the memory to itself too, and poison is not the end of the tasks that happen to be held with it.

A sheet waits until each of its chunks is done or quarantined. A committed chunk found damaged while its sheet is made
becomes pending again (`TaskUndone`), and the sheet waits for it once more.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from batchseg.ledger.keys import ChunkKey, SheetKey, TaskKey

FailureKind = Literal["failure", "out_of_memory"]

SUSPECT_LOSSES = 2
"""Workers lost with a task in hand before it is held alone; one loss is common on spot machines, and proves nothing."""


@dataclass(frozen=True, slots=True)
class WorkerReady:
    worker: str


@dataclass(frozen=True, slots=True)
class WorkerDraining:
    """The worker will be taken away: feed it no more, let what it holds end if there is time."""

    worker: str


@dataclass(frozen=True, slots=True)
class WorkerLost:
    worker: str
    why: str


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
    undone: tuple[ChunkKey, ...] = ()
    """Committed chunks that a sheet found damaged: they have to be made again first."""


@dataclass(frozen=True, slots=True)
class StopFeeding:
    """Assign nothing more; finish when what is held has ended."""

    why: str


Event = WorkerReady | WorkerDraining | WorkerLost | TaskDone | TaskFailed | StopFeeding


@dataclass(frozen=True, slots=True)
class Assign:
    worker: str
    task: TaskKey
    attempt: int


@dataclass(frozen=True, slots=True)
class Quarantine:
    task: TaskKey
    story: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Finish:
    quarantined: int
    stopped: str | None


Instruction = Assign | Quarantine | Finish


@dataclass(slots=True)
class _History:
    """What happened to one task so far; kept only for tasks that something happened to."""

    failures: int = 0
    preemptions: int = 0
    out_of_memory: int = 0
    story: list[str] = field(default_factory=list)

    @property
    def attempts(self) -> int:
        return self.failures + self.preemptions + self.out_of_memory

    @property
    def is_suspect(self) -> bool:
        return self.out_of_memory > 0 or self.preemptions >= SUSPECT_LOSSES


@dataclass(slots=True)
class RunState:
    """See the module's head. `depth` tasks are handed to a worker at once, so that reads hide behind compute."""

    pending: deque[TaskKey]
    waiting: dict[SheetKey, set[ChunkKey]]
    max_failures: int
    max_preemptions: int
    depth: int
    held: dict[str, list[TaskKey]] = field(default_factory=dict)
    draining: set[str] = field(default_factory=set)
    histories: dict[TaskKey, _History] = field(default_factory=dict)
    quarantined: set[TaskKey] = field(default_factory=set)
    stopped: str | None = None
    finished: bool = False
    _sheet_of: dict[ChunkKey, SheetKey] = field(default_factory=dict)

    @classmethod
    def start(
        cls,
        chunks: Iterable[ChunkKey],
        sheets: Mapping[SheetKey, Iterable[ChunkKey]],
        *,
        max_failures: int,
        max_preemptions: int,
        depth: int,
    ) -> RunState:
        """A run of these pending chunks and of these sheets, each with the chunks it still waits for."""
        chunks = list(chunks)
        waiting = {sheet: set(needed) for sheet, needed in sheets.items()}
        awaited = [chunk for needed in waiting.values() for chunk in needed]
        if len(set(chunks)) < len(chunks) or len(set(awaited)) < len(awaited) or not set(awaited) <= set(chunks):
            raise ValueError("a chunk is pending once, and one sheet at most waits for it")
        ready = [sheet for sheet, needed in waiting.items() if not needed]
        state = cls(
            pending=deque([*chunks, *ready]),
            waiting={sheet: needed for sheet, needed in waiting.items() if needed},
            max_failures=max_failures,
            max_preemptions=max_preemptions,
            depth=depth,
        )
        state._sheet_of = {chunk: sheet for sheet, needed in waiting.items() for chunk in needed}
        return state

    def handle(self, event: Event) -> list[Instruction]:
        out: list[Instruction] = []
        match event:
            case WorkerReady(worker):
                self.held.setdefault(worker, [])
            case WorkerDraining(worker):
                self.draining.add(worker)
            case WorkerLost(worker, why):
                out = self._lose(worker, why)
            case TaskDone(worker, task):
                self._done(worker, task)
            case TaskFailed():
                out = self._failed(event)
            case StopFeeding(why):
                self.stopped = self.stopped or why
        return out + self._fill() + self._finish()

    def _lose(self, worker: str, why: str) -> list[Instruction]:
        self.draining.discard(worker)
        out: list[Instruction] = []
        for task in self.held.pop(worker, []):
            history = self.histories.setdefault(task, _History())
            history.preemptions += 1
            out += self._again(task, f"{worker} was lost: {why}", give_up=history.preemptions >= self.max_preemptions)
        return out

    def _done(self, worker: str, task: TaskKey) -> None:
        if self._release(worker, task):
            self._settle(task)

    def _failed(self, event: TaskFailed) -> list[Instruction]:
        task = event.task
        if not self._release(event.worker, task):
            return []
        history = self.histories.setdefault(task, _History())
        if event.kind == "out_of_memory":
            history.out_of_memory += 1
        else:
            history.failures += 1
        tried = history.failures + history.out_of_memory
        give_up = not event.retryable or tried >= self.max_failures
        if event.undone and isinstance(task, SheetKey) and not give_up:
            history.story.append(f"{event.worker}: {event.error}")
            self._redo(task, event.undone)
            return []
        return self._again(task, f"{event.worker}: {event.error}", give_up=give_up)

    def _redo(self, sheet: SheetKey, chunks: tuple[ChunkKey, ...]) -> None:
        """Damaged chunks are made again before their sheet."""
        self.waiting[sheet] = set(chunks)
        for chunk in dict.fromkeys(chunks):
            self._sheet_of[chunk] = sheet
            self.quarantined.discard(chunk)
            self.histories.setdefault(chunk, _History()).story.append("its stored objects were found damaged")
            self.pending.append(chunk)

    def _release(self, worker: str, task: TaskKey) -> bool:
        """False for a late report about a task that this worker no longer holds."""
        held = self.held.get(worker, [])
        if task not in held:
            return False
        held.remove(task)
        return True

    def _again(self, task: TaskKey, why: str, *, give_up: bool) -> list[Instruction]:
        history = self.histories.setdefault(task, _History())
        history.story.append(why)
        if not give_up:
            self.pending.append(task)  # to the back: the others are not held up by it
            return []
        self.quarantined.add(task)
        self._settle(task)
        return [Quarantine(task, tuple(history.story))]

    def _settle(self, task: TaskKey) -> None:
        """A chunk that is done or given up may be the last that its sheet waited for."""
        if not isinstance(task, ChunkKey):
            return
        sheet = self._sheet_of.get(task)
        if sheet is None or sheet not in self.waiting:
            return
        self.waiting[sheet].discard(task)
        if not self.waiting[sheet]:
            del self.waiting[sheet]
            self.pending.append(sheet)

    def _fill(self) -> list[Instruction]:
        """Level by level, so that a few tasks are spread over all workers before anyone gets a second one."""
        out: list[Instruction] = []
        if self.stopped is not None:
            return out
        for level in range(self.depth):
            for worker, held in self.held.items():
                if self.pending and len(held) == level and worker not in self.draining and self._may_join(held):
                    task = self.pending.popleft()
                    held.append(task)
                    history = self.histories.get(task)
                    out.append(Assign(worker, task, 1 + (history.attempts if history else 0)))
        return out

    def _may_join(self, held: list[TaskKey]) -> bool:
        return not held or not any(self._is_suspect(task) for task in (*held, self.pending[0]))

    def _is_suspect(self, task: TaskKey) -> bool:
        history = self.histories.get(task)
        return history is not None and history.is_suspect

    def _finish(self) -> list[Instruction]:
        idle = not any(self.held.values())
        ended = not self.pending and not self.waiting
        if self.finished or not idle or not (ended or self.stopped is not None):
            return []
        self.finished = True
        return [Finish(len(self.quarantined), None if ended else self.stopped)]
