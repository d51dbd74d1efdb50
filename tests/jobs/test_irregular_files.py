"""Pipes, sockets, devices and folders where a file must be: each command ends at once, with one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import geopandas
import pytest
import shapely
import yaml

from jobs.cli import main
from jobs.verbs.nightly import run_main
from tests.jobs.command_line import alone, folder, refused, write_recipe
from tests.jobs.damage import IRREGULAR
from tests.runs import noise, write_fake_bundle, write_scene

__all__ = ["alone", "folder"]
pytestmark = pytest.mark.timeout(120, method="thread")
"""A thread that hangs in GDAL or in a read hears no signal."""

Argv = Callable[[Path], list[str]]


def plan(folder: Path, **changes: Any) -> list[str]:
    return ["plan", write_recipe(folder, **changes)]


def plan_with_polygons(name: str) -> Argv:
    def make_argv(folder: Path) -> list[str]:
        models = {"bulk": str(folder / "bulk"), "heavy": write_fake_bundle(folder / "heavy", tier="heavy")}
        return plan(folder, models=models, route={"priority": [{"polygons": str(folder / name)}]})

    return make_argv


def import_model(name: str, classes: str = "a,b") -> Argv:
    facts = ["--gsd", "0.3", "0.8", "--bands", "red,green,blue", "--classes", classes]
    return lambda folder: ["model", "import", str(folder / name), str(folder / "new"), *facts]


def adjust(labels: str) -> Argv:
    return lambda folder: [
        "adjust", str(folder / "bulk"), str(folder / "new"), "--on", str(folder / "scene.tif"), "--labels",
        str(folder / labels),
    ]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Case:
    """A file that is named by a user, or by another file, and a command that reads it."""

    file: str
    argv: Argv = plan


CASES = {
    "recipe": Case("recipe.yaml", lambda folder: ["plan", str(folder / "recipe.yaml")]),
    "fleet": Case("fleet.yaml", lambda folder: [*plan(folder), "--fleet", str(folder / "fleet.yaml")]),
    "training recipe": Case("train.yaml", lambda folder: ["train", str(folder / "train.yaml"), str(folder / "new")]),
    "scene": Case("scene.tif"),
    "labels": Case("labels.tif", lambda folder: plan(folder, labels=[str(folder / "labels.tif")])),
    "label polygons": Case("p.gpkg", lambda folder: plan(folder, labels=[{"polygons": str(folder / "p.gpkg")}])),
    "area of interest": Case("p.geojson", lambda folder: plan(folder, aoi=str(folder / "p.geojson"))),
    "polygons": Case("p.shp", plan_with_polygons("p.shp")),
    "item": Case("bulk/item.json"),
    "weights": Case("bulk/weights.safetensors"),
    "graph": Case("m.onnx", import_model("m.onnx")),
    "config": Case("segformer/config.json", import_model("segformer")),
    "tensors": Case("segformer/model.safetensors", import_model("segformer")),
    "scene to adjust to": Case("scene.tif", adjust("labels.tif")),
    "labels to adjust to": Case("labels.tif", adjust("labels.tif")),
    "polygons to adjust to": Case("p.gpkg", adjust("p.gpkg")),
}
SCENE_SIDECARS = (
    "scene.tif.msk", "scene.tif.ovr", "scene.tif.aux.xml", "scene.tfw", "scene.wld", "scene.prj", "scene.RPB",
    "scene.imd", "scene_rpc.txt", "scene_RPC.TXT", "scene.xml", "scene.aux", "scene_MTL.txt",
)  # fmt: skip
SIDECARS = {
    **{name: Case(name) for name in SCENE_SIDECARS},
    **{f"p{ending}": Case(f"p{ending}", plan_with_polygons("p.shp")) for ending in (".dbf", ".shx", ".prj", ".qix")},
    **{f"p.gpkg{ending}": Case(f"p.gpkg{ending}", plan_with_polygons("p.gpkg")) for ending in ("-wal", "-journal")},
}


@pytest.fixture
def place(folder: Path) -> Path:
    write_scene(folder / "labels.tif", noise(70, 45, bands=1) % 5)
    square = geopandas.GeoDataFrame(
        {"class": [1]}, geometry=[shapely.box(500_005, 4_999_950, 500_030, 4_999_990)], crs="EPSG:32633"
    )
    for name in ("p.gpkg", "p.geojson", "p.shp"):
        square.to_file(folder / name)
    (folder / "segformer").mkdir()
    (folder / "segformer" / "config.json").write_text(json.dumps({"model_type": "segformer"}))
    for name in ("fleet.yaml", "train.yaml", "m.onnx"):
        (folder / name).touch()
    return folder


def put(kind: str, path: Path) -> None:
    path.touch()
    IRREGULAR[kind](path)


@pytest.mark.parametrize("kind", ["pipe", "socket", "device"])
@pytest.mark.parametrize("name", CASES)
def test_what_is_no_file_is_refused_by_name(
    name: str, kind: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    case = CASES[name]
    argv = case.argv(place)
    put(kind, place / case.file)
    told = refused(argv, capsys)
    assert Path(case.file).name in told
    assert f"a {kind}" in told
    assert not (place / "out").exists()


@pytest.mark.parametrize("name", SIDECARS)
def test_what_a_library_opens_beside_a_file_is_refused_too(
    name: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    case = SIDECARS[name]
    argv = case.argv(place)
    put("pipe", place / case.file)
    told = refused(argv, capsys)
    assert case.file in told
    assert "a pipe" in told


@pytest.mark.parametrize("name", ["recipe", "fleet", "item", "weights"])
def test_a_folder_is_no_file(name: str, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = CASES[name].argv(place)
    put("folder", place / CASES[name].file)
    assert "a folder" in refused(argv, capsys)


def test_a_pipe_of_another_name_beside_a_scene_is_nobodys(place: Path) -> None:
    for name in ("scene2.tif", "other.tif.msk", "a.fifo"):
        put("pipe", place / name)
    assert main(plan(place)) == 0


@pytest.mark.parametrize("file", ["night.yaml", "recipe.yaml", "listing.txt", "out/index.json", "out/latest.json"])
def test_a_night(file: str, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    night = {"recipe": str(place / "recipe.yaml"), "output": str(place / "out"), "listing": str(place / "listing.txt")}
    (place / "night.yaml").write_text(yaml.safe_dump(night))
    (place / "listing.txt").write_text(f"# {place / 'scene.tif'}\n")
    (place / "out").mkdir()
    put("pipe", place / file)
    status = run_main([str(place / "night.yaml"), "--quiet"])
    told = capsys.readouterr().err
    assert status in (2, 3)
    # What no night made is refused as a file of others, before anybody reads it.
    is_said = "a pipe" in told or "no night into this folder made them" in told
    assert status == 3 or (told.count("\n") == 1 and Path(file).name in told and is_said)


def test_a_night_calls_a_scene_that_is_a_pipe_unreadable(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    night = {"recipe": str(place / "recipe.yaml"), "output": str(place / "out"), "scenes": [str(place / "scene.tif")]}
    (place / "night.yaml").write_text(yaml.safe_dump(night))
    put("pipe", place / "scene.tif")
    assert run_main([str(place / "night.yaml"), "--quiet"]) == 3
    assert "unreadable  scene: " in capsys.readouterr().out


def test_parts_of_a_mosaic(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    vrt = (
        '<VRTDataset rasterXSize="45" rasterYSize="70">'
        + "".join(
            f'<VRTRasterBand dataType="Byte" band="{band}"><SimpleSource><SourceFilename relativeToVRT="1">part.tif'
            f"</SourceFilename><SourceBand>{band}</SourceBand></SimpleSource></VRTRasterBand>"
            for band in (1, 2, 3)
        )
        + "</VRTDataset>"
    )
    (place / "mosaic.vrt").write_text(vrt)
    put("pipe", place / "part.tif")
    told = refused(plan(place, scenes=[str(place / "mosaic.vrt")]), capsys)
    assert "a pipe" in told
