"""Signals that end a run in order.

Python calls the handler of a signal in the main thread only, and not before a call of a library has returned there. So
a second thread listens too, and ends the process where the main thread hangs.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

from batchseg.patient_threads import has_stuck_threads

if TYPE_CHECKING:
    from batchseg.runs.drive import Stop

HEAR_S = 30.0
"""Time in which the main thread hears a signal, unless it hangs."""
LAST_S = 600.0
"""Time that a run which has heard a signal takes at most, with its reports."""
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def stop_on_signals(stop: Stop, *, unit: str = "chunks", within_s: float | None = None) -> Iterator[None]:
    """Let the first interrupt finish the work in hand; the second ends the process at once.

    The same command goes on in both cases.

    Args:
        stop: What is asked to stop.
        unit: The work in hand, in the words of the message.
        within_s: The time that the work in hand gets; None: as long as it takes.
    """

    def handle(number: int, _: FrameType | None) -> None:
        name, status = signal.Signals(number).name, 128 + number
        if stop.why is not None:
            _leave("leaving at once", status)
        stop.request(name, status)  # before the message, so that a second signal finds it, however soon it comes
        limit = "" if within_s is None else f"; after {within_s:g} s they are left undone"
        print(f"\nbatchseg: {name}: finishing the {unit} in hand; once more to leave at once{limit}", file=sys.stderr)

    listener, wakeups = socket.socketpair()
    wakeups.settimeout(0.0)
    Thread(target=_listen, args=(listener, stop), name="signals", daemon=True).start()
    before = {number: signal.signal(number, handle) for number in _SIGNALS}
    fd_before = signal.set_wakeup_fd(wakeups.fileno(), warn_on_full_buffer=False)
    try:
        yield
    finally:
        signal.set_wakeup_fd(fd_before)
        for number, handler in before.items():
            signal.signal(number, handler)
        wakeups.close()  # which ends the listener


def exit_process(status: int) -> NoReturn:
    """End the process with this status, though a thread of it may hang."""
    if has_stuck_threads():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)


def _listen(listener: socket.socket, stop: Stop) -> None:
    """End the process after a first signal that the main thread does not hear in time, and after a second one."""
    with listener:
        first = _await_signal(listener, None)
        if not first:
            return
        second = _await_signal(listener, HEAR_S)
        if second == 0 and stop.why is not None:
            second = _await_signal(listener, LAST_S)
        if second is None:
            return
        if second:
            time.sleep(1.0)  # the main thread leaves by itself, unless it hangs
        _leave("leaving at once" if second else "leaving, since a call of a library hangs", 128 + (second or first))


def _await_signal(listener: socket.socket, within_s: float | None) -> int | None:
    """The number of the next signal; 0 when none comes in time, None when the run has ended."""
    until_s = None if within_s is None else time.monotonic() + within_s
    while True:
        listener.settimeout(None if until_s is None else max(0.01, until_s - time.monotonic()))
        try:
            received = listener.recv(1)
        except TimeoutError:
            return 0
        if not received:
            return None
        if received[0] in _SIGNALS:
            return received[0]


def _leave(why: str, status: int) -> NoReturn:
    print(f"\nbatchseg: {why}; the same command goes on", file=sys.stderr, flush=True)
    os._exit(status)
