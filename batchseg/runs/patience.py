"""Time that a worker may keep a task: a multiple of what its peers need, or a deadline.

A worker that hangs holds its tasks for ever, and no error ever comes. The time that its peers need is known: the median
over the last tasks of the same kind in the same group of workers. A worker that takes many times that median is ended,
and its tasks go to other workers. Its loss counts as a failure of the task that it has held longest, since that task
may be the cause.

A scene that is absent is looked for after pauses that grow.
"""

from __future__ import annotations

import time
from collections import defaultdict, deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from statistics import median

from batchseg.ledger.keys import TaskKey
from batchseg.recipe import Patience
from batchseg.workers.happenings import WorkerLate

LEAST_KNOWN = 5
"""The number of finished tasks of a group before its median counts."""
REMEMBERED = 101
LOOK_EVERY_S = 1.0
SHARES = (0.1, 0.3, 0.6)
"""The pauses before each look for an absent scene, as shares of the whole time."""


@dataclass(slots=True)
class Waits:
    """Every task in hand with the time since when, and how long such tasks took before."""

    patience: Patience
    find_group: Callable[[str, TaskKey], Hashable]
    """The group of a worker and a task; times are compared within one group."""
    now: Callable[[], float] = time.monotonic
    _since_s: dict[str, dict[TaskKey, float]] = field(default_factory=lambda: defaultdict(dict))
    _took_s: dict[Hashable, deque[float]] = field(default_factory=lambda: defaultdict(lambda: deque(maxlen=REMEMBERED)))
    _looked_s: float = float("-inf")
    _due_s: dict[str, float] = field(default_factory=dict)
    """The time when each absent scene is due."""

    def begin(self, worker: str, task: TaskKey) -> None:
        self._since_s[worker][task] = self.now()

    def end(self, worker: str, task: TaskKey, *, done: bool) -> None:
        """Only a task that was done says how long such tasks take."""
        since_s = self._since_s.get(worker, {}).pop(task, None)
        if done and since_s is not None:
            self._took_s[self.find_group(worker, task)].append(self.now() - since_s)

    def drop_worker(self, worker: str) -> None:
        self._since_s.pop(worker, None)

    def await_scene(self, scene: str, num_looks: int) -> None:
        """A scene is absent; it is due after a pause."""
        share = SHARES[min(num_looks, len(SHARES) - 1)]
        self._due_s[scene] = self.now() + share * self.patience.scene_s

    def forget_scene(self, scene: str) -> None:
        self._due_s.pop(scene, None)

    def limit_wait_s(self, most_s: float) -> float:
        """The seconds until the next scene is due, but `most_s` at most."""
        return max(0.0, min([most_s, *(due_s - self.now() for due_s in self._due_s.values())]))

    def take_due_scenes(self) -> list[str]:
        now_s = self.now()
        due = [scene for scene, due_s in self._due_s.items() if due_s <= now_s]
        for scene in due:
            del self._due_s[scene]
        return due

    def find_late(self) -> list[WorkerLate]:
        """The workers to end, each with the task that it has held longest. Looks once per second at most."""
        now_s = self.now()
        if now_s - self._looked_s < LOOK_EVERY_S:
            return []
        self._looked_s = now_s
        judged = [self._judge(worker, now_s) for worker, tasks in self._since_s.items() if tasks]
        return [late for late in judged if late is not None]

    def _judge(self, worker: str, now_s: float) -> WorkerLate | None:
        task, since_s = min(self._since_s[worker].items(), key=lambda item: item[1])
        held_s = now_s - since_s
        most_s = self.patience.most_s
        if most_s is not None and held_s > most_s:
            why = f"it had {task} for {held_s:.0f} s, and the deadline is {most_s:g} s (`patience: most_s`)"
            return WorkerLate(worker=worker, task=task, why=why)
        took_s = self._took_s.get(self.find_group(worker, task), ())
        if held_s <= self.patience.least_s or len(took_s) < LEAST_KNOWN:
            return None
        usual_s = median(took_s)
        if held_s <= self.patience.times_median * usual_s:
            return None
        why = f"it had {task} for {held_s:.0f} s, where its peers need {usual_s:.1f} s"
        return WorkerLate(worker=worker, task=task, why=why)
