"""A training replaces none of its inputs, and no file that no training made."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from batchseg.errors import RecipeError
from batchseg.training.bundle_folder import check_bundle_files
from batchseg.training.train_recipe import GroundSpec, LabelledRaster
from tests.batchseg.training.small_trainings import RECIPE, quietly, train_on_cpu
from tests.runs import write_fake_bundle

FOREIGN = [
    "weights.safetensors",
    "README.md",
    "training/curve.csv",
    "training/watched.csv",
    "training/checkpoint/state.safetensors",
    "training/checkpoint/best.safetensors",
]


@pytest.mark.parametrize("name", FOREIGN)
def test_files_of_others_are_refused_by_name(tmp_path: Path, name: str) -> None:
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_text("mine")
    with pytest.raises(RecipeError, match=f"no training into this folder made them; got {name}"):
        train_on_cpu(RECIPE, tmp_path, show=quietly)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [tmp_path / name]
    assert (tmp_path / name).read_text() == "mine"


def test_files_of_others_beside_the_bundle_stay_and_a_training_continues(tmp_path: Path) -> None:
    (tmp_path / "training").mkdir()
    for name in ("notes.txt", "training/notes.txt"):
        (tmp_path / name).write_text("mine")
    train_on_cpu(RECIPE, tmp_path, show=quietly)
    train_on_cpu(replace(RECIPE, steps=8), tmp_path, show=quietly)
    (tmp_path / "item.json").unlink()
    train_on_cpu(replace(RECIPE, steps=8), tmp_path, show=quietly)
    assert [(tmp_path / name).read_text() for name in ("notes.txt", "training/notes.txt")] == ["mine", "mine"]


def test_a_training_that_was_killed_before_its_first_checkpoint_begins_again(tmp_path: Path) -> None:
    (tmp_path / "training").mkdir()
    (tmp_path / "training/curve.csv").write_text("step,loss,learning_rate,seconds\n1,0.5,0.1,0.1\n")
    check_bundle_files(tmp_path, RECIPE)


@pytest.mark.parametrize("name", ["README.md", "training/curve.csv"])
@pytest.mark.parametrize("kind", ["image", "labels"])
@pytest.mark.parametrize("is_link", [False, True])
def test_rasters_in_the_place_of_the_bundle_are_refused(tmp_path: Path, name: str, kind: str, is_link: bool) -> None:
    own, given = tmp_path / "out" / name, tmp_path / "raster.tif"
    own.parent.mkdir(parents=True)
    own.write_text("mine")
    if is_link:
        given.hardlink_to(own)
    raster = LabelledRaster(**({"image": "other.tif"} | {kind: str(given if is_link else own)}))
    recipe = replace(RECIPE, train=GroundSpec(rasters=(raster,)), classes=RECIPE.class_list)
    with pytest.raises(RecipeError, match="the output must not replace an input"):
        check_bundle_files(tmp_path / "out", recipe)


@pytest.mark.parametrize("key", ["start", "teacher"])
def test_a_bundle_is_not_trained_from_itself(tmp_path: Path, key: str) -> None:
    bundle = write_fake_bundle(tmp_path / "bundle")
    (tmp_path / "link").symlink_to(tmp_path / "bundle")
    for folder in (tmp_path / "bundle", tmp_path / "link"):
        with pytest.raises(RecipeError, match="the output must not replace an input"):
            check_bundle_files(folder, replace(RECIPE, **{key: bundle}))
