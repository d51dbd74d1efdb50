"""The table of task kinds, and everything that is looked up in it.

A task may wait for tasks of kinds that stand before its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from batchseg.errors import DamagedError
from batchseg.ledger.keys import Story, TaskKey
from batchseg.ledger.ledger import RETRY_TASK, Ledger
from batchseg.ledger.records import TaskRecord
from batchseg.paths import quarantine_key
from batchseg.resolve.job import Job
from batchseg.store import Store
from batchseg.tasks.chunk import CHUNKS
from batchseg.tasks.kind import AnyTaskKind
from batchseg.tasks.sheet import SHEETS
from batchseg.tiers import Need

TASK_KINDS: tuple[AnyTaskKind, ...] = (
    CHUNKS,
    SHEETS,
)


def find_kind(task: TaskKey) -> AnyTaskKind:
    return next(kind for kind in TASK_KINDS if kind.key_type is type(task))


def parse_task_key(name: str) -> TaskKey | None:
    """The inverse of `str(TaskKey)`; None for what is no task's name."""
    keys: Iterator[TaskKey | None] = (kind.key_type.parse(name) for kind in TASK_KINDS)
    return next((key for key in keys if key is not None), None)


def read_quarantine(store: Store) -> dict[TaskKey, Story]:
    """The tasks that were given up, with their stories.

    Raises:
        DamagedError: A file of the quarantine cannot be read, or names no task.
    """
    stories: dict[TaskKey, Story] = {}
    for name, story in Ledger(store).read_stories().items():
        if "/" not in name:
            continue  # a scene
        key = parse_task_key(name)
        if key is None:
            raise DamagedError(
                "a quarantined task must be of a known kind", where=quarantine_key(name), got=name, todo=RETRY_TASK
            )
        stories[key] = story
    return stories


def read_task_records(store: Store) -> Iterator[TaskRecord]:
    """The committed records of all kinds, one kind after the other."""
    for kind in TASK_KINDS:
        yield from kind.read_records(Ledger(store))


def make_need_rule(job: Job, *, limited: bool) -> Callable[[TaskKey], Need]:
    """The tiers that a worker must have for a task; `any` for all tasks where no worker is `limited` to a tier."""
    rules = {
        kind.key_type: kind.make_need_rule(job) for kind in TASK_KINDS if limited and kind.make_need_rule is not None
    }

    def find_need(task: TaskKey) -> Need:
        rule = rules.get(type(task))
        return "any" if rule is None else rule(task)

    return find_need
