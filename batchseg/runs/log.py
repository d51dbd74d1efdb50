"""run/log.jsonl: one line an event, for people with grep and for `inspect`."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from batchseg.ledger.keys import ChunkKey
from batchseg.ledger.records import Record, SheetRecord


@dataclass(slots=True)
class EventLog:
    path: Path

    def event(self, kind: str, **facts: Any) -> None:
        line = json.dumps({"unix_s": round(time.time(), 3), "event": kind, **facts})
        with self.path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")

    def committed(self, record: Record | SheetRecord) -> None:
        kind = "chunk_committed" if isinstance(record.key, ChunkKey) else "sheet_committed"
        attempt = record.attempt
        seconds = round(attempt.ended_unix_s - attempt.started_unix_s, 3)
        self.event(kind, task=str(record.key), worker=attempt.worker, attempt=attempt.number, seconds=seconds)

    def tick(self) -> None:
        """Nothing to do between events."""
