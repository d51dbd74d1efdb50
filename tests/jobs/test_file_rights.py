"""Rights of new files: for their user and group, narrowed by the umask, never wider."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import NamedTemporaryFile

import pytest
import yaml

from batchseg import ModelFacts, compare, evaluate, import_bundle, report, train
from batchseg.adapt.tune import write_numerics
from batchseg.atomic import create_file, limit_new_files, move_file, replace_file
from batchseg.classes import ClassInfo
from batchseg.runs.night import run_night
from batchseg.runs.night_settings import Night
from batchseg.scene.bands import BandWanted
from batchseg.schema import plain
from batchseg.synth import write_scene
from jobs.cli import main
from tests.batchseg.model.model_bundles import write_onnx
from tests.batchseg.training.small_trainings import GROUND, RECIPE
from tests.jobs.command_line import alone, folder, quick
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


def make_run_and_reports(folder: Path) -> Iterator[Path]:
    place = Workplace.of(folder, noise(64, 64), noise(80, 40, seed=1))
    place.run()
    report(place.output)
    (folder / "reference.tif").write_bytes((place.output / "scene0/labels.tif").read_bytes())
    evaluate(place.output, {"scene0": str(folder / "reference.tif")})
    compare(place.output, place.output, folder=folder / "new" / "compared")
    yield from (place.output, folder / "new")


def make_night(folder: Path) -> Iterator[Path]:
    place = Workplace.of(folder, noise(40, 40))
    values = plain(place.recipe())
    (folder / "recipe.yaml").write_text(yaml.safe_dump(values))
    night = Night(recipe=str(folder / "recipe.yaml"), output=str(folder / "nights"), scenes=place.scenes)
    run_night(night, lambda recipe, _: place.run(scenes=recipe.scenes, output=recipe.output))
    yield folder / "nights"


def make_training(folder: Path) -> Iterator[Path]:
    train(
        replace(RECIPE, watch=replace(GROUND, seeds=(3000, 3001)), watch_every=2), folder / "new" / "net", device="cpu"
    )
    yield folder / "new"


def make_synthetic_scene(folder: Path) -> Iterator[Path]:
    write_scene(folder / "new" / "scene", size_px=256, seed=1)
    yield folder / "new"


def make_imported_bundle(folder: Path) -> Iterator[Path]:
    path = write_onnx(folder / "made").weights
    facts = ModelFacts(
        bands=tuple(BandWanted(name=name, common=name) for name in ("red", "green", "blue")),
        gsd_m=(0.3, 0.8),
        classes=tuple(ClassInfo(id=i, name=str(i), rgb=(i, i, i)) for i in range(4)),
        mean=(90.0, 100.0, 80.0),
        std=(40.0, 50.0, 30.0),
    )
    bundle = import_bundle(path, folder / "new" / "net", facts)
    write_numerics(bundle, "cpu", bundle.contract.numerics["cpu"])
    yield folder / "new"


WRITERS = [make_run_and_reports, make_night, make_training, make_synthetic_scene, make_imported_bundle]


@pytest.mark.parametrize(("mask", "file_mode", "folder_mode"), UMASKS)
@pytest.mark.parametrize("write", WRITERS)
def test_functions_of_python_keep_their_files_from_others_and_open_them_to_the_group(
    write: Callable[[Path], Iterable[Path]], mask: int, file_mode: int, folder_mode: int, tmp_path: Path
) -> None:
    with umask(mask):
        made = list(write(tmp_path))
    for root in made:
        files, folders = collect_modes(root)
        assert files == {file_mode}
        assert folders <= {folder_mode}
        assert stat.S_IMODE(root.stat().st_mode) == folder_mode


def test_files_that_take_the_place_of_others_have_the_rights_of_new_ones(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("before")
    (tmp_path / "a").chmod(0o666)
    with umask(0o000):
        with replace_file(tmp_path / "a") as unfinished:
            unfinished.write_text("after")
        assert create_file(tmp_path / "b", b"new")
        with limit_new_files():
            (tmp_path / "c").touch()
        with NamedTemporaryFile(dir=tmp_path, delete=False) as private:
            move_file(Path(private.name), tmp_path / "d")
    assert {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == dict.fromkeys("abcd", 0o640)


def test_a_disk_without_rights_takes_files_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError

    monkeypatch.setattr(Path, "chmod", refuse)
    with umask(0o000), replace_file(tmp_path / "a") as unfinished:
        unfinished.write_text("content")
    assert (tmp_path / "a").read_text() == "content"


def test_an_unfinished_file_of_the_same_name_is_never_written_through(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("mine")
    for lead in (Path.symlink_to, Path.hardlink_to):
        lead(tmp_path / ".unfinished-checkpoint", tmp_path / "precious")
        with replace_file(tmp_path / "a", tag="checkpoint") as unfinished:
            unfinished.write_text("whole")
    assert (tmp_path / "precious").read_text() == "mine"
