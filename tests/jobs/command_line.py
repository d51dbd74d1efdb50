"""Folders with a recipe for the command line, and what is asked of it again and again."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from batchseg.ledger import lease as driver
from batchseg.runs.session import run
from batchseg.seals import compute_digest
from batchseg.workers.pool import Pool
from jobs.cli import main
from tests.runs import fake_pool, noise, product_bytes, write_fake_bundle, write_scene

ROOT = Path(__file__).parents[2]
FACTS_OF_EVERY_RUN = ("ground", "time", "chunks", "tiles", "cost", "seams", "files")


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
    runner = partial(run, open_pool=open_pool)
    monkeypatch.setattr("jobs.runner.choose_runner", lambda *_, **__: runner)


def contents(folder: Path) -> dict[str, str]:
    return {str(path): compute_digest(path.read_bytes()) for path in sorted(folder.rglob("*")) if path.is_file()}


def refused(argv: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line that a mistake is answered with."""
    capsys.readouterr()
    assert main(argv) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith("batchseg: ")
    assert told.err.count("\n") == 1
    return told.err


def clean_bytes(folder: Path) -> dict[str, str]:
    """Of the same recipe, run at once into another output."""
    assert main(["run", write_recipe(folder, "clean.yaml", output=str(folder / "clean")), "--quiet"]) == 0
    return product_bytes(folder / "clean")
