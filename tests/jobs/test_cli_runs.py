"""`batchseg run` as its users meet it: parts, budgets and signals, and runs that go on to the same bytes."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import rasterio
from rasterio.warp import transform_bounds

from batchseg import status
from batchseg.recipe import Fleet
from batchseg.runs import session
from batchseg.runs.session import Options
from batchseg.workers.pool import Pool
from jobs.cli import main
from jobs.cluster import on_ray
from jobs.runner import choose_runner
from tests.jobs.command_line import FACTS_OF_EVERY_RUN, ROOT, alone, clean_bytes, folder, quick, use, write_recipe
from tests.jobs.slow_run import slow_pool
from tests.runs import fake_pool, noise, product_bytes, write_scene

__all__ = ["alone", "folder", "quick"]
pytestmark = pytest.mark.timeout(120)


@pytest.mark.parametrize("there", [False, True])
def test_a_job_without_a_cluster_runs_where_it_is(there: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobs.cluster.connection.join_ray", lambda address: there and address == "auto")
    monkeypatch.setattr("jobs.cluster.connection.ray.is_initialized", lambda: there)
    runner = choose_runner(Fleet(), has_fleet_file=False, join_cluster=True)
    assert runner is (on_ray.run if there else session.run)
    options = on_ray.adapt_options(Options())
    assert (options.send_pilot is not None, not options.one_machine) == (there, there)


def test_a_sample_then_a_box_then_everything(folder: Path, quick: None, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = str(folder / "recipe.yaml")
    assert main(["run", recipe, "--sample", "1"]) == 0
    told = capsys.readouterr()
    assert re.search(r"chunks  1 done, 5 not run", told.out)
    assert (
        "5 chunks are left for the same command without"
        in json.loads((folder / "out" / "run" / "exit.json").read_text())["why"]
    )
    assert re.search(r"^chunks \d/1 · ", told.err, re.MULTILINE), "progress counts what was asked for"
    assert f"files  {folder}/out/scene/labels.tif\n" in told.out
    with rasterio.open(folder / "out" / "scene" / "labels.tif") as labels:
        assert int((labels.read(1) != 255).sum()) in {32 * 32, 32 * 13, 6 * 32, 6 * 13}
    with rasterio.open(folder / "scene.tif") as scene:
        box = transform_bounds(scene.crs, "EPSG:4326", *scene.bounds)
    # The upper left corner only.
    corner = [box[0] - 1e-4, box[3] - 1e-5, box[0] + 1e-5, box[3] + 1e-4]
    assert main(["run", recipe, "--quiet", "--bbox", *map(str, corner)]) == 0
    assert (folder / "out" / "run" / "records" / "scene" / "0_0.json").exists()
    assert len(list((folder / "out" / "run" / "records" / "scene").iterdir())) <= 2
    assert main(["run", recipe, "--quiet"]) == 0
    assert json.loads((folder / "out" / "run" / "exit.json").read_text())["why"] == "complete"
    assert product_bytes(folder / "out") == clean_bytes(folder)


def test_quiet_is_quiet_and_plain_lines_are_plain(
    folder: Path, quick: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", str(folder / "recipe.yaml"), "--quiet"]) == 0
    assert capsys.readouterr().err == ""
    assert main(["run", write_recipe(folder, output=str(folder / "out2"))]) == 0
    told = capsys.readouterr()
    assert "\x1b" not in told.err + told.out
    assert re.search(r"^chunks 6/6 · 1 worker · .*GeoTIFFs 1/1$", told.err, re.MULTILINE)
    assert all(f"{fact}  " in told.out for fact in FACTS_OF_EVERY_RUN)


class FailingSegmenter:
    """Takes no tile with this value in it."""

    def __init__(self, inner: Any) -> None:
        self._inner, self.batch = inner, inner.batch

    def __call__(self, x_NBHW: Any, /) -> Any:
        if (x_NBHW == 255).any():
            raise RuntimeError("this tile cannot be done")
        return self._inner(x_NBHW)


def failing_pool(job: Any, store: Any, fleet: Any) -> Pool:
    pool = fake_pool(job, store, fleet)
    opening = pool._opening.result()
    for tier, model in opening._models.items():
        opening._models[tier] = type(model)(FailingSegmenter(model.segmenter), model.halo_px, model.class_ids)
    return pool


def test_chunks_that_were_given_up_get_another_chance(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pixels_BHW = noise(70, 45)
    pixels_BHW[:, 10, 10] = 255
    write_scene(folder / "scene.tif", pixels_BHW)
    recipe = str(folder / "recipe.yaml")
    use(monkeypatch, failing_pool)
    assert main(["run", recipe, "--quiet"]) == 3
    told = capsys.readouterr()
    assert re.search(r"given up  scene/0_0: .*RuntimeError: this tile cannot be done", told.out)
    assert told.err == "not complete (exit 3): 1 task was given up; --retry-quarantined tries again\n"
    assert main(["status", str(folder / "out")]) == 0
    told = capsys.readouterr()
    assert "scene: 5 of 6 chunks" in told.out
    assert re.search(r"given up: 1\n +scene/0_0: ", told.out)
    assert main(["inspect", str(folder / "out"), "scene/0_0"]) == 0
    told = capsys.readouterr()
    assert told.out.count("given up  ") == 3
    assert told.out.count("  task_failed  ") == 3
    use(monkeypatch, fake_pool)
    assert main(["run", recipe, "--quiet"]) == 3, "the same command does not try again"
    assert main(["run", recipe, "--quiet", "--retry-quarantined"]) == 0
    assert product_bytes(folder / "out") == clean_bytes(folder)


def test_the_budget_stops_and_a_higher_one_goes_on(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe, fleet = str(folder / "recipe.yaml"), folder / "fleet.yaml"
    use(monkeypatch, slow_pool(0.15))
    # A dollar a second; the first two chunks take two batches each.
    fleet.write_text("pools: [{usd_per_hour: 3600}]\nmax_usd: 0.25\n")
    assert main(["run", recipe, "--fleet", str(fleet)]) == 4
    told = capsys.readouterr()
    assert "stopped by the budget; the same command with a higher max_usd goes on" in told.err
    metrics = json.loads((folder / "out" / "metrics.json").read_text())
    assert 0.25 <= metrics["cost_usd"] < 30
    assert metrics["chunks"]["not_run"] > 0
    assert json.loads((folder / "out" / "run" / "exit.json").read_text())["exit_status"] == 4
    use(monkeypatch, fake_pool)
    fleet.write_text("pools: [{usd_per_hour: 3600}]\nmax_usd: 1000\n")
    assert main(["run", recipe, "--fleet", str(fleet), "--quiet"]) == 0
    assert product_bytes(folder / "out") == clean_bytes(folder)


def test_a_budget_that_is_reached_by_the_last_chunk_stops_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_scene(folder / "scene.tif", noise(16, 16))
    fleet = folder / "fleet.yaml"
    use(monkeypatch, slow_pool(0.5))
    fleet.write_text("pools: [{usd_per_hour: 3600}]\nmax_usd: 0.4\n")
    # The only batch ends after the budget has been reached; the sheet is then not fed any more.
    assert main(["run", str(folder / "recipe.yaml"), "--fleet", str(fleet), "--quiet"]) == 4
    fleet.write_text("pools: [{usd_per_hour: 3600}]\n")
    assert main(["run", str(folder / "recipe.yaml"), "--fleet", str(fleet), "--quiet"]) == 0
    fleet.write_text("pools: [{usd_per_hour: 3600}]\nmax_usd: 0.4\n")
    assert main(["run", str(folder / "recipe.yaml"), "--fleet", str(fleet), "--quiet"]) == 0, "nothing was left to stop"


@pytest.fixture
def child(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """A run of six chunks of some seconds, at the moment when its first chunk has been committed."""
    command = [sys.executable, "-m", "tests.jobs.slow_run", "0.4", "run", str(folder / "recipe.yaml")]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(
        command, cwd=ROOT, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}, **pipes
    ) as process:
        log, deadline_s = folder / "out" / "run" / "log.jsonl", time.monotonic() + 60
        while not (log.exists() and "chunk_committed" in log.read_text()):
            assert process.poll() is None, process.stderr.read() if process.stderr else ""
            assert time.monotonic() < deadline_s
            time.sleep(0.02)
        yield process
        process.kill()


@pytest.mark.parametrize(("number", "exit_status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_run_ends_its_chunks_and_is_resumed(
    child: subprocess.Popen[str],
    folder: Path,
    quick: None,
    number: signal.Signals,
    exit_status: int,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["status", str(folder / "out")]) == 0
    running = capsys.readouterr().out
    assert re.search(r"^speed: 0\.\d\d Mpx/s, \d+\.\d s left$", running, re.MULTILINE), running
    assert re.search(r"^workers: 1 working, 0 lost$", running, re.MULTILINE)
    assert re.search(r"^areas so far: class 0 \S+ km² \(\d+\.\d%\), class 1 ", running, re.MULTILINE)
    assert running.endswith("exit status: none yet\n")
    child.send_signal(number)
    out, err = child.communicate(timeout=60)
    assert child.returncode == exit_status, err
    assert re.search(r"^ +files +\S+/out/metrics.json$", out, re.MULTILINE), "there is no map yet"
    assert "labels.tif" not in out
    assert main(["status", str(folder / "out")]) == 0
    stopped = capsys.readouterr().out
    assert stopped.endswith(f"exit status: {exit_status}, interrupted by {number.name}; the same command goes on\n")
    assert "workers: 0 working, 0 lost\n" in stopped
    assert f"{number.name}: finishing the chunks in hand; once more to leave at once" in err
    assert f"not complete (exit {exit_status}): interrupted by {number.name}; the same command goes on" in err
    assert "Traceback" not in err
    assert "not run" in out
    told = json.loads((folder / "out" / "run" / "exit.json").read_text())
    assert told.pop("digest")
    assert told == {"exit_status": exit_status, "why": f"interrupted by {number.name}; the same command goes on"}
    assert main(["run", str(folder / "recipe.yaml"), "--quiet"]) == 0
    assert product_bytes(folder / "out") == clean_bytes(folder)


def test_the_second_signal_leaves_at_once(child: subprocess.Popen[str], folder: Path, quick: None) -> None:
    child.send_signal(signal.SIGTERM)
    assert child.stderr is not None
    while "finishing the chunks" not in child.stderr.readline():
        assert child.poll() is None
    child.send_signal(signal.SIGTERM)
    _, err = child.communicate(timeout=20)
    assert child.returncode == 143
    assert "leaving at once" in err
    assert status(folder / "out").exit is None
    begun_s = time.monotonic()
    assert main(["run", str(folder / "recipe.yaml"), "--quiet"]) == 0
    assert time.monotonic() - begun_s < 10, "a dead driver of this machine is not waited for"
    assert product_bytes(folder / "out") == clean_bytes(folder)
