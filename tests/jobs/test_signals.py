"""Signals that meet a call which hangs in a library: the process ends in time, and the same command goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from jobs.cli import main
from tests.batchseg.runs.test_session import product_bytes
from tests.jobs.command_line import ROOT, alone, clean_bytes, folder, quick
from tests.jobs.hanging_run import PLACES

__all__ = ["alone", "folder", "quick"]
LONG_S = 120.0
"""Only to end what hangs in a test that fails: the machine may be busy."""


@contextmanager
def hanging_run(place: str, folder: Path) -> Iterator[subprocess.Popen[str]]:
    """A run at the moment when one of its calls hangs."""
    (folder / "fleet.yaml").write_text("patience: {stop_s: 1}\n")
    command = [sys.executable, "-m", "tests.jobs.hanging_run", place, str(folder)]
    argv = ["run", str(folder / "recipe.yaml"), "--fleet", str(folder / "fleet.yaml")]
    with subprocess.Popen(
        [*command, *argv],
        cwd=ROOT,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        until_s = time.monotonic() + LONG_S
        while not (folder / "hangs").exists():
            assert process.poll() is None, process.stderr.read() if process.stderr else ""
            assert time.monotonic() < until_s
            time.sleep(0.02)
        time.sleep(0.5)
        yield process
        process.kill()


@pytest.mark.parametrize(
    ("place", "number", "status"), [*((place, signal.SIGTERM, 143) for place in PLACES), ("read", signal.SIGINT, 130)]
)
def test_one_signal_ends_the_run(place: str, number: signal.Signals, status: int, folder: Path, quick: None) -> None:
    with hanging_run(place, folder) as child:
        child.send_signal(number)
        _, err = child.communicate(timeout=LONG_S)
    assert child.returncode == status, err
    assert "Traceback" not in err
    assert "the same command goes on" in err
    records = list((folder / "out" / "run" / "records").rglob("*.json"))
    assert len(records) >= {"read": 1, "write": 1, "start": 0, "end": 6}[place], "what was committed is kept"
    assert main(["run", str(folder / "recipe.yaml"), "--quiet"]) == 0
    assert product_bytes(folder / "out") == clean_bytes(folder)


@pytest.mark.parametrize("place", ["read", "start"])
def test_a_second_signal_ends_it_at_once(place: str, folder: Path) -> None:
    with hanging_run(place, folder) as child:
        child.send_signal(signal.SIGTERM)
        time.sleep(0.2)
        child.send_signal(signal.SIGTERM)
        _, err = child.communicate(timeout=LONG_S)
    assert child.returncode == 143
    assert "leaving at once; the same command goes on" in err
