"""Runs on a real Ray, and programs that end with a traceback: neither their logs nor the screen show a credential."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from jobs.cli import main
from tests.jobs.planted_secrets import ENVIRONMENT, QUERY, WORD
from tests.leaks import find_leaks
from tests.signed_server import serve_signed

ROOT = Path(__file__).parents[2]


@pytest.fixture
def ray_folder() -> Iterator[Path]:
    """Ray's sockets need a short path."""
    with tempfile.TemporaryDirectory(prefix="ray", dir="/tmp", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def write_files(place: Path, scenes: list[str]) -> list[str]:
    recipe = {
        "scenes": scenes,
        "output": str(place / "out"),
        "models": {"bulk": "zoo:synthetic-bulk"},
        "tiling": {"chunk": 512},
    }
    fleet = {"pools": [{"name": "two", "workers": 2}], "retries": {"failures": 1}}
    (place.parent / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    (place.parent / "fleet.yaml").write_text(yaml.safe_dump(fleet))
    return [str(place.parent / "recipe.yaml"), "--fleet", str(place.parent / "fleet.yaml")]


def call(*command: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | ENVIRONMENT | {"RAY_USAGE_STATS_ENABLED": "0", "PYTHONPATH": str(ROOT)} | variables
    return subprocess.run(
        [sys.executable, *command], capture_output=True, text=True, check=False, env=environment, timeout=300
    )


@pytest.mark.real
@pytest.mark.parametrize("refuse_from", [sys.maxsize, 300_000], ids=["complete", "refused in the middle"])
def test_logs_of_ray_show_no_credential(refuse_from: int, tmp_path: Path, ray_folder: Path) -> None:
    (tmp_path / "work").mkdir()
    assert main(["synth", str(tmp_path / "inputs"), "--size", "1024"]) == 0
    with serve_signed(tmp_path / "inputs", WORD, refuse_from=refuse_from) as host:
        words = write_files(tmp_path / "work", [f"http://{host}/scene.tif?{QUERY}"])
        done = call("-m", "jobs.run", *words, RAY_TMPDIR=str(ray_folder))
    assert done.returncode == (0 if refuse_from == sys.maxsize else 3), done.stderr
    logs = [path for path in ray_folder.rglob("worker-*") if path.is_file()]
    assert logs, "the workers write there"
    texts = {"stdout": done.stdout, "stderr": done.stderr}
    assert find_leaks(tmp_path / "work", ray_folder, secret=WORD, texts=texts) == []


FAILING = """
import sys
import batchseg.runs.estimate as estimate

def fail(_):
    raise RuntimeError("https://user:" + sys.argv[-1] + "@host/x.tif")

estimate.resolve = fail
"""
PROGRAMS = {
    "the command": f"{FAILING}\nsys.argv = ['batchseg', 'plan', *sys.argv[1:-1]]\nfail = None\n"
    "from jobs.cli import process\nprocess()",
    "a program of a user": f"{FAILING}\nimport batchseg\nbatchseg.plan(sys.argv[1])",
    "a thread": "import sys, threading\nfrom jobs.terminal.redacted_output import redact_streams\nredact_streams()\n"
    "threading.Thread(target=lambda: 1 / 0 if not sys.argv else open('https://u:' + sys.argv[-1] + '@h')).start()",
}


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_program_that_breaks_down_shows_no_credential(program: str, tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    words = write_files(tmp_path / "work", ["scene.tif"])
    done = call("-c", PROGRAMS[program], words[0], WORD)
    assert "Traceback" in done.stderr
    assert "***" in done.stderr
    assert WORD not in done.stderr + done.stdout
