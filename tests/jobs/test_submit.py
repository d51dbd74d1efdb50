"""A cluster as ray_cluster.yaml starts it: the file's own commands, and `ray job submit` with the repository as
working directory. The environment of the test sets no authentication: the file has to demand it.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from batchseg.synth import write_scene
from tests.runs import product_bytes

pytestmark = [pytest.mark.real, pytest.mark.filterwarnings("default")]
ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent


def own_environment(home: Path) -> dict[str, str]:
    """A login of its own, without any token or authentication mode of this process."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    return kept | {
        "HOME": str(home),
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_metrics_report_interval_ms": "500",
        "RAY_memory_monitor_refresh_ms": "0",
    }


def start_command(kind: str, *options: str) -> str:
    """The `ray start` of ray_cluster.yaml for a head or a worker, at ports of its own and without an autoscaler."""
    commands = yaml.safe_load((ROOT / "ray_cluster.yaml").read_text())[f"{kind}_start_ray_commands"]
    (command,) = (line for line in commands if "ray start" in line)
    command = re.sub(r"--(autoscaling-config|port|object-manager-port|address)=\S+", "", command)
    return " ".join([command.strip(), "--disable-usage-stats", *options])


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
    return port


@pytest.fixture(scope="module")
def head(tmp_path_factory) -> Iterator[dict[str, Any]]:
    """A head that the file's command started, with a token made as the file says."""
    ports = {name: free_port() for name in ("gcs", "dashboard", "metrics")}
    # Sockets have short names.
    temp = Path("/tmp") / f"ray-submit-{os.getpid()}"
    environment = own_environment(tmp_path_factory.mktemp("home"))
    subprocess.run([BIN / "ray", "get-auth-token", "--generate"], env=environment, check=True, capture_output=True)
    token = (Path(environment["HOME"]) / ".ray" / "auth_token").read_text()
    command = start_command(
        "head",
        *("--num-cpus=2", f"--temp-dir={temp}", f"--port={ports['gcs']}", f"--dashboard-port={ports['dashboard']}"),
        *(f"--metrics-export-port={ports['metrics']}", "--include-dashboard=true", "--block"),
    )
    with (tmp_path_factory.mktemp("head") / "head.txt").open("wb") as log:
        process = subprocess.Popen(
            ["bash", "-c", command], env=environment, stdout=log, stderr=log, start_new_session=True
        )
        address = f"http://127.0.0.1:{ports['dashboard']}"
        urls = {"address": address, "metrics": f"http://127.0.0.1:{ports['metrics']}/metrics"}
        try:
            cluster = {**urls, "gcs": f"127.0.0.1:{ports['gcs']}", "temp": temp, "env": environment, "token": token}
            wait_for(cluster, f"{address}/api/version")
            yield cluster
        finally:
            process.terminate()  # bash has become `ray start`
            process.wait(60)
            shutil.rmtree(temp, ignore_errors=True)


def wait_for(head: dict[str, Any], url: str) -> str:
    deadline_s = time.monotonic() + 60
    while True:
        try:
            request = urllib.request.Request(url, headers={"Authorization": f"Bearer {head['token']}"})
            with urllib.request.urlopen(request, timeout=2) as answer:
                return answer.read().decode()
        except OSError:
            if time.monotonic() > deadline_s:
                raise
            time.sleep(0.3)


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("submitted")
    write_scene(folder / "scene", size_px=2048, seed=3)
    return folder


def write_files(place: Path, output: str) -> tuple[Path, Path]:
    recipe = {
        "scenes": [str(place / "scene" / "scene.tif")],
        "output": str(place / output),
        "models": {"heavy": "zoo:synthetic-heavy"},
        "tiling": {"core": 128, "chunk": 128},
    }
    pool = {"name": "local", "workers": 2, "cpus": 1, "device": "cpu", "usd_per_hour": 36.0}
    (place / f"{output}.yaml").write_text(yaml.safe_dump(recipe))
    (place / "fleet.yaml").write_text(yaml.safe_dump({"pools": [pool]}))
    return place / f"{output}.yaml", place / "fleet.yaml"


