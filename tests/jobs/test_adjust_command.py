"""`batchseg adjust`: a bundle that calls things by wrong names is brought back by a few labels; others are refused."""

from __future__ import annotations

import json
from pathlib import Path

import geopandas
import numpy as np
import pytest
import rasterio
import shapely

from batchseg.adapt.samples import make_scene_name
from batchseg.model.bundle import open_bundle, write_bundle
from batchseg.model.mixing import Mixture, mix_weights
from batchseg.model.quality import JudgedPixels
from jobs.cli import main
from tests.batchseg.model.model_bundles import MADE
from tests.stac import problems_of

MIXED_UP = np.eye(6)
MIXED_UP[[1, 2], [4, 5]] = 0.8
OFFSETS = np.array([0.0, -2.0, 1.5, 0.0, -1.0, 0.0])


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("adjusted") / "scene"
    assert main(["synth", str(folder), "--size", "1100", "--seed", "9"]) == 0
    return folder


@pytest.fixture
def wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The shipped model, with its scores mixed up."""
    monkeypatch.setenv("BATCHSEG_CACHE", str(tmp_path / "cache"))
    bundle = open_bundle("zoo:synthetic-bulk")
    write_bundle(tmp_path / "wrong", bundle.contract, mix_weights(bundle, Mixture(MIXED_UP, OFFSETS)), created_at=MADE)
    return tmp_path / "wrong"


def clicked(scene: Path, file: Path, count: int, *, shuffled: bool = False) -> str:
    """Points with the names of classes, as somebody clicks them."""
    with rasterio.open(scene / "labels.tif") as source:
        labels_HW, transform, crs = source.read(1), source.transform, source.crs
    names = [c.name for c in open_bundle("zoo:synthetic-bulk").contract.classes]
    random = np.random.default_rng(4)
    rows, cols = np.divmod(random.choice(np.flatnonzero(labels_HW < len(names)), count, replace=False), 1100)
    told = [names[labels_HW[row, col]] for row, col in zip(rows, cols, strict=True)]
    points = [shapely.Point(transform @ (col + 0.5, row + 0.5)) for row, col in zip(rows, cols, strict=True)]
    told = list(random.permutation(told)) if shuffled else told
    geopandas.GeoDataFrame({"class": told}, geometry=points, crs=crs).to_file(file)
    return str(file)


def miou_of_run(bundle: Path, scene: Path, folder: Path) -> float:
    recipe = folder / f"{bundle.name}.yaml"
    recipe.write_text(
        f"scenes: [{scene / 'scene.tif'}]\nlabels: [{scene / 'labels.tif'}]\n"
        f"output: {folder / bundle.name}-out\nmodels: {{bulk: {bundle}}}\n"
    )
    assert main(["run", str(recipe), "--quiet"]) == 0
    miou: float = json.loads((folder / f"{bundle.name}-out/metrics.json").read_text())["miou"]
    return miou


def test_points_bring_a_bundle_back(
    tmp_path: Path, wrong: Path, scene: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    points, out = clicked(scene, tmp_path / "points.gpkg", 300), tmp_path / "mended"
    assert main(["adjust", str(wrong), str(out), "--on", str(scene / "scene.tif"), "--labels", points]) == 0
    said = capsys.readouterr().out
    assert "labels  300 px: " in said
    assert "mean IoU" in said
    assert "points on held-out labels, 95 % confidence" in said
    assert said.splitlines()[-1] == str(out / "item.json")
    made, item = open_bundle(str(out)).contract, json.loads((out / "item.json").read_text())
    assert problems_of(item) == []
    assert made.lineage.adjusted_from == open_bundle(str(wrong)).contract.name
    assert np.array(made.lineage.mixing.weights).shape == (6, 6)
    assert made.quality.judged_on == JudgedPixels(on="scene.tif", tiles=9, pixels=300)
    assert made.quality.miou > made.quality.miou_of_original + 0.15
    card = (out / "README.md").read_text()
    assert "fitted to 300 labelled pixels in 9 tiles of scene.tif" in card
    assert f"| **mean** | **{made.quality.miou:.3f}** |" in card
    before, after = (miou_of_run(bundle, scene, tmp_path) for bundle in (wrong, out))
    assert after > before + 0.15, "what was promised on labels holds on the whole scene"
    assert abs(after - made.quality.miou) < 0.12


def test_labels_that_gain_nothing_change_nothing(
    tmp_path: Path, scene: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BATCHSEG_CACHE", str(tmp_path / "cache"))
    points = clicked(scene, tmp_path / "points.gpkg", 60, shuffled=True)
    right = ["adjust", "zoo:synthetic-bulk", str(tmp_path / "none"), "--on", str(scene / "scene.tif"), "--labels"]
    assert main([*right, points]) == 2
    assert (
        "the adjusted bundle is not better on held-out labels with 95 % confidence, and nothing was written"
        in capsys.readouterr().err
    )
    assert main([*right, clicked(scene, tmp_path / "one.gpkg", 1)]) == 2
    assert "too few labels" in capsys.readouterr().err
    with rasterio.open(scene / "labels.tif") as source:
        profile, empty_HW = source.profile, np.full((1100, 1100), 255, np.uint8)
    with rasterio.open(tmp_path / "empty.tif", "w", **profile) as file:
        file.write(empty_HW, 1)
    assert main([*right, str(tmp_path / "empty.tif")]) == 2
    assert "empty.tif: no pixel of the scene has a label" in capsys.readouterr().err
    with rasterio.open(tmp_path / "shifted.tif", "w", **profile) as file:
        file.write(np.full((1100, 1100), 77, np.uint8), 1)
    assert main([*right, str(tmp_path / "shifted.tif")]) == 2
    assert "their codes are those of the classes" in capsys.readouterr().err
    assert main([*right, points, "--outside", "water"]) == 2
    assert "only polygons enclose ground" in capsys.readouterr().err, "points have no outside"
    assert main([*right, str(scene / "labels.tif"), "--all", "water"]) == 2
    assert "this is for polygons, and the reference is a raster" in capsys.readouterr().err
    assert not list(tmp_path.glob("none*"))


def test_an_existing_folder_is_refused_before_anything_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["adjust", "nowhere", str(tmp_path), "--on", "no.tif", "--labels", "no.gpkg"]) == 2
    assert "there is something already" in capsys.readouterr().err


def test_a_place_where_nothing_can_be_written_is_refused_before_anything_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    assert main(["adjust", "nowhere", str(tmp_path / "file/out"), "--on", "no.tif", "--labels", "no.gpkg"]) == 2
    assert "no bundle can be written there" in capsys.readouterr().err


def test_what_an_earlier_try_left_is_not_taken_over(tmp_path: Path, wrong: Path, scene: Path) -> None:
    """What a killed process left goes; what only looks like it is the user's."""
    left, own = tmp_path / f"mended.unfinished-{'0' * 24}", tmp_path / "mended.unfinished"
    for folder in (left, own):
        folder.mkdir(mode=0o700)
        (folder / "weights.onnx").touch()
    points = clicked(scene, tmp_path / "points.gpkg", 300)
    assert (
        main(["adjust", str(wrong), str(tmp_path / "mended"), "--on", str(scene / "scene.tif"), "--labels", points])
        == 0
    )
    found = sorted(path.name for path in (tmp_path / "mended").iterdir())
    assert found == ["README.md", "item.json", "weights.safetensors"]
    assert not left.exists()
    assert (own / "weights.onnx").exists()


