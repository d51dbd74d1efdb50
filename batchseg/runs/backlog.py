"""What is left to do: the plan's tasks minus what the ledger shows to be done and whole."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

from batchseg.errors import ForeignRunError, RecipeError
from batchseg.ledger.keys import ChunkKey, SheetKey
from batchseg.ledger.ledger import Ledger
from batchseg.ledger.records import Record, SheetRecord, StoredObject
from batchseg.output.sheet import inputs_digest
from batchseg.runs.job import Job
from batchseg.store import Store

R = TypeVar("R", Record, SheetRecord)
Wanted = Callable[[ChunkKey], bool]


@dataclass(frozen=True, slots=True)
class Backlog:
    chunks: tuple[ChunkKey, ...]
    sheets: dict[SheetKey, set[ChunkKey]]
    """Each with the pending chunks that it waits for."""
    committed: dict[ChunkKey, Record]
    num_total: int
    num_quarantined: int

    @property
    def is_empty(self) -> bool:
        return not self.chunks and not self.sheets


def backlog(job: Job, store: Store, *, wanted: Wanted, retry_quarantined: bool) -> Backlog:
    ledger = Ledger(store)
    committed = {record.key: record for record in _whole(job, store, ledger.records())}
    given_up = set() if retry_quarantined else set(ledger.quarantined())
    pending: list[ChunkKey] = []
    sheets: dict[SheetKey, set[ChunkKey]] = {}
    made = {record.key: record for record in _whole(job, store, ledger.sheets())}
    num_total = 0
    for scene in job.scenes:
        keys = [ChunkKey(scene, row, col) for row, col in job.chunk_grid(scene)]
        num_total += len(keys)
        todo = [k for k in keys if k not in committed and str(k) not in given_up and wanted(k)]
        pending += todo
        awaited = frozenset(todo)
        for sheet in job.sheets_of(scene):
            of_sheet = job.chunks_of(sheet)
            needed = awaited.intersection(of_sheet)
            touched = bool(needed) or any(k in committed or str(k) in given_up for k in of_sheet)
            current = not needed and _is_current(made.get(sheet), committed, of_sheet)
            if touched and str(sheet) not in given_up and not current:
                sheets[sheet] = set(needed)
    return Backlog(tuple(pending), sheets, committed, num_total, len(given_up))


def _is_current(sheet: SheetRecord | None, committed: dict[ChunkKey, Record], keys: list[ChunkKey]) -> bool:
    return sheet is not None and sheet.inputs_digest == inputs_digest({key: committed.get(key) for key in keys})


def _whole(job: Job, store: Store, records: Iterable[R]) -> list[R]:
    """Records of this recipe whose objects are all there; another fingerprint stops the run (invariant I4)."""
    present = _sizes(job, store)
    whole = []
    for record in records:
        if record.fingerprint != job.fingerprint:
            raise ForeignRunError(
                f"the record of {record.key} belongs to another recipe",
                where="output",
                expected=job.fingerprint,
                got=record.fingerprint,
                todo="give another output folder",
            )
        if all(_is_there(stored, present) for stored in record.objects):
            whole.append(record)
    return whole


def _sizes(job: Job, store: Store) -> dict[str, int]:
    return {key: size for scene in job.scenes for key, size in store.names(scene)}


def _is_there(stored: StoredObject, present: dict[str, int]) -> bool:
    return present.get(stored.key) == stored.size_bytes


def all_chunks(job: Job) -> frozenset[ChunkKey]:
    return frozenset(ChunkKey(scene, row, col) for scene in job.scenes for row, col in job.chunk_grid(scene))


def sample_of(chunks: Iterable[ChunkKey], num_chunks: int) -> frozenset[ChunkKey]:
    """Some of these, chosen by the hash of their names: spread over the scenes, and the same ones each time."""
    if num_chunks < 1:
        raise RecipeError("a sample has at least one chunk", where="--sample", got=str(num_chunks))
    ordered = sorted(chunks, key=lambda key: hashlib.blake2b(str(key).encode(), digest_size=8).digest())
    return frozenset(ordered[:num_chunks])
