"""Training recipes that are refused when they are read, before a training of hours."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import batchseg
from batchseg.errors import RecipeError
from batchseg.model.bundle import open_bundle
from batchseg.training.checks import check_train_recipe, load_train_recipe
from batchseg.training.train_recipe import GroundSpec, LabelledRaster, TrainRecipe
from jobs.cli import main
from tests.batchseg.training.small_trainings import RECIPE

WHOLE = """\
name: n
tier: bulk
architecture: {kind: bulknet, width: 8}
halo_px: 32
train: {seeds: [1, 2], size_px: 256, window_px: 128}
validate: {seeds: [2, 3], size_px: 256, window_px: 128}
batch: 2
steps: 1
"""


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"gsd_m": (2.0, 0.5)}, "pixels of 2 to 0.5 m"),
        ({"gsd_m": (-1.0, 0.5)}, "pixels of -1 to 0.5 m"),
        ({"range": (255.0, 0.0)}, "a range of 255 to 0"),
        ({"range": (0.0, 4000.0)}, "range: the range must lie within the data type"),
        ({"scale": (100.0, 100.0)}, "scale: a scale must rise from low to high"),
        ({"halo_px": -8}, "halo -8"),
        ({"halo_px": 30}, r"halo_px: .*a multiple of 8, got 512 \+ 2 x 30 = 572\. Set halo_px: 32"),
        ({"crop_px": 36}, "crop_px: .*a multiple of the network's stride, 8"),
        ({"crop_px": 0}, "crop_px: "),
        ({"adam_beta2": 1.5}, "adam_beta2: `adam_beta2` must be 0 or more and below 1; got 1.5"),
        ({"learning_rate": 0.0}, "learning_rate: .*above 0"),
        ({"weight_decay": -0.1}, "weight_decay: .*0 or more"),
        ({"seed": -1}, "seed: .*0 or more"),
        ({"bands": ("red", "green", "blue", "nir")}, "synthetic scenes have bytes of red, green and blue"),
        ({"dtype": "uint16", "range": (0.0, 10_000.0)}, "synthetic scenes have bytes"),
    ],
)
def test_a_recipe_without_a_valid_bundle_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        check_train_recipe(replace(RECIPE, **change))


@pytest.mark.parametrize("kind", ["onnx", "bulknett", "[bulknet]"])
def test_only_networks_that_are_built_here_are_trained(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(WHOLE.replace("kind: bulknet", f"kind: {kind}"))
    with pytest.raises(RecipeError, match=r"architecture: kind: .*expected bulknet or unet or segformer, got"):
        load_train_recipe(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seeds": (-2, 2)}, "seeds must name at least one scene"),
        ({"size_px": 64}, "size_px: a synthetic scene must be at least as large as its window; expected at least 128"),
    ],
)
def test_invalid_synthetic_ground_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        replace(RECIPE.train, **change)


@pytest.mark.parametrize(
    ("recipe", "out", "message"),
    [
        (f"{WHOLE}crop_px: 64\n".encode(), "file", "no bundle can be written there; got .*file, a file"),
        (f"{WHOLE}crop_px: 64\n".encode(), "file/below", "no bundle can be written there; got .*file, a file"),
        ("name: Zürich\n".encode("latin-1"), "out", "this training recipe cannot be read"),
        (f"{WHOLE}name: twice\n".encode(), "out", "`name` is given twice"),
        (f"{WHOLE}crop_px: 36\n".encode(), "out", "recipe.yaml: crop_px"),
    ],
)
def test_a_training_that_cannot_start_is_reported_in_one_line(
    recipe: bytes, out: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "recipe.yaml").write_bytes(recipe)
    (tmp_path / "file").write_text("of somebody")
    assert main(["train", str(tmp_path / "recipe.yaml"), str(tmp_path / out)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert re.search(message, error)
    assert (tmp_path / "file").read_text() == "of somebody"
    assert not (tmp_path / "out").exists()


def rasters(*images: str, labels: str | None = "labels.tif") -> GroundSpec:
    return GroundSpec(rasters=tuple(LabelledRaster(image=image, labels=labels) for image in images), window_px=128)


def seeds(first: int, after: int) -> GroundSpec:
    return replace(RECIPE.train, seeds=(first, after))


def split(train: GroundSpec, validate: GroundSpec, watch: GroundSpec | None = None) -> TrainRecipe:
    real = any(spec is not None and spec.rasters for spec in (train, validate, watch))
    return replace(RECIPE, train=train, validate=validate, watch=watch, classes=RECIPE.class_list if real else None)


SIGNED = "https://host/a.tif?X-Amz-Signature={}"


@pytest.mark.parametrize(
    ("grounds", "message"),
    [
        (
            (rasters("a.tif"), rasters("a.tif")),
            r"^a\.tif: a scene to measure on must not be trained on; .*`train` and in `validate`",
        ),
        ((rasters("a.tif"), rasters("b.tif", "./a.tif")), r"^\./a\.tif: a scene to measure on must not be trained on"),
        ((rasters("a.tif"), rasters("link.tif")), r"^link\.tif: a scene to measure on must not be trained on"),
        ((rasters("a.tif"), rasters("file://{here}/a.tif")), "a scene to measure on must not be trained on"),
        ((rasters(SIGNED.format("1")), rasters(SIGNED.format("2"))), "a scene to measure on must not be trained on"),
        ((seeds(1000, 1004), seeds(1002, 1003)), "^seeds 1002 to 1002: a scene to measure on must not be trained on"),
        ((seeds(1002, 1003), seeds(1000, 1004)), "^seeds 1002 to 1002: a scene to measure on must not be trained on"),
        ((seeds(1, 3), seeds(3, 4), seeds(2, 3)), "^seeds 2 to 2: a scene to watch must not be trained on"),
        ((seeds(1, 2), seeds(3, 5), seeds(4, 6)), "^seeds 4 to 4: a scene to measure on must not be watched"),
        ((rasters("a.tif"), rasters("b.tif"), rasters("b.tif")), r"^b\.tif: a scene to measure on must not be watched"),
        ((rasters("a.tif", labels=None), rasters("b.tif")), "teaches nothing"),
        ((rasters("a.tif"), rasters("b.tif", labels=None)), "^validate: scenes to measure on must have labels"),
        (
            (rasters("a.tif"), rasters("b.tif"), rasters("c.tif", labels=None)),
            "^watch: scenes to measure on must have labels",
        ),
    ],
)
def test_a_scene_is_never_on_both_sides_of_a_split(
    grounds: tuple[GroundSpec, ...], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.tif").touch()
    (tmp_path / "link.tif").symlink_to("a.tif")
    here = [
        replace(spec, rasters=tuple(replace(r, image=r.image.format(here=tmp_path)) for r in spec.rasters))
        for spec in grounds
    ]
    with pytest.raises(RecipeError, match=message):
        check_train_recipe(split(*here))


def test_a_split_by_scene_is_accepted() -> None:
    check_train_recipe(split(rasters("a/scene.tif"), rasters("b/scene.tif"), rasters("https://host/scene.tif?sig=1")))
    check_train_recipe(split(seeds(1000, 1002), seeds(1002, 1003), seeds(1003, 1004)))
    check_train_recipe(split(seeds(1000, 1002), rasters("a.tif")))


def test_training_checks_a_recipe_that_was_made_in_python(tmp_path: Path) -> None:
    """`dataclasses.replace` checks single fields only; `train` checks them together before any work."""
    with pytest.raises(RecipeError, match=r"crop_px: .*a multiple of the network's stride"):
        batchseg.train(replace(RECIPE, crop_px=36), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_python_trains_from_the_path_of_a_recipe(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(f"{WHOLE}crop_px: 64\nthreads: 1\n")
    bundle = batchseg.train(str(path), str(tmp_path / "out"), device="cpu")
    assert bundle.folder == tmp_path / "out"
    assert bundle.contract.lineage.steps == 1
    assert bundle.digest == open_bundle(str(tmp_path / "out")).digest


def test_python_distils_with_a_teacher_only(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(f"{WHOLE}crop_px: 64\n")
    with pytest.raises(RecipeError, match=r"recipe\.yaml: a recipe for distillation must name a teacher"):
        batchseg.distill(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()
