"""Scoring committed chunks against a reference that was named, or changed, after they were made. No model runs."""

from __future__ import annotations

from dataclasses import replace

from batchseg.ledger.ledger import Ledger
from batchseg.ledger.records import Record
from batchseg.output.mask import read_chunk
from batchseg.runs.job import Job
from batchseg.runs.measure import agree, class_index
from batchseg.scene.labels import LabelSource
from batchseg.store import Store


def rescore(job: Job, store: Store) -> int:
    """Commit each record again whose agreement is of another reference than today's; returns how many."""
    ledger = Ledger(store)
    stale = [record for record in ledger.records() if _is_stale(job, record)]
    for record in stale:
        ledger.commit(_rescored(job, store, record))
    return len(stale)


def _is_stale(job: Job, record: Record) -> bool:
    scene = job.scenes.get(record.key.scene)
    if scene is None or scene.labels is None:
        return False
    known = record.measured.agreement
    return known is None or known.labels_id != scene.labels.id


def _rescored(job: Job, store: Store, record: Record) -> Record:
    scene = job.scenes[record.key.scene]
    assert scene.labels is not None, "only records of labelled scenes are stale"
    window, layer = job.window(record.key), scene.mask.layer("labels")
    labels_HW = read_chunk(store, scene.mask, layer, window, record.objects)
    index_HW = class_index(labels_HW, tuple(c.id for c in job.classes), job.nodata)
    agreement = agree(job, window, index_HW, LabelSource(scene.labels))
    return replace(record, measured=replace(record.measured, agreement=agreement))
