"""The stages that a worker's seconds are spent on.

Theory of operation
-------------------
A worker does several things at once: it reads the next chunk and writes the last one while the device computes. Adding
up the seconds of each would count the same second twice, and the cost of a run would not add up. So every moment of a
worker's life counts for exactly one stage: of all stages open at that moment, the one that stands first in STAGES.
Reading that hides behind compute therefore costs nothing, which is the truth about money. The seconds that it would
take alone are kept beside it as *busy* seconds, which is the truth about speed.

Seconds gather under the task that they were spent on. When a task ends they are taken: into its record, or, if it
failed, into the waste of the worker's stint. Seconds without an open stage are idle. An audit is a stage of its own, so
that the cost of the routes can be told from the cost of checking them.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

Stage = Literal["compute_heavy", "compute_bulk", "audit", "read", "write", "start"]
STAGES: tuple[Stage, ...] = ("compute_heavy", "compute_bulk", "audit", "read", "write", "start")


@dataclass(slots=True)
class StageClock:
    """Gives each second of a worker to one stage of one task. Thread-safe; `now` is any steady clock in seconds."""

    now: Callable[[], float] = time.monotonic
    _idle_s: float = 0.0
    _open: list[tuple[int, str]] = field(default_factory=list)
    _spent_s: defaultdict[str, defaultdict[str, float]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(float))
    )
    _last_s: float = field(init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self._last_s = self.now()

    @contextmanager
    def stage(self, stage: Stage, task: str) -> Iterator[None]:
        """Keep a stage of a task open from entry to exit."""
        entry = (STAGES.index(stage), task)
        with self._lock:
            self._tick()
            self._open.append(entry)
        begun_s = self.now()
        try:
            yield
        finally:
            with self._lock:
                self._tick()
                self._open.remove(entry)
                self._spent_s[task][f"busy_{stage}"] += self.now() - begun_s

    def take(self, task: str) -> dict[str, float]:
        """Take the seconds spent on a task since the last call, by stage."""
        with self._lock:
            self._tick()
            return dict(self._spent_s.pop(task, {}))

    def in_hand_s(self) -> dict[str, float]:
        """Seconds spent so far on each task that has not ended."""
        with self._lock:
            self._tick()
            return {task: sum_paid_s(spent) for task, spent in self._spent_s.items()}

    @property
    def idle_s(self) -> float:
        """Seconds without an open stage, up to now."""
        with self._lock:
            self._tick()
            return self._idle_s

    def _tick(self) -> None:
        now_s = self.now()
        elapsed_s, self._last_s = now_s - self._last_s, now_s
        if self._open:
            stage, task = min(self._open)
            self._spent_s[task][STAGES[stage]] += elapsed_s
        else:
            self._idle_s += elapsed_s


def sum_paid_s(seconds: Mapping[str, float]) -> float:
    """The seconds that are paid for; busy seconds are left out."""
    return sum(s for stage, s in seconds.items() if stage in STAGES)
