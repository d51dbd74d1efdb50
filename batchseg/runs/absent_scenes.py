"""The scenes that nobody can read for now, and the tasks that wait for them.

Theory of operation
-------------------
A scene may go away for a moment: a mount is lost, a file is replaced, a server is silent. Each of its chunks would fail
until it is given up, although nothing is wrong with any chunk. So the first chunk that misses its scene takes all
chunks of that scene out of the queue. Nothing but the scene is counted from then on:

    absent -> due -> one chunk looks for the scene -> there: all of its chunks go back into the queue
      ^                                            -> absent again, and after LOOKS looks in vain: given up
      +------------------------------------------------+

The driver, which has a clock, says when a scene is due. A chunk looks for its scene only where the queue has nothing
else to do, so the chunks of an absent scene are tried last. It should be a chunk that has not missed the scene, on a
worker that has not: a chunk may need a part that is gone for good, and a worker may have lost its mount. A chunk that
misses a scene which others found after it fails by itself from then on, like any other chunk that fails.

A scene is given up with one story, and its chunks stay undone; they do not go into quarantine.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from batchseg.ledger.keys import TaskKey
from batchseg.runs.task_queue import TaskQueue
from batchseg.workers.events import AwaitScene, GiveUpScene, ReopenScene

LOOKS = 3
"""The number of times that a run looks for an absent scene before it gives the scene up."""


@dataclass(slots=True)
class _Absence:
    """One absent scene. It is due, or it has a probe, or the driver will say when it is due."""

    story: list[str] = field(default_factory=list)
    tasks: deque[TaskKey] = field(default_factory=deque)
    missed: set[TaskKey] = field(default_factory=set)
    """The tasks that missed the scene."""
    missed_on: str = ""
    """The worker that missed it last."""
    probe: TaskKey | None = None
    """The task that looks for the scene now; it is in the queue, or a worker holds it."""
    is_due: bool = False
    num_looks: int = 0


@dataclass(slots=True)
class AbsentScenes:
    """All absent scenes, each with the tasks that wait for it."""

    given_up: set[str] = field(default_factory=set)
    _absences: dict[str, _Absence] = field(default_factory=dict)
    _missed_alone: set[TaskKey] = field(default_factory=set)
    """The tasks that missed a scene which another task found after them."""

    def __len__(self) -> int:
        """The number of tasks that wait."""
        return sum(len(absence.tasks) for absence in self._absences.values())

    def is_to_blame(self, task: TaskKey) -> bool:
        """Test if a task that misses its scene fails by itself: others found the scene since it missed it first."""
        return task in self._missed_alone and task.scene not in self._absences

    def keep(self, task: TaskKey) -> bool:
        """Keep a task that needs an absent scene, unless it is the one that looks for it; return whether it is kept."""
        absence = self._absences.get(task.scene) if task.reads_scene else None
        if absence is None or absence.probe == task:
            return False
        absence.tasks.append(task)
        return True

    def miss(
        self, task: TaskKey, worker: str, error: str, queue: TaskQueue
    ) -> tuple[list[AwaitScene | GiveUpScene], tuple[TaskKey, ...]]:
        """Take note of a task that missed its scene.

        Returns:
            What the driver has to do, and the tasks that are given up with the scene.
        """
        scene, why = task.scene, f"{worker}: {error}"
        if scene in self.given_up:
            return [], (task,)
        is_new = scene not in self._absences
        absence = self._absences.setdefault(scene, _Absence(tasks=deque(queue.take_scene(scene) if is_new else ())))
        absence.tasks.append(task)  # to the back, so that another one looks for the scene
        absence.missed.add(task)
        absence.missed_on = worker
        if is_new:
            absence.story.append(why)
            return [AwaitScene(scene, 0, why)], ()
        if absence.probe != task:
            return [], ()  # it was in hand when the scene went away, so it tells nothing new
        return self._look_again(scene, absence, why)

    def _look_again(
        self, scene: str, absence: _Absence, why: str
    ) -> tuple[list[AwaitScene | GiveUpScene], tuple[TaskKey, ...]]:
        absence.probe, absence.is_due = None, False
        absence.num_looks += 1
        absence.story.append(why)
        if absence.num_looks < LOOKS:
            return [AwaitScene(scene, absence.num_looks, why)], ()
        del self._absences[scene]
        self.given_up.add(scene)
        return [GiveUpScene(scene, tuple(absence.story), len(absence.tasks))], tuple(absence.tasks)

    def find(self, task: TaskKey, queue: TaskQueue) -> list[ReopenScene]:
        """A task has ended that did not miss its scene. If it was looking for it, the scene is back."""
        absence = self._absences.get(task.scene)
        if absence is None or absence.probe != task:
            return []
        del self._absences[task.scene]
        self._missed_alone |= absence.missed - {task}
        for other in absence.tasks:
            queue.append(other)
        return [ReopenScene(task.scene)]

    def drop(self, task: TaskKey) -> None:
        """A task was given up without a word on its scene; another one has to look for it."""
        absence = self._absences.get(task.scene)
        if absence is not None and absence.probe == task:
            absence.probe = None

    def mark_due(self, scene: str) -> None:
        if scene in self._absences:
            self._absences[scene].is_due = True

    def take_probes(self) -> Iterator[tuple[TaskKey, str]]:
        """Take one task for each scene that is due, to look for it, with the worker that should not be the one."""
        for absence in self._absences.values():
            if absence.is_due and absence.probe is None and absence.tasks:
                absence.probe = absence.tasks.popleft()
                yield absence.probe, absence.missed_on
