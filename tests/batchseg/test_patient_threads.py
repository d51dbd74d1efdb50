"""Threads for calls that may hang."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from batchseg.errors import ReadError
from batchseg.patient_threads import PatientThreads, has_stuck_threads

LONG_S = 60.0


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """What hanging calls wait for; they all come back at the end."""
    event = threading.Event()
    yield event
    event.set()
    until_s = time.monotonic() + LONG_S
    while has_stuck_threads() and time.monotonic() < until_s:
        time.sleep(0.01)
    assert not has_stuck_threads()


def late() -> ReadError:
    return ReadError("late")


def test_results_and_errors_come_back_and_threads_are_kept() -> None:
    threads = PatientThreads(3, "t")
    names = {threads.call(lambda: threading.current_thread().name, LONG_S, late) for _ in range(5)}
    assert names == {"t"}
    idents = {threads.call(threading.get_ident, LONG_S, late) for _ in range(5)}
    assert len(idents) == 1
    assert threading.get_ident() not in idents
    with pytest.raises(ZeroDivisionError):
        threads.call(lambda: 1 // 0, LONG_S, late)
    assert threads.call(lambda: 2, LONG_S, late) == 2
    threads.close(LONG_S)
    with pytest.raises(RuntimeError, match="have ended"):
        threads.submit(lambda: 3)


def test_a_call_that_hangs_costs_its_own_time_and_no_thread(gate: threading.Event) -> None:
    threads = PatientThreads(1, "t")
    for _ in range(3):
        with pytest.raises(ReadError, match="late"):
            threads.call(gate.wait, 0.02, late)
        assert threads.call(lambda: "next", LONG_S, late) == "next"
    assert has_stuck_threads()
    begun_s = time.monotonic()
    threads.close(LONG_S)
    assert time.monotonic() - begun_s < LONG_S / 2, "nobody waits for what hangs"


def test_no_more_threads_than_allowed() -> None:
    threads, inside, most, lock = PatientThreads(2, "t"), 0, 0, threading.Lock()

    def work() -> None:
        nonlocal inside, most
        with lock:
            inside += 1
            most = max(most, inside)
        time.sleep(0.005)
        with lock:
            inside -= 1

    for future in [threads.submit(work) for _ in range(20)]:
        future.result(LONG_S)
    assert most == 2
    threads.close(LONG_S)


def test_closing_cancels_what_has_not_begun(gate: threading.Event) -> None:
    threads = PatientThreads(1, "t")
    first, second = threads.submit(gate.wait), threads.submit(gate.wait)
    while not first.running():
        time.sleep(0.001)
    threads.close(0.05)
    assert second.cancelled()
    assert not first.done()


def test_a_forked_process_has_threads_of_its_own() -> None:
    threads = PatientThreads(2, "t")
    threads.call(lambda: None, LONG_S, late)
    child = os.fork()
    if child == 0:
        os._exit(threads.call(lambda: 7, LONG_S, late))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


def test_the_interpreter_ends_though_a_thread_hangs() -> None:
    program = (
        "import time\n"
        "from batchseg.patient_threads import PatientThreads\n"
        "PatientThreads(1, 'idle').submit(lambda: None)\n"
        "PatientThreads(1, 'hung').submit(lambda: time.sleep(3600))\n"
        "time.sleep(0.1)\n"
    )
    assert subprocess.run([sys.executable, "-c", program], timeout=LONG_S, check=False).returncode == 0
