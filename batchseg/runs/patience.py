"""How long a worker may keep a task: a multiple of what its peers need, or a deadline.

A worker that hangs holds its tasks for ever, and no error ever comes. What its peers need is known: the median of the
last tasks of the same kind in the same group of workers. A worker that takes many times that is ended, and its tasks
are given away; its loss counts as a failure of the task that it had first, since the task may be the cause.
"""

from __future__ import annotations

import time
from collections import defaultdict, deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from statistics import median

from batchseg.ledger.keys import TaskKey
from batchseg.recipe import Patience

LEAST_KNOWN = 5
"""Tasks of a kind that must have been done before there is a median to speak of."""
REMEMBERED = 101
LOOK_EVERY_S = 1.0


@dataclass(frozen=True, slots=True)
class Late:
    worker: str
    task: TaskKey
    why: str


@dataclass(slots=True)
class Waits:
    """Every task in hand, since when, and how long such tasks took."""

    patience: Patience
    kind_of: Callable[[str, TaskKey], Hashable]
    """Of a worker and a task: what is compared with what."""
    now: Callable[[], float] = time.monotonic
    _since_s: dict[str, dict[TaskKey, float]] = field(default_factory=lambda: defaultdict(dict))
    _took_s: dict[Hashable, deque[float]] = field(default_factory=lambda: defaultdict(lambda: deque(maxlen=REMEMBERED)))
    _looked_s: float = float("-inf")

    def given(self, worker: str, task: TaskKey) -> None:
        self._since_s[worker][task] = self.now()

    def ended(self, worker: str, task: TaskKey, *, done: bool) -> None:
        since_s = self._since_s.get(worker, {}).pop(task, None)
        if done and since_s is not None:
            self._took_s[self.kind_of(worker, task)].append(self.now() - since_s)

    def gone(self, worker: str) -> None:
        self._since_s.pop(worker, None)

    def late(self) -> list[Late]:
        """Workers to end, each with the task it has had longest; looks about once a second."""
        now_s = self.now()
        if now_s - self._looked_s < LOOK_EVERY_S:
            return []
        self._looked_s = now_s
        found = [self._judge(worker, now_s) for worker, tasks in self._since_s.items() if tasks]
        return [late for late in found if late is not None]

    def _judge(self, worker: str, now_s: float) -> Late | None:
        task, since_s = min(self._since_s[worker].items(), key=lambda item: item[1])
        held_s = now_s - since_s
        most_s = self.patience.most_s
        if most_s is not None and held_s > most_s:
            return Late(worker, task, f"it had {task} for {held_s:.0f} s, and the deadline is {most_s:g} s")
        took_s = self._took_s.get(self.kind_of(worker, task), ())
        if held_s <= self.patience.least_s or len(took_s) < LEAST_KNOWN:
            return None
        usual_s = median(took_s)
        if held_s <= self.patience.times_median * usual_s:
            return None
        return Late(worker, task, f"it had {task} for {held_s:.0f} s, where its peers need {usual_s:.1f} s")
