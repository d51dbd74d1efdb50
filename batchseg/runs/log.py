"""run/log.jsonl: one line an event, for people with grep and for `inspect`.

A local file takes a line at once. An object cannot be added to, so on a server each session has its own,
run/log/SESSION.jsonl, which is put whole every few seconds while there is something new.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from batchseg.errors import StorageError
from batchseg.ledger.keys import ChunkKey
from batchseg.ledger.records import Record, SheetRecord
from batchseg.paths import LOG_FOLDER, LOG_KEY, session_log_key
from batchseg.redact import redacted
from batchseg.store import LocalStore, Store

PUT_EVERY_S = 5.0


class Lines(Protocol):
    """Where lines go."""

    def add(self, line: str) -> None: ...

    def flush(self, *, now: bool) -> None: ...


@dataclass(frozen=True, slots=True)
class FileLines:
    path: Path

    def add(self, line: str) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(line)

    def flush(self, *, now: bool) -> None:
        """Every line is there already."""


@dataclass(slots=True)
class ObjectLines:
    store: Store
    key: str
    _lines: list[str] = field(default_factory=list)
    _num_put: int = 0
    _put_s: float = 0.0

    def add(self, line: str) -> None:
        self._lines.append(line)

    def flush(self, *, now: bool) -> None:
        if self._num_put == len(self._lines) or (not now and time.monotonic() - self._put_s < PUT_EVERY_S):
            return
        num = len(self._lines)
        self._put_s = time.monotonic()
        try:
            self.store.put(self.key, "".join(self._lines).encode())
        except StorageError:
            if now:
                raise
            return  # the next flush has these lines too
        self._num_put = num


@dataclass(frozen=True, slots=True)
class EventLog:
    lines: Lines

    @classmethod
    def of(cls, store: Store, session: str) -> EventLog:
        if isinstance(store, LocalStore):
            return cls(FileLines(store.root / LOG_KEY))
        return cls(ObjectLines(store, session_log_key(time.time(), session)))

    def event(self, kind: str, **facts: Any) -> None:
        line = json.dumps({"unix_s": round(time.time(), 3), "event": kind, **facts})
        self.lines.add(redacted(line) + "\n")

    def committed(self, record: Record | SheetRecord) -> None:
        kind = "chunk_committed" if isinstance(record.key, ChunkKey) else "sheet_committed"
        attempt = record.attempt
        seconds = round(attempt.ended_unix_s - attempt.started_unix_s, 3)
        self.event(kind, task=str(record.key), worker=attempt.worker, attempt=attempt.number, seconds=seconds)

    def tick(self) -> None:
        self.lines.flush(now=False)

    def close(self) -> None:
        self.lines.flush(now=True)


def log_lines(store: Store) -> list[str]:
    """All sessions' lines, in order."""
    keys = sorted(key for key, _ in store.names(LOG_FOLDER))
    if isinstance(store, LocalStore) and (store.root / LOG_KEY).exists():
        keys.append(LOG_KEY)
    return [line for key in keys for line in store.get(key).decode().splitlines()]
