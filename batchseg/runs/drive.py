"""The driver loop: turns the run state's instructions into calls, and what comes back into events."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol

from batchseg.ledger.ledger import Ledger
from batchseg.ledger.records import Record, SheetRecord
from batchseg.runs.patience import Late, Waits
from batchseg.runs.runstate import RunState
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
from batchseg.workers.pool import Note, Pool, Report

POLL_S = 0.5


class Watcher(Protocol):
    """Whoever wants to know: the log, the display."""

    def event(self, kind: str, **facts: Any) -> None: ...

    def committed(self, record: Record | SheetRecord) -> None: ...

    def tick(self) -> None: ...


@dataclass(slots=True)
class Stop:
    """Set from a signal handler or a budget: feed nothing more, end what is in hand."""

    why: str | None = None
    exit_status: int = 0

    def request(self, why: str, exit_status: int = 0) -> None:
        """The first reason counts."""
        if self.why is None:
            self.why, self.exit_status = why, exit_status


@dataclass(slots=True)
class Drive:
    """One run of the loop."""

    state: RunState
    pool: Pool
    ledger: Ledger
    watchers: tuple[Watcher, ...]
    waits: Waits
    stop: Stop = field(default_factory=Stop)
    check: Callable[[], None] = lambda: None
    """Called once a turn: raises when this driver must not go on."""

    def run(self) -> Finish:
        finish: Finish | None = None
        told = False
        while finish is None:
            self.check()
            if self.stop.why is not None and not told:
                told = True
                self._tell("stopping", why=self.stop.why)
                finish = self._act(self.state.handle(StopFeeding(self.stop.why)))
                continue
            self.pool.resize(self.state.num_open)
            for report in self.pool.poll(POLL_S):
                finish = self._take(report) or finish
            for late in self.waits.late():
                self._end_late(late)
            for watcher in self.watchers:
                watcher.tick()
        return finish

    def _take(self, report: Report | Note) -> Finish | None:
        if isinstance(report, Note):
            self._tell(report.kind, **report.facts)
            return None
        event = report.event
        if report.record is not None:
            self.ledger.unquarantine(report.record.key)
            for watcher in self.watchers:
                watcher.committed(report.record)
        elif isinstance(event, TaskFailed):
            for chunk in event.undone:
                self.ledger.forget(chunk)
                self._tell("forgotten", task=str(chunk))
        if isinstance(event, TaskDone | TaskFailed):
            self.waits.ended(event.worker, event.task, done=isinstance(event, TaskDone))
        elif isinstance(event, WorkerLost | WorkerRetired):
            self.waits.gone(event.worker)
        self._tell_event(event)
        return self._act(self.state.handle(event))

    def _tell_event(self, event: Event) -> None:
        match event:
            case TaskFailed(worker, task, error, _, kind):
                self._tell("task_failed", task=str(task), worker=worker, error=error, what=kind)
            case WorkerLost(worker, why, kind, blamed):
                held = [str(task) for task in self.state.held.get(worker, [])]
                told = {} if blamed is None else {"blamed": str(blamed)}
                self._tell("worker_lost", worker=worker, why=why, what=kind, held=held, **told)
            case WorkerReady(worker, usd_per_hour):
                self._tell("worker_ready", worker=worker, usd_per_hour=usd_per_hour)
            case WorkerDraining(worker, why):
                self._tell("worker_draining", worker=worker, why=why)
            case WorkerRetired(worker, why):
                self._tell("worker_retired", worker=worker, why=why)

    def _end_late(self, late: Late) -> None:
        self._tell("worker_late", worker=late.worker, task=str(late.task), why=late.why)
        self.waits.gone(late.worker)
        self.pool.dismiss(WorkerLost(late.worker, late.why, "failure", late.task))

    def _act(self, instructions: Iterable[Instruction]) -> Finish | None:
        finish = None
        for instruction in instructions:
            match instruction:
                case Assign():
                    self.waits.given(instruction.worker, instruction.task)
                    self.pool.send(instruction)
                case Dismiss(worker, why):
                    self.pool.dismiss(WorkerLost(worker, why))
                case Quarantine(task, story):
                    self.ledger.quarantine(task, story)
                    self._tell("quarantined", task=str(task), story=list(story))
                case Finish():
                    finish = instruction
        return finish

    def _tell(self, kind: str, **facts: Any) -> None:
        for watcher in self.watchers:
            watcher.event(kind, **facts)
