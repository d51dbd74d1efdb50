"""Heartbeats: a call that is repeated in the background while something else goes on."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

from batchseg.errors import StorageError


class Heartbeat:
    """Calls `beat` every `every_s` seconds from entry to exit. An error of `beat` is raised at exit or by `check`.

    A beat that cannot be written is left out. A holder of a lease that misses many beats is replaced, and learns of it
    from its next good beat.
    """

    def __init__(self, beat: Callable[[], None], *, every_s: float) -> None:
        self._beat, self._every_s = beat, every_s
        self._stop = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        if error is None:
            self.check()

    def stop(self) -> None:
        """End without waiting for a beat that hangs."""
        self._stop.set()

    def check(self) -> None:
        """Raise the error that ended the heartbeat, if there was one."""
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        while not self._stop.wait(self._every_s):
            try:
                self._beat()
            except (OSError, StorageError):
                continue  # the disk may be full or slow for a moment, so the heart goes on and the next beat is written
            except BaseException as error:  # noqa: BLE001 - carried over to the thread that started the heartbeat
                self._error = error
                return
