"""Scenes that nobody can read for a while, as the run state sees them: stories first, then any vanishings at all."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from batchseg.ledger.keys import ChunkKey, SheetKey, TaskKey
from batchseg.runs.absent_scenes import LOOKS
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
    TaskDone,
    TaskFailed,
    WorkerLost,
    WorkerReady,
)
from tests.batchseg.runs.task_stories import SHEET, chunk, failed, state_of, tasks
from tests.strategies import quick, thorough

MAX_FAILURES, MAX_PREEMPTIONS = 3, 4


def missed(worker: str, task: TaskKey) -> TaskFailed:
    return TaskFailed(worker, task, "no file", retryable=True, kind="absent")


def look_in_vain(state: RunState, worker: str = "a") -> list[Instruction]:
    """The scene `s` is due, one chunk looks for it, and misses it."""
    (probe,) = tasks(state.handle(SceneDue("s")))
    return state.handle(missed(worker, probe))


def test_one_miss_takes_all_chunks_of_the_scene_out_of_the_queue() -> None:
    state = state_of(5)
    state.handle(WorkerReady("a"))
    assert state.handle(missed("a", chunk(0))) == [AwaitScene("s", 0, "a: no file")]
    assert state.num_open == 5
    assert state.handle(SceneDue("s")) == [Assign("a", chunk(1), 1)], "another chunk looks for the scene"
    assert state.handle(TaskDone("a", chunk(1))) == [ReopenScene("s"), Assign("a", chunk(2), 1)]


def test_chunks_of_an_absent_scene_are_tried_last() -> None:
    others: list[TaskKey] = [ChunkKey("t", 0, number) for number in range(3)]
    state = RunState.start([chunk(0), chunk(1), *others], {}, max_failures=3, max_preemptions=3, depth=1)
    state.handle(WorkerReady("a"))
    assert tasks(state.handle(missed("a", chunk(0)))) == [others[0]]
    assert state.handle(SceneDue("s")) == [], "the worker is busy"
    assert tasks(state.handle(TaskDone("a", others[0]))) == [others[1]], "there is other work"
    assert tasks(state.handle(TaskDone("a", others[1]))) == [others[2]]
    assert tasks(state.handle(TaskDone("a", others[2]))) == [chunk(1)]


def test_a_scene_that_stays_away_is_given_up_with_one_story() -> None:
    state = state_of(99, sheet=True)
    state.handle(WorkerReady("a"))
    state.handle(missed("a", chunk(0)))
    for look in range(1, LOOKS):
        assert look_in_vain(state) == [AwaitScene("s", look, "a: no file")]
    told = look_in_vain(state)
    assert told == [GiveUpScene("s", ("a: no file",) * (1 + LOOKS), 99), Assign("a", SHEET, 1)]
    assert state.handle(TaskDone("a", SHEET)) == [Finish(0, None)]
    assert state.handle(SceneDue("s")) == []


def test_what_was_in_hand_when_the_scene_went_away_is_no_look() -> None:
    state = state_of(6, depth=2)
    state.handle(WorkerReady("a"))
    state.handle(WorkerReady("b"))
    told = [state.handle(missed(worker, task)) for worker in "ab" for task in list(state.held[worker])]
    assert [len(instructions) for instructions in told] == [1, 0, 0, 0]
    state.handle(SceneDue("s"))
    assert sum(map(len, state.held.values())) == 1


def test_a_chunk_that_misses_what_others_find_fails_by_itself() -> None:
    """As where one part of a mosaic is gone."""
    state = state_of(3)
    state.handle(WorkerReady("a"))
    state.handle(missed("a", chunk(0)))
    assert tasks(state.handle(SceneDue("s"))) == [chunk(1)]
    assert tasks(state.handle(TaskDone("a", chunk(1)))) == [chunk(2)]
    assert tasks(state.handle(TaskDone("a", chunk(2)))) == [chunk(0)]
    for _ in range(2):
        assert tasks(state.handle(missed("a", chunk(0)))) == [chunk(0)]
    assert state.handle(missed("a", chunk(0))) == [Quarantine(chunk(0), ("a: no file",) * 3), Finish(1, None)]


def test_a_worker_that_cannot_see_the_scene_does_not_look_for_it() -> None:
    state = state_of(4)
    state.handle(WorkerReady("blind", usd_per_hour=0.1))
    state.handle(missed("blind", chunk(0)))
    state.handle(WorkerReady("a", usd_per_hour=1.0))
    assert state.handle(SceneDue("s")) == [Assign("a", chunk(1), 1)]


def test_a_failure_of_another_kind_shows_that_the_scene_is_there() -> None:
    state = state_of(3)
    state.handle(WorkerReady("a"))
    state.handle(missed("a", chunk(0)))
    state.handle(SceneDue("s"))
    assert state.handle(failed("a", chunk(1))) == [ReopenScene("s"), Assign("a", chunk(2), 1)]


def test_the_chunk_that_looks_may_lose_its_worker_and_be_given_up() -> None:
    state = state_of(2, preemptions=2)
    state.handle(WorkerReady("a"))
    state.handle(missed("a", chunk(0)))
    state.handle(SceneDue("s"))
    state.handle(WorkerLost("a", "spot"))
    assert tasks(state.handle(WorkerReady("b"))) == [chunk(1)]
    assert [type(told) for told in state.handle(WorkerLost("b", "spot"))] == [Quarantine]
    assert tasks(state.handle(WorkerReady("c"))) == [chunk(0)], "another chunk takes over"


def test_a_stop_does_not_wait_for_an_absent_scene() -> None:
    state = state_of(3)
    state.handle(WorkerReady("a"))
    state.handle(missed("a", chunk(0)))
    assert state.handle(StopFeeding("SIGTERM")) == [Finish(0, "SIGTERM")]


def test_damage_under_a_sheet_of_a_scene_that_was_given_up_ends_too() -> None:
    state = state_of(1, sheet=True)
    state.handle(WorkerReady("a"))
    state.handle(missed("a", chunk(0)))
    for _ in range(LOOKS):
        look_in_vain(state)
    found = TaskFailed("a", SHEET, "digests differ", retryable=True, undone=(chunk(0),))
    for attempt in (2, 3):
        assert tasks(state.handle(found)) == [chunk(0)]
        assert state.handle(missed("a", chunk(0))) == [Assign("a", SHEET, attempt)]
    assert [type(told) for told in state.handle(found)] == [Quarantine, Finish]


@dataclass(slots=True)
class World:
    """Plays workers, and scenes that come and go, with books of its own to check every instruction against."""

    dice: Random
    vanishings: int
    """The number of times that scenes go away, in all."""
    stay_away: bool = False
    """Whether the scenes that are away at the end stay away."""
    punctual: bool = False
    """Whether each scene is back when it is due, and stays until it is found."""
    chunks: dict[str, list[ChunkKey]] = field(default_factory=dict)
    away: set[str] = field(default_factory=set)
    held: dict[str, list[TaskKey]] = field(default_factory=dict)
    ended: set[TaskKey] = field(default_factory=set)
    misses: Counter[TaskKey] = field(default_factory=Counter)
    looks: dict[str, int] = field(default_factory=dict)
    """The scenes that the state knows to be absent, with the number of looks in vain."""
    awaited: set[str] = field(default_factory=set)
    """The scenes that the driver has yet to call due."""
    lost: set[str] = field(default_factory=set)
    quarantined: set[TaskKey] = field(default_factory=set)
    finish: Finish | None = None
    num_workers: int = 0
    state: RunState = field(init=False)

    def __post_init__(self) -> None:
        for name in "abc"[: self.dice.randint(1, 3)]:
            self.chunks[name] = [ChunkKey(name, 0, col) for col in range(self.dice.randint(1, 6))]
        sheets: dict[TaskKey, set[TaskKey]] = {SheetKey(name, 0, 0): set(keys) for name, keys in self.chunks.items()}
        every = [key for keys in self.chunks.values() for key in keys]
        self.dice.shuffle(every)
        self.state = RunState.start(
            [*every, *sheets],
            sheets,
            max_failures=MAX_FAILURES,
            max_preemptions=MAX_PREEMPTIONS,
            depth=self.dice.randint(1, 3),
        )

    def tell(self, event: Event) -> None:
        for instruction in self.state.handle(event):
            self.check(instruction)

    def hire(self) -> None:
        self.num_workers += 1
        name = f"w{self.num_workers}"
        self.held[name] = []
        self.tell(WorkerReady(name))

    def step(self) -> None:
        working = [(worker, task) for worker, held in self.held.items() for task in held]
        luck = self.dice.random()
        if luck < 0.15 and self.vanishings:
            self.vanishings -= 1
            scene = self.dice.choice(sorted(self.chunks))
            if not self.punctual or scene not in self.looks:
                self.away.add(scene)
        elif luck < 0.3 and self.away and (self.vanishings or not self.stay_away):
            self.away.discard(self.dice.choice(sorted(self.away)))
        elif luck < 0.45 and self.awaited:
            scene = self.dice.choice(sorted(self.awaited))
            self.awaited.discard(scene)
            if self.punctual:
                self.away.discard(scene)
            self.tell(SceneDue(scene))
        elif not self.held or (luck < 0.5 and len(self.held) < 4):
            self.hire()
        elif working:
            self.work(*self.dice.choice(working))

    def work(self, worker: str, task: TaskKey) -> None:
        if self.dice.random() < 0.05:
            self.held.pop(worker)
            self.tell(WorkerLost(worker, "spot"))
            return
        self.held[worker].remove(task)
        if task.reads_scene and task.scene in self.away:
            self.misses[task] += 1
            self.tell(missed(worker, task))
        else:
            self.ended.add(task)
            self.tell(TaskDone(worker, task))

    def check(self, instruction: Instruction) -> None:
        assert self.finish is None, "nothing comes after the end"
        match instruction:
            case Assign(worker, task):
                self.check_assign(worker, task)
            case AwaitScene(scene, num_looks):
                assert self.looks.get(scene, -1) == num_looks - 1, "each look is counted once"
                self.looks[scene] = num_looks
                self.awaited.add(scene)
            case ReopenScene(scene):
                del self.looks[scene]
                self.awaited.discard(scene)
            case GiveUpScene(scene, story, num_tasks):
                self.check_give_up(scene, story, num_tasks)
            case Quarantine(task, story):
                lost = sum("was lost" in line for line in story)
                assert self.misses[task] > MAX_FAILURES or lost >= MAX_PREEMPTIONS
                self.quarantined.add(task)
                self.ended.add(task)
            case Dismiss(worker):
                self.held.pop(worker)
                self.tell(WorkerLost(worker, "sick"))
            case Finish():
                self.finish = instruction

    def check_assign(self, worker: str, task: TaskKey) -> None:
        assert task not in self.ended
        assert all(task not in held for held in self.held.values()), "two owners"
        if isinstance(task, SheetKey):
            assert task.scene in self.lost or set(self.chunks[task.scene]) <= self.ended, "a sheet before its chunks"
        elif task.scene in self.looks:
            assert task.scene not in self.awaited, "it looks for a scene only when that is due"
        self.held[worker].append(task)

    def check_give_up(self, scene: str, story: tuple[str, ...], num_tasks: int) -> None:
        assert scene not in self.lost, "one story per scene"
        assert self.looks.pop(scene) == LOOKS - 1
        assert len(story) == 1 + LOOKS
        assert num_tasks <= len(set(self.chunks[scene]) - self.ended)
        self.lost.add(scene)

    def check_end(self) -> None:
        assert self.finish == Finish(len(self.quarantined), None)
        assert not any(self.held.values())
        for scene, keys in self.chunks.items():
            assert scene in self.lost or set(keys) <= self.ended
            assert SheetKey(scene, 0, 0) in self.ended


def play(world: World) -> World:
    world.hire()
    for _ in range(20_000):
        if world.finish is not None:
            world.check_end()
            return world
        world.step()
    raise AssertionError("the run does not end")


@given(dice=st.randoms(use_true_random=False), vanishings=st.integers(0, 12), stay_away=st.booleans())
@thorough
def test_whatever_vanishes_the_run_ends_and_each_chunk_is_done_or_its_scene_is_given_up(
    dice: Random, vanishings: int, stay_away: bool
) -> None:
    play(World(dice, vanishings, stay_away))


@given(dice=st.randoms(use_true_random=False), vanishings=st.integers(0, 12))
@quick
def test_no_scene_is_lost_that_is_back_when_the_run_looks_for_it(dice: Random, vanishings: int) -> None:
    world = play(World(dice, vanishings, punctual=True))
    assert not world.lost


def test_the_worlds_are_bad_enough() -> None:
    seen: Counter[str] = Counter()
    for seed in range(300):
        world = play(World(Random(seed), vanishings=seed % 13, stay_away=seed % 2 == 0))
        seen["one scene lost"] += len(world.lost) == 1
        seen["all scenes lost"] += len(world.lost) == len(world.chunks)
        seen["missed and all done"] += bool(world.misses) and not world.lost and not world.quarantined
        seen["nothing missed"] += not world.misses
    assert min(seen.values()) >= 5, seen
    assert len(seen) == 4
