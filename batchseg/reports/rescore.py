"""Scoring committed chunks again, against a reference that was named or changed after they were made. No model runs."""

from __future__ import annotations

from dataclasses import replace

from batchseg.errors import BatchsegError, DamagedError
from batchseg.ledger.ledger import Ledger
from batchseg.ledger.records import Record
from batchseg.output.stored import read_chunk
from batchseg.resolve.job import Job
from batchseg.score.agreement import expand_tile_codes
from batchseg.store import Store
from batchseg.tasks.measure import score


def rescore(job: Job, store: Store) -> list[str]:
    """Commit each record again whose agreement is not with the scene's present reference.

    A chunk whose stored labels are damaged loses its record and its objects, so that the next run makes it again.

    Returns:
        One message for each chunk that could not be scored.
    """
    ledger, errors = Ledger(store), []
    for record in [record for record in ledger.read_records() if _is_stale(job, record)]:
        try:
            ledger.commit(_score_record(job, store, record))
        except DamagedError as error:
            ledger.forget(record.key)
            for stored in record.objects:  # reports must not show objects that have no record
                store.delete(stored.key)
            errors.append(f"{error}. The same command makes chunk {record.key} again")
        except BatchsegError as error:
            errors.append(str(error))
    return errors


def _is_stale(job: Job, record: Record) -> bool:
    scene = job.scenes.get(record.key.scene)
    if scene is None or scene.labels is None:
        return False
    agreement = record.measured.agreement
    return agreement is None or agreement.labels_id != scene.labels.id


def _score_record(job: Job, store: Store, record: Record) -> Record:
    """The record with its agreement with the present reference."""
    scene, window = job.scenes[record.key.scene], job.window(record.key)
    labels_HW = read_chunk(store, scene.zarr, scene.zarr.layer("labels"), window, record.objects)
    codes_HW = expand_tile_codes(record.measured.tile_codes, window, job.core_px)
    return replace(record, measured=replace(record.measured, agreement=score(job, scene, window, labels_HW, codes_HW)))
