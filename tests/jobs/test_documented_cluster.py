"""The cluster on one machine as docs/operations.md writes it, letter by letter."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

pytestmark = [pytest.mark.real, pytest.mark.filterwarnings("default")]
ROOT = Path(__file__).resolve().parents[2]
TOWN = Path("/tmp/batchseg-town")
CURRENT_CLUSTER = Path("/tmp/ray/ray_current_cluster")
"""`ray start` writes its address here, where every later `ray.init` on this machine finds it."""
PORTS = (6379, 8265)
"""The ports of Ray that the page relies on."""


def read_commands() -> str:
    """The indented block under the heading, without its indentation."""
    section = (ROOT / "docs" / "operations.md").read_text().split("### A cluster on one machine\n")[1]
    block = re.search(r"(?:^    .*\n)+", section, re.MULTILINE)
    assert block is not None
    return re.sub(r"^    ", "", block[0], flags=re.MULTILINE)


def is_taken(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """A home of its own. The commands start Ray in the background, so its processes are found by their environment."""
    if TOWN.exists() or any(map(is_taken, PORTS)):
        pytest.skip(f"{TOWN}, or one of Ray's ports {PORTS}, is in use on this machine")
    yield tmp_path
    for process in psutil.process_iter():
        try:
            if process.environ().get("HOME") == str(tmp_path):
                process.kill()
        except (psutil.AccessDenied, psutil.NoSuchProcess, psutil.ZombieProcess):
            continue
    shutil.rmtree(TOWN, ignore_errors=True)
    CURRENT_CLUSTER.unlink(missing_ok=True)


def test_the_page_starts_a_cluster_and_runs_a_recipe_on_it(home: Path) -> None:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    environment = kept | {"HOME": str(home), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    log = home / "log.txt"
    with log.open("wb") as file:
        done = subprocess.run(
            ["bash", "-e", "-c", read_commands()], cwd=ROOT, env=environment, stdout=file, stderr=file, check=False
        )
    text = log.read_text()
    assert done.returncode == 0, text
    assert "succeeded" in text, text
    assert "1 of 1 chunk committed" in text.split("succeeded")[1], text
    assert (TOWN / "map" / "scene" / "labels.tif").exists()
