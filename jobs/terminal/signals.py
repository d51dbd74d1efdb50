"""Signals that end a run in order."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from batchseg.runs.drive import Stop


@contextmanager
def stop_on_signals(stop: Stop, *, unit: str = "chunks") -> Iterator[None]:
    """Let the first interrupt finish the work in hand, in words of `unit`; the second ends the process at once.

    The same command goes on in both cases.
    """

    def handle(number: int, _: FrameType | None) -> None:
        name, status = signal.Signals(number).name, 128 + number
        if stop.why is not None:
            print("\nbatchseg: leaving at once; the same command goes on", file=sys.stderr)
            os._exit(status)
        stop.request(name, status)  # before the message, so that a second signal finds it, however soon it comes
        print(f"\nbatchseg: {name}: finishing the {unit} in hand; once more to leave at once", file=sys.stderr)

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