def test_the_name_of_a_scene_holds_no_signature() -> None:
    """It stands in files that are given away."""
    assert make_scene_name("https://user:word@host/a/scene.tif?X-Amz-Signature=0123") == "scene.tif"
    assert make_scene_name("s3://bucket/scene.tif") == make_scene_name("ground/scene.tif") == "scene.tif"


def test_classes_without_labels_and_codes_that_are_none_are_named(
    tmp_path: Path, wrong: Path, scene: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with rasterio.open(scene / "labels.tif") as source:
        profile, labels_HW = source.profile, source.read(1)
    unknown_px = int((labels_HW == 2).sum())
    with rasterio.open(tmp_path / "other.tif", "w", **profile) as file:
        file.write(np.where(labels_HW == 2, 77, labels_HW), 1)
    command = ["adjust", str(wrong), str(tmp_path / "mended"), "--on", str(scene / "scene.tif")]
    assert main([*command, "--labels", str(tmp_path / "other.tif")]) == 0
    caught = capsys.readouterr()
    assert f"{unknown_px} labelled pixels hold a code that is not a class" in caught.err
    assert "no labels  field: a class without labels is not judged, and keeps its score" in caught.out
    assert "field" not in open_bundle(str(tmp_path / "mended")).contract.quality.iou


def test_a_raster_that_is_labelled_here_and_there(
    tmp_path: Path, wrong: Path, scene: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with rasterio.open(scene / "labels.tif") as source:
        profile, labels_HW = source.profile, source.read(1)
    here_HW = np.zeros(labels_HW.shape, bool)
    for row, col in np.random.default_rng(1).integers(0, 1000, (40, 2)):
        here_HW[row : row + 30, col : col + 30] = True
    with rasterio.open(tmp_path / "some.tif", "w", **profile) as file:
        file.write(np.where(here_HW, labels_HW, 255), 1)
    command = ["adjust", str(wrong), str(tmp_path / "mended"), "--on", str(scene / "scene.tif")]
    assert main([*command, "--labels", str(tmp_path / "some.tif"), "--tiles", "3"]) == 0
    caught = capsys.readouterr()
    assert "3 of 4 tiles with labels are used; --tiles takes more" in caught.err
    quality = open_bundle(str(tmp_path / "mended")).contract.quality
    assert quality.miou > quality.miou_of_original + 0.1
    assert quality.judged_on.tiles == 3
