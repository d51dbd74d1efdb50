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
from dataclasses import dataclass, field
from io import RawIOBase
from pathlib import Path
from typing import Protocol

from batchseg.egress import encode_text, format_json
from batchseg.errors import IrregularFileError, RefusedError, StorageError
from batchseg.paths import LOG_FOLDER, LOG_KEY, session_log_key
from batchseg.regular_files import open_regular
from batchseg.schema import JsonObject
from batchseg.store import LOOK_AT_IT, LocalStore, Store
from batchseg.workers.happenings import Happening, make_log_entry

PUT_EVERY_S = 5.0
YEAR_9999_UNIX_S = 253_370_764_800
"""The first second of the year 9999, beyond which Python has no dates."""


class Lines(Protocol):
    """The place that the lines of a log are written to."""

    def add(self, line: str) -> None: ...

    def flush(self, *, now: bool) -> None: ...


@dataclass(frozen=True, slots=True)
class FileLines:
    path: Path

    def add(self, line: str) -> None:
        """Append a line in one write.

        The last line may have no end: its writer was killed, the disk was full, or another driver is at work.
        """
        with open(self.path, "rb+", buffering=0, opener=_open_to_append) as file:
            content = encode_text(line if _ends_line(file) else f"\n{line}")
            while content:
                content = content[file.write(content) or 0 :]

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
            self.store.put(self.key, encode_text("".join(self._lines)))
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
            return cls(FileLines(store.root / LOG_KEY))
        return cls(ObjectLines(store, session_log_key(time.time(), session)))

    def notice(self, happening: Happening) -> None:
        self.lines.add(format_json({"unix_s": round(time.time(), 3), **make_log_entry(happening)}) + "\n")

    def tick(self) -> None:
        self.lines.flush(now=False)

    def close(self) -> None:
        self.lines.flush(now=True)


def _open_to_append(path: str, flags: int) -> int:
    """Open the log, or make it. A link in its place would lead out of the output folder."""
    try:
        return open_regular(path, flags | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW)
    except IrregularFileError as error:
        raise RefusedError("a file of the run must lie here", where=LOG_KEY, got=error.got, todo=LOOK_AT_IT) from error


def _ends_line(file: RawIOBase) -> bool:
    num_bytes = file.seek(0, os.SEEK_END)
    file.seek(max(0, num_bytes - 1))
    return file.read(1) in (b"", b"\n")


@dataclass(frozen=True, slots=True, kw_only=True)
class LogEntry:
    """One line of the log."""

    unix_s: float
    event: str
    """The kind of happening."""
    facts: JsonObject
    """All other keys of the line."""


@dataclass(slots=True)
class LogReader:
    """The lines of all sessions, in order. A damaged line is left out: nothing depends on it."""

    store: Store
    events: Collection[str] | None = None
    """The kinds of lines to read; None reads all. Lines of other kinds cost next to nothing."""
    num_damaged: int = 0
    """The number of damaged lines that were left out so far."""

    def __iter__(self) -> Iterator[LogEntry]:
        self.num_damaged = 0
        marks = None if self.events is None else re.compile(f'"event": "({"|".join(map(re.escape, self.events))})"')
        for key in self._list_keys():
            for line in self.store.get(key).splitlines():
                text = line.decode(errors="replace")
                is_wanted = marks is None or marks.search(text) is not None
                entry = _parse_entry(text) if is_wanted else None
                if entry is not None:
                    yield entry
                elif is_wanted or not (text.startswith("{") and text.endswith("}")):
                    self.num_damaged += text != ""

    def _list_keys(self) -> list[str]:
        keys = sorted(key for key, _ in self.store.names(LOG_FOLDER))
        has_file = isinstance(self.store, LocalStore) and (self.store.root / LOG_KEY).exists()
        return [*keys, LOG_KEY] if has_file else keys


def read_log(store: Store, *, events: Collection[str] | None = None) -> LogReader:
    """Read the lines of all sessions, in order.

    Args:
        store: The output folder.
        events: The kinds of lines to read; None reads all.
    """
    return LogReader(store, events)


def _parse_entry(line: str) -> LogEntry | None:
    try:
        content = json.loads(line)
        facts = {str(name): fact for name, fact in content.items()}
        unix_s, event = float(facts.pop("unix_s")), str(facts.pop("event"))
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        return None
    return LogEntry(unix_s=unix_s, event=event, facts=facts) if 0 <= unix_s < YEAR_9999_UNIX_S else None
