"""Segments: a thousand records in one object, so that a run of a million chunks can be resumed in a minute.

Theory of operation
-------------------
A worker commits each record as an object of its own. A million of them would be a million reads at every resume. So the
driver puts each thousand records that it has seen committed into one *segment*, `run/segments/00000012.jsonl`, and only
then deletes the thousand objects. Only the driver does this. A driver that dies in between leaves both, which does no
harm: a single record is at least as new as the same record in a segment, and of two segments the later one counts. A
program that reads beside a running driver lists single records first and segments after them, so that no record can
move from one to the other unseen.

The first line of a segment is the digest of the rest. The second line has the briefs of its records, which is all that
a resume needs of them, so that a million are read in seconds (bench/dispatch.py). The records follow, one per line.
They were checked field by field when they were single objects. So a segment with the right digest is read without
checking its records again, which is several times as fast.
"""

from __future__ import annotations

import gc
import json
import sys
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager

from batchseg.egress import encode_json, encode_text
from batchseg.errors import DamagedError
from batchseg.ledger.keys import ChunkKey
from batchseg.ledger.records import Brief, Record
from batchseg.paths import SEGMENTS_FOLDER, is_segment_key, parse_segment_number, segment_key
from batchseg.schema import build_unchecked, plain
from batchseg.seals import compute_digest
from batchseg.store import Store

SEGMENT_RECORDS = 1000


def write_segment(store: Store, number: int, records: Iterable[Record]) -> str:
    records = list(records)
    briefs = [[b.key.scene, b.key.row, b.key.col, b.fingerprint, b.objects_digest] for b in map(Brief.of, records)]
    lines = [briefs, *(plain(record) for record in records)]
    content = b"\n".join(encode_json(line, compact=True, sort_keys=True) for line in lines)
    key = segment_key(number)
    store.put(key, encode_text(compute_digest(content)) + b"\n" + content)
    return key


def list_segment_keys(store: Store) -> list[str]:
    return sorted(key for key, _ in store.names(SEGMENTS_FOLDER) if is_segment_key(key))


def read_segment(store: Store, key: str) -> Iterator[Record]:
    for line in _read_content(store, key).splitlines()[1:]:
        yield build_unchecked(Record, json.loads(line))


def read_briefs(store: Store, key: str) -> list[Brief]:
    head, _, _ = _read_content(store, key).partition(b"\n")
    return [
        Brief(ChunkKey(scene, row, col), sys.intern(fingerprint), digest)
        for scene, row, col, fingerprint, digest in json.loads(head)
    ]


def _read_content(store: Store, key: str) -> bytes:
    digest, _, content = store.get(key).partition(b"\n")
    if digest.decode(errors="replace") != compute_digest(content):
        raise DamagedError(
            "the segment of records is damaged: its digest is another one",
            where=key,
            todo="run `batchseg run` again; it computes the chunks of this segment again",
        )
    return content


@contextmanager
def no_garbage_collection() -> Iterator[None]:
    """Switch the collector off: it would look through millions of new objects again and again, and find nothing."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def remove_records(store: Store, key: str, gone: Collection[ChunkKey]) -> None:
    """Write a segment again without the records of some chunks."""
    remaining = [record for record in read_segment(store, key) if record.key not in gone]
    write_segment(store, parse_segment_number(key), remaining)
