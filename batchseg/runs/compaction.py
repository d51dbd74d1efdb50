"""The driver's part of keeping the ledger small: a thousand committed records become one segment."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from batchseg.ledger.keys import ChunkKey, parse_chunk_key
from batchseg.ledger.ledger import Ledger
from batchseg.ledger.records import Record, SheetRecord
from batchseg.ledger.segments import SEGMENT_RECORDS

SETTLE_S = 60.0
"""A record is left alone for so long, so that whoever was about to read it has done so."""


@dataclass(slots=True)
class Compaction:
    """A watcher of the run."""

    ledger: Ledger
    now: Callable[[], float] = time.monotonic
    num_records: int = SEGMENT_RECORDS
    _seen: dict[ChunkKey, tuple[float, Record]] = field(default_factory=dict)

    def event(self, kind: str, **facts: Any) -> None:
        if kind == "forgotten":
            # Its record was dropped: it must not come back in a segment.
            self._seen.pop(parse_chunk_key(facts["task"]), None)

    def committed(self, record: Record | SheetRecord) -> None:
        if isinstance(record, Record):
            self._seen.pop(record.key, None)
            self._seen[record.key] = (self.now(), record)

    def tick(self) -> None:
        if len(self._seen) < self.num_records:
            return
        first = list(self._seen.items())[: self.num_records]
        if self.now() - first[-1][1][0] < SETTLE_S:
            return
        self.ledger.compact([record for _, (_, record) in first])
        for key, _ in first:
            del self._seen[key]
