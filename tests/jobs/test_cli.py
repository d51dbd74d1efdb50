"""The command line as its users meet it: help that teaches, one line for each mistake, and runs that go on."""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import yaml
from rasterio.warp import transform_bounds

import jobs.run
from batchseg.model import bundle as bundles
from batchseg.recipe import Fleet
from batchseg.runs import driver
from batchseg.runs.pool import Pool
from batchseg.runs.session import Options
from batchseg.store import digest_of
from jobs.cli import VERBS, build_parser, main
from tests.batchseg.model_bundles import on_cpu, write_random
from tests.jobs.slow_run import slow_pool
from tests.runs import fake_pool, noise, product_bytes, write_fake_bundle, write_scene

ROOT = Path(__file__).parents[2]
FACTS_OF_EVERY_RUN = ("ground", "time", "chunks", "tiles", "cost", "seams", "files")

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody else claims these folders, so no run has to wait and see."""
    monkeypatch.setattr(driver, "SETTLE_S", 0.0)


def write_recipe(folder: Path, name: str = "recipe.yaml", **changes: Any) -> str:
    values = {
        "scenes": [str(folder / "scene.tif")],
        "output": str(folder / "out"),
        "models": {"bulk": str(folder / "bulk")},
        "tiling": {"core": 16, "chunk": 32, "halo": {"bulk": 8}},
    }
    (folder / name).write_text(yaml.safe_dump(values | changes))
    return str(folder / name)


def prepare(folder: Path) -> Path:
    """A scene of six chunks, a recipe, and a bundle of fake weights."""
    write_scene(folder / "scene.tif", noise(70, 45))
    write_fake_bundle(folder / "bulk")
    write_recipe(folder)
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return prepare(tmp_path)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """`batchseg run` with fake models, in this process."""
    use(monkeypatch, fake_pool)


def use(monkeypatch: pytest.MonkeyPatch, open_pool: Callable[..., Pool]) -> None:
    monkeypatch.setattr(jobs.run, "pool_of", lambda *_: open_pool)


def contents(folder: Path) -> dict[str, str]:
    return {str(path): digest_of(path.read_bytes()) for path in sorted(folder.rglob("*")) if path.is_file()}


def verbs() -> dict[str, argparse.ArgumentParser]:
    actions = build_parser()._subparsers
    assert actions is not None
    return next(dict(a.choices) for a in actions._actions if isinstance(a, argparse._SubParsersAction))


@pytest.mark.parametrize("verb", VERBS)
def test_help_teaches(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([verb, "--help"])
    told = capsys.readouterr().out
    assert stopped.value.code == 0
    for action in verbs()[verb]._actions:
        assert action.help, f"{verb} says nothing of {action.dest}"
        for name in action.option_strings or [str(action.metavar)]:
            assert name in told
    assert (verbs()[verb].description or "").splitlines()[0] in told


def test_help_lists_every_verb_and_every_exit_status(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    told = capsys.readouterr().out
    assert all(f"\n  {verb}" in told or f"    {verb}" in told for verb in VERBS)
    assert all(re.search(rf"\b{status}\b", told) for status in (0, 2, 3, 4, 130, 143))


def test_help_imports_nothing_heavy() -> None:
    program = (
        "import sys, jobs.cli\ntry: jobs.cli.main(['run', '--help'])\nfinally: print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert "RECIPE" in done.stdout
    assert {"torch", "ray", "rasterio", "numpy", "yaml", "zarr", "geopandas"} & set(done.stderr.split()) == set()


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert re.fullmatch(r"batchseg \d+\.\d+\.\d+\n", capsys.readouterr().out)


def refused(argv: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line that a mistake is answered with."""
    capsys.readouterr()
    assert main(argv) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith("batchseg: ")
    assert told.err.count("\n") == 1
    return told.err


