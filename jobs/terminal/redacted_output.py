"""The one place where text reaches the terminal, or the log file of a worker: all of it is redacted on the way.

`print`, argparse, progress bars, warnings, loggers and tracebacks write to `sys.stdout` and `sys.stderr`. So both are
replaced by a stream that redacts each piece of text before it is written.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from batchseg.redact import redact


class RedactedStream:
    """A stream of text like the one behind it; what is written loses its credentials."""

    def __init__(self, behind: TextIO) -> None:
        self._behind = behind

    def write(self, text: str) -> int:
        self._behind.write(redact(text))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        self.write("".join(lines))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._behind, name)


def redact_streams() -> None:
    """Replace both streams of this process for the rest of its life."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is not None and not isinstance(stream, RedactedStream):
            setattr(sys, name, RedactedStream(stream))


@contextmanager
def redact_output() -> Iterator[None]:
    """Replace both streams while a block runs."""
    before = sys.stdout, sys.stderr
    redact_streams()
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before
