"""The driver loop: turns the run state's instructions into calls, and what comes back into events."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol

from batchseg.ledger.ledger import Ledger
from batchseg.ledger.records import Record, SheetRecord
from batchseg.runs.pool import Pool, Report
from batchseg.runs.runstate import (
    Assign,
    Finish,
    Instruction,
    Quarantine,
    RunState,
    StopFeeding,
    TaskFailed,
    WorkerLost,
)

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
            for report in self.pool.poll(POLL_S):
                finish = self._take(report) or finish
            for watcher in self.watchers:
                watcher.tick()
        return finish

    def _take(self, report: Report) -> Finish | None:
        event = report.event
        if report.record is not None:
            self.ledger.release(report.record.key)
            for watcher in self.watchers:
                watcher.committed(report.record)
        elif isinstance(event, TaskFailed):
            self._tell("task_failed", task=str(event.task), worker=event.worker, error=event.error, what=event.kind)
            for chunk in event.undone:
                self.ledger.forget(chunk)
        elif isinstance(event, WorkerLost):
            self._tell("worker_lost", worker=event.worker, why=event.why)
        else:
            self._tell(type(event).__name__, worker=getattr(event, "worker", None))
        return self._act(self.state.handle(event))

    def _act(self, instructions: Iterable[Instruction]) -> Finish | None:
        finish = None
        for instruction in instructions:
            match instruction:
                case Assign():
                    self.pool.send(instruction)
                case Quarantine(task, story):
                    self.ledger.quarantine(task, story)
                    self._tell("quarantined", task=str(task), story=list(story))
                case Finish():
                    finish = instruction
        return finish

    def _tell(self, kind: str, **facts: Any) -> None:
        for watcher in self.watchers:
            watcher.event(kind, **facts)
