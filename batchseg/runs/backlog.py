"""What is left to do: the plan's tasks minus what the ledger shows to be done.

Theory of operation
-------------------
A run believes its ledger when it begins: a record is put after the objects that it names, so work can start at once,
whatever the size of the run. Whether those objects are still there is asked when the work has ended (`lost`), by one
listing of the output; what somebody removed meanwhile is forgotten and made again. Damage inside of an object is found
by whoever reads it, since its digest is in the record.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import chain

from batchseg.errors import ForeignRunError
from batchseg.ledger.keys import ChunkKey, SheetKey, TaskKey
from batchseg.ledger.ledger import Ledger
from batchseg.ledger.records import Brief, Record, SheetRecord
from batchseg.output.sheet import digest_inputs
from batchseg.resolve.job import Job
from batchseg.store import Store

Wanted = Callable[[ChunkKey], bool]


@dataclass(frozen=True, slots=True)
class Backlog:
    chunks: tuple[ChunkKey, ...]
    sheets: dict[SheetKey, set[ChunkKey]]
    """Each with the pending chunks that it waits for."""
    committed: Mapping[ChunkKey, Brief]
    num_total: int
    num_quarantined: int

    @property
    def is_empty(self) -> bool:
        return not self.chunks and not self.sheets


def backlog(job: Job, store: Store, *, wanted: Wanted, retry_quarantined: bool) -> Backlog:
    ledger = Ledger(store)
    committed = ledger.read_briefs()
    given_up = set() if retry_quarantined else set(ledger.read_quarantine())
    pending: list[ChunkKey] = []
    sheets: dict[SheetKey, set[ChunkKey]] = {}
    made = {record.key: record for record in ledger.read_sheets()}
    _check_recipe(job, [*committed.values(), *made.values()])
    num_total = 0
    for scene in job.scenes.values():
        keys = job.list_chunks(scene)
        num_total += len(keys)
        todo = [k for k in keys if k not in committed and k not in given_up and wanted(k)]
        pending += todo
        awaited = frozenset(todo)
        for sheet in job.list_sheets(scene):
            of_sheet = job.list_sheet_chunks(sheet)
            needed = awaited.intersection(of_sheet)
            touched = bool(needed) or any(k in committed or k in given_up for k in of_sheet)
            current = not needed and _is_current(made.get(sheet), committed, of_sheet)
            if touched and sheet not in given_up and not current:
                sheets[sheet] = set(needed)
    return Backlog(tuple(pending), sheets, committed, num_total, len(given_up))


def _is_current(sheet: SheetRecord | None, committed: Mapping[ChunkKey, Brief], keys: list[ChunkKey]) -> bool:
    return sheet is not None and sheet.inputs_digest == digest_inputs({key: committed.get(key) for key in keys})


def _check_recipe(job: Job, records: Iterable[Brief | SheetRecord]) -> None:
    """Another fingerprint stops the run (invariant I4)."""
    for record in records:
        if record.fingerprint != job.fingerprint:
            raise ForeignRunError(
                f"the record of {record.key} belongs to another recipe",
                where="output",
                expected=job.fingerprint,
                got=record.fingerprint,
                todo="give another output folder",
            )


def lost(job: Job, store: Store) -> list[TaskKey]:
    """Tasks whose records name objects that are not there any more, or have another size."""
    ledger = Ledger(store)
    sizes = {key: size for scene in job.scenes for key, size in store.names(scene)}
    tasks: Iterable[Record | SheetRecord] = chain(ledger.read_records(), ledger.read_sheets())
    return [task.key for task in tasks if any(sizes.get(one.key) != one.size_bytes for one in task.objects)]
