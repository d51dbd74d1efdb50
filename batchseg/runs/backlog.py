"""Tasks that are left to do: the tasks of the plan minus those that the ledger shows to be done.

Theory of operation
-------------------
A run believes its ledger when it begins. A record is put after the objects that it names, so work can start at once,
whatever the size of the run. Whether those objects are still there is checked when the work has ended
(`find_lost_tasks`), by one listing of the output; tasks whose objects were removed meanwhile are forgotten and done
again. Damage inside an object is found by the task that reads it, since its digest is in the record.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import TypeVar

from batchseg.ledger.keys import ChunkKey, TaskKey
from batchseg.ledger.ledger import Ledger
from batchseg.ledger.records import Brief
from batchseg.resolve.job import Job
from batchseg.store import Store
from batchseg.tasks import table
from batchseg.tasks.kind import Survey

K = TypeVar("K", bound=TaskKey)


@dataclass(frozen=True, slots=True)
class Backlog:
    """The tasks to do, and what is done already."""

    tasks: tuple[TaskKey, ...]
    """The tasks to do, in order; each stands after the tasks that it waits for."""
    waits: Mapping[TaskKey, AbstractSet[TaskKey]]
    """The tasks among them that must wait, each with the tasks that it waits for."""
    committed_chunks: Mapping[ChunkKey, Brief]
    num_chunks: int
    """The number of chunks of the whole plan."""
    num_quarantined: int

    def select(self, kind: type[K]) -> list[K]:
        """The tasks to do of one kind."""
        return [task for task in self.tasks if isinstance(task, kind)]


def make_backlog(
    job: Job, store: Store, *, is_wanted: Callable[[ChunkKey], bool] = lambda _: True, retry_quarantined: bool
) -> Backlog:
    """Find out what is left of a job.

    Args:
        job: The whole plan.
        store: The output folder.
        is_wanted: Which chunks to do; the other kinds of tasks follow from the chunks.
        retry_quarantined: Whether tasks that were given up get another chance.

    Raises:
        ForeignRunError: A record belongs to another recipe.
        DamagedError: A file of the ledger cannot be read.
    """
    ledger = Ledger(store)
    survey = Survey(
        job=job,
        ledger=ledger,
        committed_chunks=ledger.read_briefs(),
        given_up=set() if retry_quarantined else set(table.read_quarantine(store)),
        is_wanted=is_wanted,
    )
    tasks: list[TaskKey] = []
    waits: dict[TaskKey, AbstractSet[TaskKey]] = {}
    for kind in table.TASK_KINDS:
        for task, awaited in kind.find_pending(survey):
            tasks.append(task)
            survey.pending.add(task)
            if awaited:
                waits[task] = awaited
    return Backlog(
        tasks=tuple(tasks),
        waits=waits,
        committed_chunks=survey.committed_chunks,
        num_chunks=sum(len(job.chunk_grid(scene)) for scene in job.scenes.values()),
        num_quarantined=len(survey.given_up),
    )


def find_lost_tasks(job: Job, store: Store) -> list[TaskKey]:
    """The tasks whose records name objects that are gone or have another size."""
    sizes = {key: size for scene in job.scenes for key, size in store.names(scene)}
    return [
        record.key
        for record in table.read_task_records(store)
        if any(sizes.get(stored.key) != stored.size_bytes for stored in record.objects)
    ]
