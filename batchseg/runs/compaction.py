"""The driver's part of keeping the ledger small: it puts each thousand committed records into one segment."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from batchseg.ledger.keys import TaskKey
from batchseg.ledger.ledger import Ledger
from batchseg.ledger.records import Record
from batchseg.ledger.segments import SEGMENT_RECORDS
from batchseg.workers.happenings import Happening, RecordForgotten, TaskCommitted

SETTLE_S = 60.0
"""The age at which a record may be moved: a worker that was about to read it has done so by then."""


@dataclass(slots=True)
class Compaction:
    """A watcher of the run."""

    ledger: Ledger
    now: Callable[[], float] = time.monotonic
    num_records: int = SEGMENT_RECORDS
    _seen: dict[TaskKey, tuple[float, Record]] = field(default_factory=dict)
    """The records that no segment holds yet, with the times when they came, oldest first."""

    def notice(self, happening: Happening) -> None:
        match happening:
            case RecordForgotten(task=task):
                self._seen.pop(task, None)  # it must not come back in a segment
            case TaskCommitted(record=Record() as record):
                self._seen.pop(record.key, None)
                self._seen[record.key] = (self.now(), record)
            case _:
                pass

    def tick(self) -> None:
        if len(self._seen) < self.num_records:
            return
        oldest = list(self._seen.items())[: self.num_records]
        if self.now() - oldest[-1][1][0] < SETTLE_S:
            return
        self.ledger.compact([record for _, (_, record) in oldest])
        for key, _ in oldest:
            del self._seen[key]
