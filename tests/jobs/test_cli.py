"""The command line as its users meet it: help that teaches, and one line for each mistake."""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from batchseg.model import bundle as bundles
from jobs.cli import VERBS, build_parser, main
from tests.jobs.command_line import ROOT, alone, contents, folder, refused, write_recipe
from tests.runs import noise, write_fake_bundle, write_scene

__all__ = ["alone", "folder"]
pytestmark = pytest.mark.timeout(120)


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


MISTAKES: dict[str, tuple[dict[str, Any], list[str], str]] = {
    "misspelt key": ({"tilling": {}}, [], r"unknown key `tilling`\. Did you mean `tiling`\?"),
    "missing scene": ({"scenes": ["nowhere.tif"]}, [], r"nowhere\.tif: no such file"),
    "no match": ({"scenes": ["nowhere*.tif"]}, [], r"nowhere\*\.tif: no file matches"),
    "missing bundle": ({"models": {"bulk": "zoo:sintetic-bulk"}}, [], r"did you mean zoo:synthetic-bulk\?"),
    "missing folder": ({"models": {"bulk": "my-bundle"}}, [], r"my-bundle: this is not a bundle"),
    "core and stride": ({"tiling": {"core": 16, "chunk": 40}}, [], r"set chunk: 32"),
    "empty box": ({}, ["--bbox", "15", "45", "14", "46"], r"--bbox: the box must not be empty"),
    "no number in a box": ({}, ["--bbox", "nan", "45", "16", "46"], r"--bbox: the box must not be empty"),
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
    assert "a scene must not be called run" in refused_scene(folder, "run.tif", capsys)
    assert "a scene must not be called metrics.json" in refused_scene(folder, "metrics.json.tif", capsys)
    blocked = write_recipe(folder, output=str(folder / "scene.tif"))
    assert re.search(
        r"output: .*the output must be a folder that this user may write to; got .*scene\.tif, a file",
        refused(["run", blocked], capsys),
    )
    assert "the output must be a folder that this user may write to" in refused(["plan", blocked], capsys)
    below = write_recipe(folder, output=str(folder / "scene.tif" / "out"))
    assert "the output must be a folder that this user may write to" in refused(["run", below], capsys)
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
