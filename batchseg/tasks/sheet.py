"""The sheet: make the GeoTIFFs over a block of chunks from what those chunks have stored."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet

from batchseg.clock import Moment
from batchseg.ledger.keys import ChunkKey, SheetKey, TaskKey
from batchseg.ledger.ledger import Ledger
from batchseg.ledger.records import Brief, SheetRecord
from batchseg.output.sheet import digest_inputs, make_sheet
from batchseg.tasks.kind import Survey, TaskKind, Workbench


def find_pending_sheets(survey: Survey) -> Iterator[tuple[SheetKey, AbstractSet[TaskKey]]]:
    """The sheets over chunks of which some are new; each waits for its pending chunks."""
    job, committed, given_up = survey.job, survey.committed_chunks, survey.given_up
    published = {record.key: record for record in survey.ledger.read_sheets()}
    survey.check_recipe(published.values())
    for scene in job.scenes.values():
        for sheet in job.list_sheets(scene):
            chunks = job.list_sheet_chunks(sheet)
            awaited = survey.pending.intersection(chunks)
            has_content = bool(awaited) or any(key in committed or key in given_up for key in chunks)
            is_current = not awaited and _is_current(published.get(sheet), committed, chunks)
            if has_content and sheet not in given_up and not is_current:
                yield sheet, awaited


def _is_current(sheet: SheetRecord | None, committed: Mapping[ChunkKey, Brief], chunks: list[ChunkKey]) -> bool:
    return sheet is not None and sheet.inputs_digest == digest_inputs({key: committed.get(key) for key in chunks})


def perform_sheet(bench: Workbench, key: SheetKey, number: int) -> SheetRecord:
    begun, name, ledger = Moment.now(), str(key), Ledger(bench.store)
    with bench.clock.stage("write", name):
        chunks = bench.job.list_sheet_chunks(key)
        committed = ledger.find_records(chunks)
        records, present = {chunk: committed.get(chunk) for chunk in chunks}, list(committed.values())
        sheet = make_sheet(bench.store, bench.job.make_sheet_work(key, present), records)
    record = SheetRecord(
        key=key,
        fingerprint=bench.job.fingerprint,
        inputs_digest=sheet.inputs_digest,
        missing=sheet.missing,
        objects=sheet.objects,
        seams=sheet.seams,
        edges=sheet.edges,
        attempt=bench.describe_attempt(number, begun, name),
    )
    ledger.commit(record)
    return record


SHEETS = TaskKind(
    key_type=SheetKey,
    perform=perform_sheet,
    find_pending=find_pending_sheets,
    read_records=Ledger.read_sheets,
)