def submit(head: dict[str, Any], place: Path, output: str, job: str) -> None:
    recipe, fleet = write_files(place, output)
    done = subprocess.run(
        [
            *(str(BIN / "ray"), "job", "submit", "--address", head["address"], "--submission-id", job, "--no-wait"),
            *("--working-dir", str(ROOT), "--", "python", "-m", "jobs.run", str(recipe), "--fleet", str(fleet)),
        ],
        env=head["env"] | {"RAY_AUTH_MODE": "token"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def status(head: dict[str, Any], job: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(wait_for(head, f"{head['address']}/api/jobs/{job}"))
    return found


def until_ended(head: dict[str, Any], job: str) -> dict[str, Any]:
    deadline_s = time.monotonic() + 120
    while time.monotonic() < deadline_s:
        found = status(head, job)
        if found["status"] in ("SUCCEEDED", "FAILED", "STOPPED"):
            return found
        time.sleep(0.3)
    raise AssertionError(found)


def meters(text: str) -> dict[str, float]:
    """Our own, added up over labels."""
    found: dict[str, float] = {}
    for name, value in re.findall(r"^ray_(batchseg_\w+?)(?:_total)?\{[^}]*\} ([\d.e+-]+)$", text, re.MULTILINE):
        found[name] = found.get(name, 0.0) + float(value)
    return found


def test_a_submitted_recipe_runs_to_completion_and_shows_its_metrics(head, place):
    submit(head, place, "whole", "whole")
    seen: dict[str, float] = {}
    labels: set[str] = set()
    while status(head, "whole")["status"] in ("PENDING", "RUNNING"):
        text = wait_for(head, head["metrics"])
        labels |= set(re.findall(r'(\w+)="', "".join(re.findall(r"^ray_batchseg_.*$", text, re.MULTILINE))))
        for name, value in meters(text).items():
            seen[name] = max(seen.get(name, 0.0), value)
        time.sleep(0.2)
    ended = until_ended(head, "whole")
    assert ended["status"] == "SUCCEEDED", ended
    assert json.loads((place / "whole" / "run" / "exit.json").read_text())["exit_status"] == 0
    assert seen["batchseg_chunks"] > 0
    assert seen["batchseg_tiles"] > 0
    assert seen["batchseg_stage_seconds"] > 0
    assert seen["batchseg_usd"] > 0
    assert not labels & {"task", "chunk", "scene", "worker", "recipe"}, "labels of few values only"


def test_job_stop_ends_cleanly_and_the_same_command_resumes(head, place):
    submit(head, place, "stopped", "first")
    log = place / "stopped" / "run" / "log.jsonl"
    deadline_s = time.monotonic() + 60
    while not (log.exists() and "chunk_committed" in log.read_text()) and time.monotonic() < deadline_s:
        time.sleep(0.05)
    subprocess.run(
        [str(BIN / "ray"), "job", "stop", "--address", head["address"], "first"],
        env=head["env"] | {"RAY_AUTH_MODE": "token"},
        check=True,
    )
    assert until_ended(head, "first")["status"] == "STOPPED"
    said = json.loads(wait_for(head, f"{head['address']}/api/jobs/first/logs"))["logs"]
    assert "SIGTERM: finishing the chunks in hand" in said, said
    assert "leaving at once" not in said, said
    ended = json.loads((place / "stopped" / "run" / "exit.json").read_text())
    assert ended["exit_status"] == 143
    num_done = log.read_text().count("chunk_committed")
    assert 0 < num_done < 256
    submit(head, place, "stopped", "second")
    assert until_ended(head, "second")["status"] == "SUCCEEDED"
    committed = [json.loads(line)["task"] for line in log.read_text().splitlines() if "chunk_committed" in line]
    assert len(committed) == len(set(committed)) == 256, "what was in hand had been finished"
    assert product_bytes(place / "stopped") == product_bytes(place / "whole")


def test_the_file_starts_no_head_without_a_token(tmp_path):
    command = start_command("head", f"--temp-dir={tmp_path / 'ray'}", f"--port={free_port()}")
    done = subprocess.run(
        ["bash", "-c", command], env=own_environment(tmp_path), capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert "no authentication token was found" in done.stdout + done.stderr


@pytest.mark.parametrize("mode", ["disabled", "token"])
def test_nobody_submits_without_the_token(head, tmp_path, mode):
    environment = own_environment(tmp_path) | {"RAY_AUTH_MODE": mode}
    if mode == "token":
        environment["RAY_AUTH_TOKEN"] = "f" * 64
    done = subprocess.run(
        [str(BIN / "ray"), "job", "submit", "--address", head["address"], "--", "true"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert "AuthenticationError" in done.stderr


@pytest.mark.parametrize("path", ["/api/jobs/", "/api/version", "/nodes?view=summary", "/api/v0/logs"])
def test_the_dashboard_answers_nobody_without_the_token(head, path):
    with pytest.raises(urllib.error.HTTPError) as refusal:
        urllib.request.urlopen(f"{head['address']}{path}", timeout=5)
    assert refusal.value.code == 401
    refusal.value.close()


def join_as_worker(head: dict[str, Any], environment: dict[str, str], log: Path) -> str:
    """What the file's worker command says until it has joined or given up."""
    temp = Path(f"{head['temp']}-{log.stem}")  # sockets have short names
    command = start_command("worker", f"--address={head['gcs']}", f"--temp-dir={temp}", "--num-cpus=0", "--block")
    with log.open("wb") as file:
        process = subprocess.Popen(["bash", "-c", command], env=environment, stdout=file, stderr=file)
        deadline_s = time.monotonic() + 90
        while process.poll() is None and time.monotonic() < deadline_s and "runtime started" not in log.read_text():
            time.sleep(0.3)
        process.terminate()
        process.wait(60)
    shutil.rmtree(temp, ignore_errors=True)
    return log.read_text()


def test_a_worker_joins_with_the_token_only(head, tmp_path):
    stranger = own_environment(tmp_path) | {"RAY_AUTH_TOKEN": "f" * 64}
    assert "runtime started" not in join_as_worker(head, stranger, tmp_path / "stranger.txt")
    assert "runtime started" in join_as_worker(head, head["env"], tmp_path / "friend.txt")
