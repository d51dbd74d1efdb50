"""Records by the thousand: what makes a run of a million chunks resumable in a minute.

Theory of operation
-------------------
A record is committed as an object of its own, by the worker. A million of them would be a million reads at every
resume. So the driver, the only one who does this, puts each thousand that it has seen committed into one *segment*,
`run/segments/00000012.jsonl`, and only then deletes the thousand. A driver that dies in between leaves both, which is
harmless: a record alone is always as new as the one in a segment, and of two segments the later one counts. Who reads
beside a running driver lists single records first and segments after them, so that no record can slip from one to the
other unseen.

The first line of a segment is the digest of the rest. The second has the briefs of its records: all that a resume needs
of them, so that a million are known in seconds (bench/dispatch.py). The records follow, one a line. They were checked
field by field when they were read as single ones, so a segment whose digest is right is made into records without
checking again, which is several times as fast.
"""

from __future__ import annotations

import gc
import json
import sys
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager

from batchseg.errors import DamagedError
from batchseg.ledger.keys import ChunkKey
from batchseg.ledger.records import Brief, Record
from batchseg.paths import SEGMENTS_FOLDER, parse_segment_number, segment_key
from batchseg.schema import build_unchecked, plain
from batchseg.store import Store, compute_digest

SEGMENT_RECORDS = 1000


def write_segment(store: Store, number: int, records: Iterable[Record]) -> str:
    made = list(records)
    briefs = [[b.key.scene, b.key.row, b.key.col, b.fingerprint, b.objects_digest] for b in map(Brief.of, made)]
    lines = [briefs, *(plain(record) for record in made)]
    content = "\n".join(json.dumps(line, separators=(",", ":"), sort_keys=True) for line in lines).encode()
    key = segment_key(number)
    store.put(key, compute_digest(content).encode() + b"\n" + content)
    return key


def list_segment_keys(store: Store) -> list[str]:
    return sorted(key for key, _ in store.names(SEGMENTS_FOLDER))


def read_segment(store: Store, key: str) -> Iterator[Record]:
    for line in _content(store, key).splitlines()[1:]:
        yield build_unchecked(Record, json.loads(line))


def read_briefs(store: Store, key: str) -> list[Brief]:
    head, _, _ = _content(store, key).partition(b"\n")
    return [
        Brief(ChunkKey(scene, row, col), sys.intern(fingerprint), digest)
        for scene, row, col, fingerprint, digest in json.loads(head)
    ]


def _content(store: Store, key: str) -> bytes:
    digest, _, content = store.get(key).partition(b"\n")
    if digest.decode(errors="replace") != compute_digest(content):
        raise DamagedError(
            "this segment of records is not what was written",
            where=key,
            todo="give the `batchseg run` command again; it computes the chunks of this segment again",
        )
    return content


@contextmanager
def no_garbage_collection() -> Iterator[None]:
    """Millions of new objects, none of them garbage, would be looked through again and again."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def remove_records(store: Store, key: str, gone: Collection[ChunkKey]) -> None:
    """Write a segment again without some of its records."""
    left = [record for record in read_segment(store, key) if record.key not in gone]
    write_segment(store, parse_segment_number(key), left)
