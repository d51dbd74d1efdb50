"""run/log.jsonl: one line per happening, for people with grep and for `batchseg inspect`.

A line can be appended to a local file at once. An object on a server cannot be appended to, so there each session has
its own object, run/log/SESSION.jsonl, which is written whole every few seconds while there are new lines.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from batchseg.errors import StorageError
from batchseg.paths import LOG_FOLDER, LOG_KEY, session_log_key
from batchseg.redact import redact
from batchseg.schema import JsonObject
from batchseg.store import LocalStore, Store
from batchseg.workers.happenings import Happening, make_log_entry

PUT_EVERY_S = 5.0


class Lines(Protocol):
    """The place that the lines of a log are written to."""

    def add(self, line: str) -> None: ...

    def flush(self, *, now: bool) -> None: ...


@dataclass(frozen=True, slots=True)
class FileLines:
    path: Path

    def add(self, line: str) -> None:
        with open(self.path, "a", encoding="utf-8", opener=_open_no_link) as file:
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
    """A watcher of the run that writes one line per happening."""

    lines: Lines

    @classmethod
    def open(cls, store: Store, session: str) -> EventLog:
        """The log of one session of a run, at its end."""
        if isinstance(store, LocalStore):
            _end_last_line(store.root / LOG_KEY)
            return cls(FileLines(store.root / LOG_KEY))
        return cls(ObjectLines(store, session_log_key(time.time(), session)))

    def notice(self, happening: Happening) -> None:
        line = json.dumps({"unix_s": round(time.time(), 3), **make_log_entry(happening)})
        self.lines.add(redact(line) + "\n")

    def tick(self) -> None:
        self.lines.flush(now=False)

    def close(self) -> None:
        self.lines.flush(now=True)


def _open_no_link(path: str, flags: int) -> int:
    """A link in the place of the log would lead out of the output folder."""
    return os.open(path, flags | os.O_NOFOLLOW, 0o666)


def _end_last_line(path: Path) -> None:
    """A driver that was killed while it wrote left half a line, which must not swallow the next one."""
    with suppress(FileNotFoundError), open(path, "rb+", opener=_open_no_link) as file:
        num_bytes = file.seek(0, os.SEEK_END)
        file.seek(max(0, num_bytes - 1))
        if file.read(1) not in (b"", b"\n"):
            file.write(b"\n")


@dataclass(frozen=True, slots=True, kw_only=True)
class LogEntry:
    """One line of the log."""

    unix_s: float
    event: str
    """The kind of happening."""
    facts: JsonObject
    """All other keys of the line."""


def read_log(store: Store, *, events: Collection[str] | None = None) -> Iterator[LogEntry]:
    """The lines of all sessions, in order. A damaged line is left out: it says nothing, and nothing depends on it.

    Args:
        store: The output folder.
        events: The kinds of lines to read; None reads all. Lines of other kinds cost next to nothing.
    """
    marks = None if events is None else re.compile(f'"event": "({"|".join(map(re.escape, events))})"')
    keys = sorted(key for key, _ in store.names(LOG_FOLDER))
    if isinstance(store, LocalStore) and (store.root / LOG_KEY).exists():
        keys.append(LOG_KEY)
    for key in keys:
        for line in store.get(key).decode(errors="replace").splitlines():
            entry = _parse_entry(line) if marks is None or marks.search(line) else None
            if entry is not None:
                yield entry


def _parse_entry(line: str) -> LogEntry | None:
    try:
        content = json.loads(line)
        facts = {str(name): fact for name, fact in content.items()}
        return LogEntry(unix_s=float(facts.pop("unix_s")), event=str(facts.pop("event")), facts=facts)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
