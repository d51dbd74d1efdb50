"""What the run state remembers of tasks and of workers."""

from __future__ import annotations

from dataclasses import dataclass, field

from batchseg.ledger.keys import TaskKey
from batchseg.runs.lines import Need

SUSPECT_LOSSES = 2
"""Workers lost with a task in hand before it is held alone; one loss is common on spot machines, and proves nothing."""


@dataclass(slots=True)
class History:
    """What happened to one task so far; kept only for tasks that something happened to."""

    failures: int = 0
    preemptions: int = 0
    out_of_memory: int = 0
    story: list[str] = field(default_factory=list)
    failed_on: str | None = None

    @property
    def attempts(self) -> int:
        return self.failures + self.preemptions + self.out_of_memory

    @property
    def tried(self) -> int:
        return self.failures + self.out_of_memory

    @property
    def is_suspect(self) -> bool:
        return self.out_of_memory > 0 or self.preemptions >= SUSPECT_LOSSES


@dataclass(slots=True)
class Member:
    """A worker, as far as decisions need to know it."""

    name: str
    rank: tuple[float, int]
    """Price, then order of arrival: who is fed first."""
    needs: tuple[Need, ...]
    failed_in_a_row: set[TaskKey] = field(default_factory=set)
    num_done_before: int = 0
    """By all workers, when the first of those failed."""
