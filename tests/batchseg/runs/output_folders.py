"""Output folders before a run: what is in them, and whether the run would take them."""

from __future__ import annotations

from pathlib import Path

import pytest

from batchseg.objectstore import open_store
from batchseg.recipe import Recipe
from batchseg.resolve.resolve import resolve
from batchseg.runs.output_check import check_run_output
from tests.runs import Workplace, noise


def snapshot(folder: Path) -> dict[str, bytes | str | None]:
    """Everything below a folder: contents of files, targets of links."""
    return {
        path.relative_to(folder).as_posix(): str(path.readlink())
        if path.is_symlink()
        else path.read_bytes()
        if path.is_file()
        else None
        for path in folder.rglob("*")
    }


def check(recipe: Recipe) -> None:
    """What a run does before its first byte."""
    check_run_output(recipe, resolve(recipe).job, open_store(recipe.output))


@pytest.fixture
def place(tmp_path: Path) -> Workplace:
    return Workplace.of(tmp_path, noise(20, 20))
