"""Rights of new files: for their user and group, narrowed by the umask, never wider."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from batchseg.atomic import create_file, limit_new_files, replace_file
from jobs.cli import main
from tests.jobs.command_line import alone, folder, quick
from tests.jobs.test_train_command import write_recipe
from tests.runs import Workplace, noise

__all__ = ["alone", "folder", "quick"]
pytestmark = pytest.mark.timeout(120)
UMASKS = [(0o000, 0o640, 0o750), (0o022, 0o640, 0o750), (0o027, 0o640, 0o750), (0o077, 0o600, 0o700)]


@contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        assert os.umask(before) == mask, "the caller's umask is left as it was"


def collect_modes(root: Path) -> tuple[set[int], set[int]]:
    """The rights of all files and of all folders."""
    paths = [path for path in root.rglob("*") if not path.is_symlink()]
    modes = [(path.is_dir(), stat.S_IMODE(path.stat().st_mode)) for path in paths]
    return {mode for is_dir, mode in modes if not is_dir}, {mode for is_dir, mode in modes if is_dir}


@pytest.mark.parametrize(("mask", "file_mode", "folder_mode"), UMASKS)
def test_a_run_an_evaluation_and_a_comparison(
    mask: int, file_mode: int, folder_mode: int, folder: Path, quick: None
) -> None:
    with umask(mask):
        assert main(["run", str(folder / "recipe.yaml"), "--quiet"]) == 0
        out, labels = folder / "out", folder / "out" / "scene" / "labels.tif"
        (folder / "reference.tif").write_bytes(labels.read_bytes())
        reference = str(folder / "reference.tif")
        assert main(["evaluate", str(out), "--labels", reference]) == 0
        assert main(["compare", str(out), str(out), "--labels", reference, "--to", str(folder / "compared")]) == 0
        assert main(["report", str(out)]) == 0
    for made in (out, folder / "compared"):
        files, folders = collect_modes(made)
        assert files == {file_mode}
        assert folders <= {folder_mode, 0o700}
    assert stat.S_IMODE(out.stat().st_mode) == folder_mode


@pytest.mark.parametrize(("mask", "file_mode", "folder_mode"), UMASKS[1:])
def test_trainings_and_scenes(mask: int, file_mode: int, folder_mode: int, tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path)
    with umask(mask):
        assert main(["synth", str(tmp_path / "made"), "--size", "256", "--seed", "1"]) == 0
        assert main(["train", str(recipe), str(tmp_path / "net"), "--device", "cpu"]) == 0
    for made in ("made", "net"):
        files, folders = collect_modes(tmp_path / made)
        assert files <= {file_mode, 0o600}, "safetensors makes checkpoints for the user alone"
        assert folders <= {folder_mode}
    named = ("made/scene.tif", "made/labels.tif", "net/item.json", "net/README.md", "net/weights.safetensors")
    assert {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in named} == {file_mode}


def test_a_run_from_python_keeps_its_files_from_others_too(tmp_path: Path) -> None:
    with umask(0o000):
        Workplace.of(tmp_path, noise(64, 64)).run()
    files, _ = collect_modes(tmp_path / "out")
    assert files == {0o640}


def test_files_that_take_the_place_of_others_are_no_wider(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("before")
    (tmp_path / "a").chmod(0o666)
    with umask(0o000):
        with replace_file(tmp_path / "a") as unfinished:
            unfinished.write_text("after")
        assert create_file(tmp_path / "b", b"new")
        with limit_new_files():
            (tmp_path / "c").touch()
    assert {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in "abc"} == {0o640}
