"""The driver's loop: it carries out the run state's instructions, and turns what pools report into events."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Protocol

from batchseg.ledger.ledger import Ledger
from batchseg.runs.patience import Waits
from batchseg.runs.runstate import RunState
from batchseg.workers.events import (
    Assign,
    AwaitScene,
    Dismiss,
    Event,
    Finish,
    GiveUpScene,
    Instruction,
    Quarantine,
    ReopenScene,
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
from batchseg.workers.happenings import (
    AttemptFailed,
    Happening,
    RecordForgotten,
    RunStopping,
    SceneAbsent,
    SceneGivenUp,
    SceneReturned,
    TaskCommitted,
    TaskQuarantined,
    WorkerGone,
    WorkerLate,
    WorkerLeaving,
    WorkerOpened,
    WorkerSentHome,
)
from batchseg.workers.pool import Pool, PoolEvent

POLL_S = 0.5


class Watcher(Protocol):
    """Follows a run without deciding anything: the log, the progress, compaction, metrics."""

    def notice(self, happening: Happening) -> None:
        """Take note of something that has just happened."""
        ...

    def tick(self) -> None:
        """Do what is due; called once per turn of the loop."""
        ...


@dataclass(slots=True)
class Stop:
    """A request to assign no more tasks and to finish those in hand; made by a signal handler or a budget."""

    why: str | None = None
    exit_status: int = 0

    @property
    def is_signal(self) -> bool:
        """True if somebody waits for the process to end, which is not so where a budget stops the run."""
        return self.why is not None and self.exit_status != 0

    def request(self, why: str, exit_status: int = 0) -> None:
        """Ask the run to stop. The first reason counts."""
        if self.why is None:
            self.why, self.exit_status = why, exit_status


@dataclass(slots=True)
class Drive:
    """One run of the loop, until the run state says that it is finished."""

    state: RunState
    pool: Pool
    ledger: Ledger
    watchers: tuple[Watcher, ...]
    waits: Waits
    stop: Stop = field(default_factory=Stop)
    check: Callable[[], None] = lambda: None
    """Raises when this driver may not go on; called once per turn."""
    _stopping_s: float | None = None
    """The time when the run was told to stop."""

    def run(self) -> Finish:
        finish: Finish | None = None
        while finish is None:
            self.check()
            finish = self._stop_if_told() or self._turn()
        return finish

    def _stop_if_told(self) -> Finish | None:
        if self.stop.why is None:
            return None
        if self._stopping_s is None:
            self._stopping_s = self.waits.now()
            self._notice(RunStopping(why=self.stop.why))
            return self._act(self.state.handle(StopFeeding(self.stop.why)))
        stop_s = self.waits.patience.stop_s
        if not self.stop.is_signal or self.waits.now() - self._stopping_s <= stop_s:
            return None
        num_held = sum(map(len, self.state.held.values()))
        self._notice(RunStopping(why=f"{self.stop.why}; {num_held} tasks in hand did not end within {stop_s:g} s"))
        return self._act(self.state.handle(StopWaiting()))

    def _turn(self) -> Finish | None:
        """Take what has happened in, and do what is due."""
        finish: Finish | None = None
        self.pool.resize(self.state.num_open)
        for report in self.pool.poll(self.waits.limit_wait_s(POLL_S)):
            finish = self._take(report) or finish
        for scene in self.waits.take_due_scenes():
            finish = self._act(self.state.handle(SceneDue(scene))) or finish
        for late in self.waits.find_late():
            self._end_late(late)
        for watcher in self.watchers:
            watcher.tick()
        return finish

    def _take(self, report: PoolEvent | Happening) -> Finish | None:
        if not isinstance(report, PoolEvent):
            self._notice(report)
            return None
        event = report.event
        if report.record is not None:
            self.ledger.unquarantine(report.record.key)
            self._notice(TaskCommitted(record=report.record))
        elif isinstance(event, TaskFailed):
            for chunk in event.undone:
                self.ledger.forget(chunk)
                self._notice(RecordForgotten(task=chunk))
        if isinstance(event, TaskDone | TaskFailed):
            self.waits.end(event.worker, event.task, done=isinstance(event, TaskDone))
        elif isinstance(event, WorkerLost | WorkerRetired):
            self.waits.drop_worker(event.worker)
        self._notice_event(event)
        return self._act(self.state.handle(event))

    def _notice_event(self, event: Event) -> None:
        match event:
            case TaskFailed(worker, task, error, _, kind):
                self._notice(AttemptFailed(task=task, worker=worker, error=error, kind=kind))
            case WorkerLost(worker, why, kind, blamed):
                held = tuple(self.state.held.get(worker, []))
                self._notice(WorkerGone(worker=worker, why=why, kind=kind, held=held, blamed=blamed))
            case WorkerReady(worker, usd_per_hour):
                self._notice(WorkerOpened(worker=worker, usd_per_hour=usd_per_hour))
            case WorkerDraining(worker, why):
                self._notice(WorkerLeaving(worker=worker, why=why))
            case WorkerRetired(worker, why):
                self._notice(WorkerSentHome(worker=worker, why=why))

    def _end_late(self, late: WorkerLate) -> None:
        self._notice(late)
        self.waits.drop_worker(late.worker)
        self.pool.dismiss(WorkerLost(late.worker, late.why, "failure", late.task))

    def _act(self, instructions: Iterable[Instruction]) -> Finish | None:
        finish = None
        for instruction in instructions:
            match instruction:
                case Assign():
                    self.waits.begin(instruction.worker, instruction.task)
                    self.pool.send(instruction)
                case Dismiss(worker, why):
                    self.pool.dismiss(WorkerLost(worker, why))
                case Quarantine(task, story):
                    self.ledger.quarantine(task, story)
                    self._notice(TaskQuarantined(task=task, story=story))
                case Finish():
                    finish = instruction
                case _:
                    self._act_on_scene(instruction)
        return finish

    def _act_on_scene(self, instruction: AwaitScene | ReopenScene | GiveUpScene) -> None:
        scene = instruction.scene
        match instruction:
            case AwaitScene(num_looks=num_looks, why=why):
                self.waits.await_scene(scene, num_looks)
                self._notice(SceneAbsent(scene=scene, num_looks=num_looks, why=why))
            case ReopenScene():
                self.waits.forget_scene(scene)
                self._notice(SceneReturned(scene=scene))
            case GiveUpScene(story=story, num_tasks=num_tasks):
                self.ledger.give_up_scene(scene, story)
                self._notice(SceneGivenUp(scene=scene, story=story, num_tasks=num_tasks))

    def _notice(self, happening: Happening) -> None:
        for watcher in self.watchers:
            watcher.notice(happening)
