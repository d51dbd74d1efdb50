"""The time of a command in its own process, and the peak memory of the process and its children."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread
from typing import Self

import psutil

SAMPLE_S = 0.2


class ParticipantError(Exception):
    """A participant failed; the end of its output is in the message."""


@dataclass(frozen=True, slots=True)
class ProcessUsage:
    wall_s: float
    start_s: float
    """Seconds until the participant printed that it was ready; 0 if it never did."""
    peak_bytes: int


def measure_process(command: Sequence[str | Path], folder: Path, log: Path) -> ProcessUsage:
    begun_unix_s, begun_s = time.time(), time.perf_counter()
    with log.open("w") as out:
        process = subprocess.Popen(command, cwd=folder, stdout=out, stderr=subprocess.STDOUT)
        with _Memory(process.pid) as memory:
            _, status, usage = os.wait4(process.pid, 0)
        wall_s = time.perf_counter() - begun_s
    process.returncode = os.waitstatus_to_exitcode(status)
    output = log.read_text()
    if process.returncode:
        raise ParticipantError(f"{' '.join(map(str, command))} ended with {process.returncode}:\n{output[-2000:]}")
    ready = [float(line.split()[1]) for line in output.splitlines() if line.startswith("ready ")]
    start_s = ready[0] - begun_unix_s if ready else 0.0
    # The kernel has the true peak of the largest process; samples have the sum of all processes at one moment.
    return ProcessUsage(wall_s, start_s, max(memory.peak_bytes, usage.ru_maxrss * 1024))


class _Memory:
    """Samples the proportional memory of a tree of processes; shared memory counts once."""

    def __init__(self, pid: int) -> None:
        self.peak_bytes = 0
        self._root, self._over = psutil.Process(pid), Event()
        self._thread = Thread(target=self._sample, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._over.wait(SAMPLE_S):
            with suppress(psutil.Error):  # the tree ended meanwhile
                tree = [self._root, *self._root.children(recursive=True)]
                self.peak_bytes = max(self.peak_bytes, sum(_read_memory_bytes(process) for process in tree))


def _read_memory_bytes(process: psutil.Process) -> int:
    try:
        return int(process.memory_full_info().pss)
    except (psutil.Error, OSError):
        return 0
