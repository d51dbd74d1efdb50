"""A thousand records in one object, and never a record less or twice."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from batchseg.errors import DamagedError
from batchseg.ledger.keys import ChunkKey
from batchseg.ledger.ledger import Ledger
from batchseg.ledger.records import Agreement, Brief, Record
from batchseg.ledger.segments import read_segment, write_segment
from batchseg.runs.compaction import SETTLE_S, Compaction
from batchseg.store import LocalStore
from batchseg.workers.happenings import RecordForgotten, TaskCommitted
from bench.dispatch import make_keys, make_record


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(LocalStore(tmp_path, durable=False))


def committed(ledger: Ledger, num: int) -> list[Record]:
    records = [make_record(key) for key in make_keys(num)]
    for record in records:
        ledger.commit(record)
    return records


def test_a_segment_gives_back_what_was_put(ledger: Ledger) -> None:
    records = [make_record(key) for key in make_keys(3)]
    agreement = Agreement(labels_id="x", confusion=((1, 2), (3, 4)), unknown_px=5)
    records[1] = replace(records[1], measured=replace(records[1].measured, agreement=agreement, area_km2=None))
    assert list(read_segment(ledger.store, write_segment(ledger.store, 0, records))) == records


def test_compaction_changes_nothing_that_can_be_read(ledger: Ledger) -> None:
    records = committed(ledger, 7)
    ledger.compact(records[:3])
    ledger.compact(records[3:5])
    assert list(ledger.read_records()) == records
    assert ledger.read_record(records[0].key) == records[0]
    assert ledger.read_single_record(records[0].key) is None
    assert ledger.find_records([records[1].key, records[6].key, ChunkKey("z", 0, 0)]) == {
        records[1].key: records[1],
        records[6].key: records[6],
    }
    assert sum(1 for _ in ledger.store.names("run/records")) == 2


def test_a_driver_that_dies_between_segment_and_removal_leaves_no_record_twice(ledger: Ledger) -> None:
    records = committed(ledger, 4)
    write_segment(ledger.store, 0, records)
    assert list(ledger.read_records()) == records


def test_a_record_alone_and_a_later_segment_count_more(ledger: Ledger) -> None:
    (record,) = committed(ledger, 1)
    ledger.compact([record])
    second = make_record(record.key, 2)
    ledger.commit(second)
    assert list(ledger.read_records()) == [second]
    ledger.compact([second])
    assert list(ledger.read_records()) == [second]


def test_a_forgotten_record_is_gone_from_its_segment_too(ledger: Ledger) -> None:
    records = committed(ledger, 3)
    ledger.compact(records)
    ledger.forget(records[1].key)
    assert list(ledger.read_records()) == [records[0], records[2]]


def test_briefs_say_of_every_record_what_a_resume_needs(ledger: Ledger) -> None:
    records = committed(ledger, 5)
    ledger.compact(records[:2])
    ledger.compact(records[2:4])
    again = make_record(records[0].key, 2)
    ledger.commit(again)
    assert ledger.read_briefs() == {record.key: Brief.of(record) for record in [again, *records[1:]]}


def test_records_are_found_in_whatever_segment_they_are(ledger: Ledger) -> None:
    records = committed(ledger, 6)
    ledger.compact(records[:2])
    ledger.compact([make_record(records[1].key, 2), *records[2:4]])
    wanted = [record.key for record in records]
    assert ledger.find_records(wanted) == {record.key: record for record in ledger.read_records()}
    assert ledger.find_records(wanted)[records[1].key].attempt.number == 2


def test_many_are_forgotten_at_once(ledger: Ledger) -> None:
    records = committed(ledger, 6)
    ledger.compact(records[:2])
    ledger.compact(records[2:4])
    ledger.forget(*(record.key for record in records[1:5]))
    assert list(ledger.read_records()) == [records[0], records[5]]


def test_a_damaged_segment_is_told_of(ledger: Ledger) -> None:
    records = committed(ledger, 2)
    ledger.compact(records)
    path = ledger.store.root / "run" / "segments" / "00000000.jsonl"  # type: ignore[attr-defined]
    path.write_bytes(path.read_bytes().replace(b"1.5", b"1.6"))
    with pytest.raises(DamagedError, match="segment of records is damaged"):
        list(ledger.read_records())


def test_the_driver_compacts_what_has_settled_and_nothing_that_was_forgotten(ledger: Ledger) -> None:
    clock = [0.0]
    compaction = Compaction(ledger, now=lambda: clock[0], num_records=3)
    records = committed(ledger, 5)
    for record in records:
        compaction.notice(TaskCommitted(record=record))
    compaction.notice(RecordForgotten(task=records[0].key))
    ledger.forget(records[0].key)
    compaction.tick()
    assert not list(ledger.store.names("run/segments"))
    clock[0] = SETTLE_S + 1
    compaction.tick()
    assert list(read_segment(ledger.store, "run/segments/00000000.jsonl")) == records[1:4]
    assert not (ledger.store.root / records[1].key.record_key).exists()  # type: ignore[attr-defined]
    assert list(ledger.read_records()) == records[1:]
