"""Pending tasks in lines, apart by the tiers that they need, so that a worker is offered only what it may do."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Literal

from batchseg.engine.tiers import Tier
from batchseg.ledger.keys import TaskKey

Need = Literal["any", "bulk", "heavy", "both"]
"""Which workers can do a task; `any`: all of them, be it that it needs no model or that nobody is limited."""

NEEDS: tuple[Need, ...] = ("both", "heavy", "bulk", "any")
"""What a worker without limits takes first: what the fewest others can do."""

LOOK_AHEAD = 8
"""How far behind the first of a line a worker looks for a task that it may take."""


def needs_of(only: Tier | None) -> tuple[Need, ...]:
    """The lines that a worker serves, in order."""
    return NEEDS if only is None else (only, "any")


@dataclass(slots=True)
class Lines:
    """First in, first out, a line a need."""

    need_of: Callable[[TaskKey], Need]
    _lines: dict[Need, deque[TaskKey]]
    _num: int = 0

    @classmethod
    def of(cls, tasks: Iterable[TaskKey], need_of: Callable[[TaskKey], Need]) -> Lines:
        lines = cls(need_of, {need: deque() for need in NEEDS})
        for task in tasks:
            lines.append(task)
        return lines

    def __len__(self) -> int:
        return self._num

    def append(self, task: TaskKey) -> None:
        self._lines[self.need_of(task)].append(task)
        self._num += 1

    def take(self, needs: Iterable[Need], may: Callable[[TaskKey], bool]) -> TaskKey | None:
        """The first task of these lines that may be taken; None where the first few may not."""
        for need in needs:
            line = self._lines[need]
            for place, task in enumerate(islice(line, LOOK_AHEAD)):
                if may(task):
                    del line[place]
                    self._num -= 1
                    return task
        return None
