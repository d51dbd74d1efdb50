"""Threads for calls that may hang: a call has a deadline, and nobody waits for a thread that has missed it.

Theory of operation
-------------------
A read of a lost mount hangs in the kernel, and no thread of a process can be ended. So a call that misses its deadline
keeps its thread for good. It is *stuck*: another thread takes its place, its answer is dropped, and neither the end of
the pool nor that of the process waits for it. All threads are daemons, so that the interpreter does not join them.
"""

from __future__ import annotations

import atexit
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, wait
from types import TracebackType
from typing import Any, TypeVar
from weakref import WeakSet

T = TypeVar("T")

_STUCK: set[threading.Thread] = set()
"""All threads of this process that hang in a call; each operation on a set is atomic."""
_POOLS: WeakSet[PatientThreads] = WeakSet()


def has_stuck_threads() -> bool:
    """Test if a thread of this process hangs in a call, so that the interpreter may not end in order."""
    return bool(_STUCK)


@atexit.register
def _end_idle_threads() -> None:
    """Threads that end by themselves close what they have opened."""
    for pool in list(_POOLS):
        pool.close(0.1)


class _Answer:
    """Puts what the block raises into a future."""

    def __init__(self, future: Future[Any]) -> None:
        self._future = future

    def __enter__(self) -> None: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if error is not None:
            self._future.set_exception(error)
        return error is not None


class PatientThreads:
    """Up to `most` threads, each made when it is first needed and kept for the next call."""

    def __init__(self, most: int, name: str) -> None:
        self._most, self._name = most, name
        self._reset()
        _POOLS.add(self)

    def _reset(self) -> None:
        self._pid = os.getpid()
        self._changed = threading.Condition()
        self._calls: deque[tuple[Future[Any], Callable[[], Any]]] = deque()
        self._threads: set[threading.Thread] = set()
        self._num_idle = 0
        self._running: dict[Future[Any], threading.Thread] = {}
        self._is_closed = False

    def submit(self, call: Callable[[], T]) -> Future[T]:
        """Make a call on one of the threads, as soon as one is free."""
        if self._pid != os.getpid():
            self._reset()  # a forked process has none of the threads
        future: Future[T] = Future()
        with self._changed:
            if self._is_closed:
                raise RuntimeError(f"the threads for {self._name} have ended")
            self._calls.append((future, call))
            self._changed.notify()
            self._add_thread()
        return future

    def call(self, call: Callable[[], T], within_s: float, late: Callable[[], Exception]) -> T:
        """Make a call and wait for its result; raise what `late` gives when it takes longer than `within_s`."""
        future = self.submit(call)
        wait([future], min(within_s, threading.TIMEOUT_MAX))
        if not future.done():
            self.leave_stuck(future)
            raise late()
        return future.result()

    def leave_stuck(self, future: Future[Any]) -> None:
        """Wait for a call no longer; its thread is replaced."""
        with self._changed:
            if future.cancel() or future.done():
                return
            thread = self._running.pop(future)
            self._threads.discard(thread)
            _STUCK.add(thread)
            self._add_thread()

    def close(self, within_s: float) -> None:
        """End the threads, and wait for calls in hand; those that take longer are stuck."""
        with self._changed:
            self._is_closed = True
            for future, _ in self._calls:
                future.cancel()
            self._calls.clear()
            self._changed.notify_all()
            threads = list(self._threads)
        until_s = time.monotonic() + within_s
        for thread in threads:
            thread.join(max(0.0, min(until_s - time.monotonic(), threading.TIMEOUT_MAX)))
        for future in list(self._running):
            self.leave_stuck(future)

    def _add_thread(self) -> None:
        if self._num_idle < len(self._calls) and len(self._threads) < self._most:
            thread = threading.Thread(target=self._serve, name=self._name, daemon=True)
            self._threads.add(thread)
            thread.start()

    def _serve(self) -> None:
        me = threading.current_thread()
        while (taken := self._take(me)) is not None:
            future, call = taken
            with _Answer(future):
                future.set_result(call())
            with self._changed:
                is_stuck = self._running.pop(future, None) is None
            del taken, future, call  # an idle thread holds no pixels
            if is_stuck:
                _STUCK.discard(me)
                return

    def _take(self, me: threading.Thread) -> tuple[Future[Any], Callable[[], Any]] | None:
        """The next call that nobody has cancelled; None when there will be no more."""
        with self._changed:
            while True:
                while not self._calls and not self._is_closed:
                    self._num_idle += 1
                    self._changed.wait()
                    self._num_idle -= 1
                if not self._calls:
                    self._threads.discard(me)
                    return None
                future, call = self._calls.popleft()
                if future.set_running_or_notify_cancel():
                    self._running[future] = me
                    return future, call
