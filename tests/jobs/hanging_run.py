"""The command line, with a call that hangs in a library: a child process for tests to interrupt.

python -m tests.jobs.hanging_run PLACE FOLDER run RECIPE …
"""

from __future__ import annotations

import ctypes
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import batchseg.runs.session
import jobs.terminal.signals
from batchseg.resolve.job import Job
from batchseg.scene.source import RasterSource
from batchseg.store import LocalStore
from jobs.cli import main
from jobs.terminal.signals import exit_process
from tests.jobs.slow_run import slow_pool, use_pool

PLACES = ("read", "write", "start", "end")


def hang(folder: Path) -> None:
    """Wait in C for a lock that is never released. No signal ends that call."""
    (folder / "hangs").touch()
    libc, mutex = ctypes.CDLL(None), ctypes.create_string_buffer(256)
    libc.pthread_mutex_lock(mutex)
    libc.pthread_mutex_lock(mutex)


def after_calls(number: int, call: Callable[..., Any], folder: Path, *, if_key: str = "") -> Callable[..., Any]:
    """Make a function whose call of this number hangs; only calls with such a key are counted."""
    calls = []

    def wrapped(*args: Any, **options: Any) -> Any:
        if re.search(if_key, str(args[1])):
            calls.append(args)
            if len(calls) == number:
                hang(folder)
        return call(*args, **options)

    return wrapped


def set_trap(place: str, folder: Path) -> None:
    if place == "read":
        RasterSource.read = after_calls(4, RasterSource.read, folder)  # type: ignore[method-assign]
    elif place == "write":
        LocalStore.put = after_calls(3, LocalStore.put, folder, if_key=r"labels/\d")  # type: ignore[method-assign]
    elif place == "start":
        batchseg.runs.session.make_backlog = after_calls(1, batchseg.runs.session.make_backlog, folder)
    else:

        def rescore(_: Job, __: Any) -> list[str]:
            hang(folder)
            return []

        batchseg.runs.session.rescore = rescore


if __name__ == "__main__":
    place, folder = sys.argv[1], Path(sys.argv[2])
    jobs.terminal.signals.HEAR_S = 2.0
    use_pool(slow_pool(0.01))
    set_trap(place, folder)
    exit_process(main(sys.argv[3:]))