MISTAKES: dict[str, tuple[dict[str, Any], list[str], str]] = {
    "misspelt key": ({"tilling": {}}, [], r"unknown key `tilling`\. Did you mean `tiling`\?"),
    "missing scene": ({"scenes": ["nowhere.tif"]}, [], r"nowhere\.tif: no such file"),
    "no match": ({"scenes": ["nowhere*.tif"]}, [], r"nowhere\*\.tif: no file matches"),
    "missing bundle": ({"models": {"bulk": "zoo:sintetic-bulk"}}, [], r"did you mean zoo:synthetic-bulk\?"),
    "missing folder": ({"models": {"bulk": "my-bundle"}}, [], r"my-bundle: this is not a bundle"),
    "core and stride": ({"tiling": {"core": 16, "chunk": 40}}, [], r"take chunk: 32"),
    "empty box": ({}, ["--bbox", "15", "45", "14", "46"], r"--bbox: the box is empty"),
    "no number in a box": ({}, ["--bbox", "nan", "45", "16", "46"], r"--bbox: the box is empty"),
    "box elsewhere": ({}, ["--bbox", "-10", "-10", "-9", "-9"], r"--bbox: no chunk touches this box"),
    "no sample": ({}, ["--sample", "0"], r"--sample: .*got 0"),
    "negative sample": ({}, ["--sample", "-3"], r"--sample: .*got -3"),
    "no workers": ({}, ["--workers", "0"], r"--workers: .*got 0"),
    "negative workers": ({}, ["--workers", "-2"], r"--workers: .*got -2"),
    "missing fleet": ({}, ["--fleet", "nowhere.yaml"], r"nowhere\.yaml: this fleet cannot be read"),
    "missing priority": (
        {"route": {"priority": [{"polygons": "p.geojson"}]}},
        [],
        r"a route needs two models",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_line_and_writes_nothing(
    mistake: str, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    changes, options, wanted = MISTAKES[mistake]
    write_fake_bundle(folder / "zoo" / "synthetic-bulk")
    monkeypatch.setattr(bundles, "ZOO", folder / "zoo")
    recipe = write_recipe(folder, **changes)
    before = contents(folder)
    assert re.search(wanted, refused(["run", recipe, *options], capsys), re.IGNORECASE)
    if not options:
        assert re.search(wanted, refused(["plan", recipe], capsys), re.IGNORECASE)
    assert contents(folder) == before
    assert not (folder / "out").exists()


def test_more_mistakes(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "cannot be read" in refused(["run", str(folder / "nowhere.yaml")], capsys)
    assert "a run keeps its own things under the name run" in refused_scene(folder, "run.tif", capsys)
    assert "under the name metrics.json" in refused_scene(folder, "metrics.json.tif", capsys)
    blocked = write_recipe(folder, output=str(folder / "scene.tif"))
    assert re.search(
        r"output: .*nothing can be written here; got .*scene\.tif, a file", refused(["run", blocked], capsys)
    )
    assert "nothing can be written here" in refused(["plan", blocked], capsys)
    below = write_recipe(folder, output=str(folder / "scene.tif" / "out"))
    assert "nothing can be written here" in refused(["run", below], capsys)
    fleet = folder / "fleet.yaml"
    fleet.write_text("pools: [{device: cuda, gpus: 1}]\n")
    told = refused(["run", write_recipe(folder), "--fleet", str(fleet)], capsys)
    assert "never tuned for cuda" in told
    fleet.write_text("pools: [{name: a}, {name: b}]\n")
    told = refused(["run", write_recipe(folder), "--fleet", str(fleet), "--workers", "2"], capsys)
    assert "--workers" in told
    assert not (folder / "out").exists()


def refused_scene(folder: Path, name: str, capsys: pytest.CaptureFixture[str]) -> str:
    scene = write_scene(folder / name, noise(20, 20))
    return refused(["run", write_recipe(folder, scenes=[scene])], capsys)


@pytest.mark.parametrize("verb", ["status", "report", "inspect"])
def test_looking_at_what_is_no_run(verb: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = contents(folder)
    more = ["scene/0_0"] if verb == "inspect" else []
    for path in (folder, folder / "nowhere", folder / "scene.tif"):
        assert f"{path}: this is not the output of a run" in refused([verb, str(path), *more], capsys)
    assert contents(folder) == before


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of real, if random, weights."""
    folder = prepare(tmp_path_factory.mktemp("finished"))
    write_random(
        folder / "bulk",
        gsd_m=(0.1, 50.0),
        numerics=on_cpu(backend="torch", precision="float32", batch=3, threads=1),
    )
    assert main(["run", str(folder / "recipe.yaml"), "--quiet"]) == 0
    return folder


def test_plan_writes_nothing_and_says_what_it_takes(
    finished: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(folder)
    assert main(["plan", str(folder / "recipe.yaml")]) == 0
    assert contents(folder) == before
    assert not (folder / "out").exists()
    told = capsys.readouterr().out
    assert re.search(r"scene +scene: 45 x 70 px, 0\.0032 km²; 6 chunks \(0 committed, 0 surely empty\); 15 tiles", told)
    for wanted in (r"to do +6 chunks", r"memory +0\.\d+ GiB", r"output +\S+ GB in \d+ objects", r"requests +about \d+"):
        assert re.search(rf"^{wanted}", told, re.MULTILINE), wanted
    before = contents(finished)
    assert main(["plan", str(finished / "recipe.yaml")]) == 0
    assert contents(finished) == before
    told = capsys.readouterr().out
    assert re.search(r"6 chunks \(6 committed", told)
    assert re.search(r"to do +0 chunks", told)


@pytest.mark.parametrize("there", [False, True])
def test_a_job_without_a_cluster_runs_where_it_is(there: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobs.cluster.join_ray", lambda address: there and address == "auto")
    monkeypatch.setattr("jobs.cluster.ray.is_initialized", lambda: there)
    args = argparse.Namespace(in_cluster=True, fleet=None)
    open_pool, options = jobs.run.placed(Options(), args, Fleet())
    assert (open_pool is not None, options.send_pilot is not None, not options.one_machine) == (there,) * 3


def test_plan_with_a_pilot_shows_a_curve(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for tier, width in (("bulk", 8), ("heavy", 16)):
        write_random(
            folder / tier,
            gsd_m=(0.1, 50.0),
            halo_px=8,
            architecture={"kind": "bulknet", "width": width},
            numerics=on_cpu(backend="torch", precision="float32", batch=3, threads=1),
        )
    models = {tier: str(folder / tier) for tier in ("bulk", "heavy")}
    route = {"priority": ["uncertain"], "fade": 0}  # so that all tiles heavy is the heavy model's map
    recipe = write_recipe(folder, models=models, route=route, budget={"heavy_share": 0.5})
    before = contents(folder)
    assert main(["plan", recipe, "--pilot"]) == 0
    assert contents(folder) == before
    told = capsys.readouterr().out
    assert re.search(r"pilot +15 tiles, 0.0% of them priority", told)
    assert re.search(r"heavy +uncertain from +\$ a km² +\$ in all +agrees", told)
    assert re.search(r"^ +0.0% +never +\$\S+ +\$\S+ +0\.\d+$", told, re.MULTILINE)
    assert re.search(r"^ +100.0% +0.0000 +\$\S+ +\$\S+ +1.0000$", told, re.MULTILINE)
    assert told.count("<- this recipe") == 1
    assert main(["plan", recipe, "--pilot", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["num_to_do"] == 6
    assert found["pilot"]["curve"][-1]["agreement"] == 1.0


def test_status_of_a_finished_run(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", str(finished / "out")]) == 0
    told = capsys.readouterr().out
    assert "scene: 6 of 6 chunks" in told
    assert "1 sheet of GeoTIFFs made" in told
    assert re.search(r"not running; .*ended \d+ s ago", told)


def test_inspect_tells_the_story_of_a_chunk(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(finished / "out"), "scene/0_1"]) == 0
    told = capsys.readouterr().out
    assert re.search(r"chunk  scene/0_1: rows 0 to 32, columns 32 to 45", told)
    assert re.search(r"ground  0.0004 km², 416 valid pixels", told)
    assert told.count("stored  scene/mask.zarr/") == 3
    assert re.search(r"^\d{4}-\d\d-\d\d [\d:]{8}  chunk_committed  worker=local-", told, re.MULTILINE)
    output = str(finished / "out")
    assert "no such chunk; expected scene/0_0 to scene/2_1" in refused(["inspect", output, "scene/3_0"], capsys)
    assert "no such scene in this run. Did you mean scene/0_1?" in refused(["inspect", output, "scen/0_1"], capsys)
    assert "not the name of a chunk; expected SCENE/ROW_COLUMN" in refused(["inspect", output, "scene"], capsys)


def test_inspect_reads_the_log_of_a_driver_that_died_while_it_wrote(
    folder: Path, quick: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", str(folder / "recipe.yaml"), "--quiet"]) == 0
    log = folder / "out" / "run" / "log.jsonl"
    with log.open("a") as file:
        file.write('{"unix_s": 1.0, "event": "chunk_comm')
    assert main(["inspect", str(folder / "out"), "scene/0_0"]) == 0
    assert capsys.readouterr().out.count("chunk_committed") == 1


def test_report_makes_the_same_reports_again(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = finished / "out"
    before = json.loads((output / "metrics.json").read_text())
    for name in ("metrics.json", "ledger.parquet"):
        (output / name).unlink()
    assert main(["report", str(output)]) == 0
    told = capsys.readouterr().out
    assert json.loads((output / "metrics.json").read_text()) == before
    assert (output / "ledger.parquet").exists()
    assert all(f"{fact}  " in told for fact in FACTS_OF_EVERY_RUN)


def test_another_recipe_is_refused_by_run_and_plan(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = contents(finished / "out")
    other = write_recipe(finished, "other.yaml", tiling={"core": 8, "chunk": 32, "halo": {"bulk": 8}})
    for verb in ("run", "plan"):
        assert "different: tiling.core (16 -> 8)" in refused([verb, other], capsys)
    assert contents(finished / "out") == before


def test_the_same_from_python(finished: Path) -> None:
    from batchseg import load_recipe, run

    recipe = write_recipe(finished, "python.yaml", output=str(finished / "python"))
    outcome = run(load_recipe(recipe))
    assert (outcome.exit_status, outcome.output) == (0, finished / "python")
    assert outcome.metrics["area_km2"] == pytest.approx(70 * 45 / 1e6, rel=0.01)
    assert product_bytes(finished / "python") == product_bytes(finished / "out")


def clean_bytes(folder: Path) -> dict[str, str]:
    """Of the same recipe, run at once into another output."""
    assert main(["run", write_recipe(folder, "clean.yaml", output=str(folder / "clean")), "--quiet"]) == 0
    return product_bytes(folder / "clean")


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


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_run_ends_its_chunks_and_is_resumed(
    child: subprocess.Popen[str], folder: Path, quick: None, number: signal.Signals, status: int
) -> None:
    child.send_signal(number)
    out, err = child.communicate(timeout=60)
    assert child.returncode == status, err
    assert f"{number.name}: finishing the chunks in hand; once more to leave at once" in err
    assert f"not complete (exit {status}): interrupted by {number.name}; the same command goes on" in err
    assert "Traceback" not in err
    assert "not run" in out
    told = json.loads((folder / "out" / "run" / "exit.json").read_text())
    assert told == {"exit_status": status, "why": f"interrupted by {number.name}; the same command goes on"}
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
    begun_s = time.monotonic()
    assert main(["run", str(folder / "recipe.yaml"), "--quiet"]) == 0
    assert time.monotonic() - begun_s < 10, "a dead driver of this machine is not waited for"
    assert product_bytes(folder / "out") == clean_bytes(folder)


def test_labels_of_a_run_hold_classes_only(finished: Path) -> None:
    with rasterio.open(finished / "out" / "scene" / "labels.tif") as labels:
        assert set(np.unique(labels.read(1))) <= {0, 10, 20, 30}
