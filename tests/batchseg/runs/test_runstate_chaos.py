"""Invariant I5: whatever happens, in whatever order, the run state ends and nobody owns a task twice."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field

import pytest

from batchseg.ledger.keys import ChunkKey, SheetKey, TaskKey
from batchseg.runs.runstate import RunState
from batchseg.workers.events import (
    Assign,
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
)

MAX_FAILURES, MAX_PREEMPTIONS = 3, 5
NUM_WORKERS = 4


@dataclass(slots=True)
class World:
    """Plays the pool at its worst, and keeps its own books to check every instruction against."""

    dice: random.Random
    depth: int = 2
    sheets: dict[SheetKey, set[ChunkKey]] = field(default_factory=dict)
    """All chunks of each sheet; those that are not in `chunks` were committed by an earlier run."""
    chunks: list[ChunkKey] = field(default_factory=list)
    killers: set[TaskKey] = field(default_factory=set)
    poison: set[TaskKey] = field(default_factory=set)
    alive: dict[str, list[TaskKey]] = field(default_factory=dict)
    draining: set[str] = field(default_factory=set)
    settled: set[TaskKey] = field(default_factory=set)
    quarantined: set[TaskKey] = field(default_factory=set)
    stories: dict[TaskKey, list[str]] = field(default_factory=dict)
    counts: dict[TaskKey, Counter[str]] = field(default_factory=dict)
    revived: Counter[TaskKey] = field(default_factory=Counter)
    stopped: bool = False
    finish: Finish | None = None
    num_workers: int = 0
    state: RunState = field(init=False)

    def __post_init__(self) -> None:
        for scene in "ab"[: self.dice.randint(1, 2)]:
            keys = [ChunkKey(scene, 0, col) for col in range(self.dice.randint(0, 7))]
            todo = [key for key in keys if self.dice.random() < 0.8]
            self.chunks += todo
            self.settled |= set(keys) - set(todo)
            if self.dice.random() < 0.8:
                self.sheets[SheetKey(scene, 0, 0)] = set(keys)
        tasks: list[TaskKey] = [*self.chunks, *self.sheets]
        self.killers = {task for task in tasks if self.dice.random() < 0.1}
        self.poison = {task for task in tasks if self.dice.random() < 0.1}
        self.depth = self.dice.randint(1, 3)
        waits: dict[TaskKey, set[TaskKey]] = {sheet: keys - self.settled for sheet, keys in self.sheets.items()}
        self.state = RunState.start(
            tasks, waits, max_failures=MAX_FAILURES, max_preemptions=MAX_PREEMPTIONS, depth=self.depth
        )

    # What happens

    def tell(self, event: Event) -> None:
        for instruction in self.state.handle(event):
            self.check(instruction)

    def new_worker(self) -> None:
        self.num_workers += 1
        name = f"w{self.num_workers}"
        self.alive[name] = []
        self.tell(WorkerReady(name))

    def lose(self, worker: str) -> None:
        for task in self.alive.pop(worker):
            self.note(task, "lost", f"{worker} was lost: spot")
        self.draining.discard(worker)
        self.tell(WorkerLost(worker, "spot"))

    def note(self, task: TaskKey, what: str, line: str) -> None:
        self.counts.setdefault(task, Counter())[what] += 1
        self.stories.setdefault(task, []).append(line)

    def do(self, worker: str, task: TaskKey) -> None:
        self.alive[worker].remove(task)
        self.settled.add(task)
        self.quarantined.discard(task)
        self.tell(TaskDone(worker, task))

    def fail(self, worker: str, task: TaskKey) -> None:
        self.alive[worker].remove(task)
        kind = self.dice.choice(["failure", "failure", "out_of_memory"])
        self.note(task, kind, f"{worker}: broke")
        retryable = self.dice.random() < 0.9
        undone: tuple[ChunkKey, ...] = ()
        if isinstance(task, SheetKey) and self.dice.random() < 0.5 and self.sheets[task]:
            undone = tuple(self.dice.choices(sorted(self.sheets[task]), k=self.dice.randint(1, 3)))
            if retryable and self.tried(task) < MAX_FAILURES:
                for chunk in set(undone):
                    self.revived[chunk] += chunk in self.quarantined
                    self.settled.discard(chunk)
                    self.quarantined.discard(chunk)
                    self.stories.setdefault(chunk, []).append("its stored objects were found damaged")
        self.tell(TaskFailed(worker, task, "broke", retryable, kind, undone))  # type: ignore[arg-type]

    def tried(self, task: TaskKey) -> int:
        counts = self.counts.get(task, Counter())
        return counts["failure"] + counts["out_of_memory"]

    def late_report(self) -> None:
        """Of a worker that is gone, or of a task that this worker does not hold."""
        worker = f"w{self.dice.randint(1, self.num_workers + 1)}"
        tasks: list[TaskKey] = [*self.chunks, *self.sheets, ChunkKey("z", 9, 9)]
        task = self.dice.choice(tasks)
        if task not in self.alive.get(worker, []):
            late = (
                TaskDone(worker, task)
                if self.dice.random() < 0.5
                else TaskFailed(worker, task, "late", retryable=False)
            )
            before = (len(self.state.pending), len(self.state.waiting), dict(self.alive))
            assert self.state.handle(late) == [] or self.stopped
            assert before == (len(self.state.pending), len(self.state.waiting), dict(self.alive))

    def step(self) -> None:
        working = [(worker, task) for worker, tasks in self.alive.items() for task in tasks]
        if not self.alive or (len(self.alive) < NUM_WORKERS and self.dice.random() < 0.1):
            self.new_worker()
        elif not working:
            worker = self.dice.choice(sorted(self.alive))
            self.lose(worker) if worker in self.draining else self.new_worker()
        else:
            self.work(*self.dice.choice(working))

    def work(self, worker: str, task: TaskKey) -> None:
        luck = self.dice.random()
        if task in self.killers or luck < 0.1:
            self.lose(worker)
        elif task in self.poison or luck < 0.2:
            self.fail(worker, task)
        elif luck < 0.25:
            self.draining.add(worker)
            self.tell(WorkerDraining(worker))
        elif luck < 0.4:
            self.late_report()
        elif luck < 0.403:
            self.stopped = True
            self.tell(StopFeeding("budget"))
        else:
            self.do(worker, task)

    # What it says

    def check(self, instruction: Instruction) -> None:
        assert self.finish is None, "nothing comes after the end"
        match instruction:
            case Assign(worker, task, attempt):
                self.check_assign(worker, task, attempt)
            case Quarantine(task, story):
                self.check_quarantine(task, story)
            case Finish():
                self.finish = instruction

    def check_assign(self, worker: str, task: TaskKey, attempt: int) -> None:
        assert not self.stopped
        assert worker in self.alive
        assert worker not in self.draining
        assert all(task not in held for held in self.alive.values()), "two owners"
        assert task not in self.settled
        assert attempt == 1 + self.counts.get(task, Counter()).total()
        if isinstance(task, SheetKey):
            assert self.sheets[task] <= self.settled, "a sheet before its chunks"
        self.alive[worker].append(task)
        assert len(self.alive[worker]) <= self.depth
        if any(self.suspect(held) for held in self.alive[worker]):
            assert len(self.alive[worker]) == 1, "what took workers down takes nobody else along"

    def suspect(self, task: TaskKey) -> bool:
        counts = self.counts.get(task, Counter())
        return counts["out_of_memory"] > 0 or counts["lost"] > 1

    def check_quarantine(self, task: TaskKey, story: tuple[str, ...]) -> None:
        assert task not in self.settled
        assert list(story) == self.stories[task]
        counts = self.counts[task]
        assert self.tried(task) <= MAX_FAILURES + self.revived[task]
        assert counts["lost"] <= MAX_PREEMPTIONS + self.revived[task]
        self.settled.add(task)
        self.quarantined.add(task)

    def check_end(self) -> None:
        assert self.finish is not None
        assert not any(self.alive.values()), "what is held ends first"
        assert self.finish.quarantined == len(self.quarantined)
        unsettled = {*self.chunks, *self.sheets} - self.settled
        assert (self.finish.stopped is None) == (not unsettled)
        assert not unsettled or self.stopped


@pytest.mark.parametrize("block", range(10))
def test_i5_the_run_state_always_ends_and_never_assigns_a_task_twice_at_once(block: int) -> None:
    for seed in range(block * 200, block * 200 + 200):
        world = World(random.Random(seed))
        world.new_worker()
        attempts_left = 40 * (len(world.chunks) + len(world.sheets) + 10)
        while world.finish is None:
            world.step()
            attempts_left -= 1
            assert attempts_left, f"seed {seed} does not end"
        world.check_end()


def test_the_worlds_are_bad_enough() -> None:
    """The test above means something only if all that can happen does happen."""
    seen: Counter[str] = Counter()
    for seed in range(300):
        world = World(random.Random(seed))
        world.new_worker()
        while world.finish is None:
            world.step()
        seen["stopped"] += world.finish.stopped is not None
        seen["quarantined sheets"] += any(isinstance(task, SheetKey) for task in world.quarantined)
        seen["by losses"] += any(c["lost"] == MAX_PREEMPTIONS for c in world.counts.values())
        seen["by failures"] += any(world.tried(task) == MAX_FAILURES for task in world.quarantined)
        seen["redone"] += any("damaged" in line for story in world.stories.values() for line in story)
        seen["nothing to do"] += not (world.chunks or world.sheets)
        seen["complete"] += not world.quarantined and world.finish.stopped is None
    assert min(seen.values()) >= 5, seen
    assert len(seen) == 7, seen
