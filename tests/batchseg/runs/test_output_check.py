"""A run replaces none of its inputs, and no file that it did not make: it refuses before the first byte."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

from batchseg.collisions import check_inputs, list_local_paths, normalise_url
from batchseg.errors import RecipeError
from batchseg.ledger.lease import Lease
from batchseg.ledger.ledger import Ledger
from batchseg.objectstore import ObjectStore, open_store
from batchseg.paths import OutputKeys
from batchseg.recipe import LabelPolygons, Models, Recipe
from batchseg.recipe.heavy_tiles import Priority, Route
from batchseg.resolve.output_keys import list_output_keys
from batchseg.resolve.resolve import resolve
from batchseg.runs.output_check import check_run_output
from batchseg.store import LocalStore
from tests.runs import Workplace, noise, write_fake_bundle, write_scene


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


def write_labels(path: Path) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_scene(path, noise(20, 20, bands=1) % 5)


# Inputs in the place of outputs


def own_labels(place: Workplace, path: str) -> dict[str, Any]:
    write_labels(place.output / "scene0" / "labels.tif")
    return {"labels": (path,)}


def through_folder_link(place: Workplace) -> dict[str, Any]:
    (place.folder / "data").symlink_to(place.output)
    return own_labels(place, str(place.folder / "data" / "scene0" / "labels.tif"))


def through_file_link(place: Workplace) -> dict[str, Any]:
    (place.folder / "truth.tif").symlink_to(place.output / "scene0" / "labels.tif")
    return own_labels(place, str(place.folder / "truth.tif"))


def output_link(place: Workplace) -> dict[str, Any]:
    (place.folder / "link").symlink_to(place.output)
    return own_labels(place, str(place.output / "scene0" / "labels.tif")) | {"output": str(place.folder / "link")}


def output_file_url(place: Workplace) -> dict[str, Any]:
    return own_labels(place, str(place.output / "scene0" / "labels.tif")) | {"output": f"file://{place.output}/"}


def hard_link(place: Workplace) -> dict[str, Any]:
    changes = own_labels(place, str(place.folder / "truth.tif"))
    (place.folder / "truth.tif").hardlink_to(place.output / "scene0" / "labels.tif")
    return changes


def hard_link_in_own_folder(place: Workplace) -> dict[str, Any]:
    truth = write_labels(place.folder / "truth.tif")
    (place.output / "run" / "records").mkdir(parents=True)
    (place.output / "run" / "records" / "0_0.json").hardlink_to(truth)
    return {"labels": (truth,)}


def scene_itself(place: Workplace) -> dict[str, Any]:
    scene = place.output / "labels" / "labels.tif"
    scene.parent.mkdir(parents=True)
    return {"scenes": (write_scene(scene, noise(20, 20)),)}


def part_of_a_vrt(place: Workplace) -> dict[str, Any]:
    (place.output / "mosaic").mkdir(parents=True)
    write_scene(place.output / "mosaic" / "labels.tif", noise(20, 20))
    bands = "".join(
        f'<VRTRasterBand dataType="Byte" band="{band}"><SimpleSource>'
        f'<SourceFilename relativeToVRT="1">out/mosaic/labels.tif</SourceFilename><SourceBand>{band}</SourceBand>'
        "</SimpleSource></VRTRasterBand>"
        for band in (1, 2, 3)
    )
    vrt = place.folder / "mosaic.vrt"
    vrt.write_text(f'<VRTDataset rasterXSize="20" rasterYSize="20">{bands}</VRTDataset>')
    return {"scenes": (str(vrt),), "bands": (1, 2, 3)}


def sidecar(place: Workplace) -> dict[str, Any]:
    own = place.output / "scene0" / "labels.tif.aux.xml"
    own.parent.mkdir(parents=True)
    own.write_text("<PAMDataset></PAMDataset>")
    Path(f"{place.scenes[0]}.aux.xml").symlink_to(own)
    return {}


def polygons(place: Workplace, path: Path) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    square = [[15.0, 45.1], [15.001, 45.1], [15.001, 45.2], [15.0, 45.2], [15.0, 45.1]]
    feature = {"type": "Feature", "properties": {}, "geometry": {"type": "Polygon", "coordinates": [square]}}
    path.write_text(json.dumps({"type": "FeatureCollection", "features": [feature]}))
    return str(path)


def area_of_interest(place: Workplace) -> dict[str, Any]:
    return {"aoi": polygons(place, place.output / "scene0" / "item.json")}


def priority(place: Workplace) -> dict[str, Any]:
    heavy = write_fake_bundle(place.folder / "heavy", tier="heavy")
    path = polygons(place, place.output / "metrics.json")
    return {
        "route": Route(priority=(Priority(polygons=path),)),
        "models": Models(bulk=write_fake_bundle(place.folder / "bulk"), heavy=heavy),
    }


def polygon_labels(place: Workplace) -> dict[str, Any]:
    path = polygons(place, place.output / "run" / "sessions" / "truth.geojson")
    return {"labels": (LabelPolygons(polygons=path, all_=1),)}


def bundle(place: Workplace) -> dict[str, Any]:
    return {"models": Models(bulk=write_fake_bundle(place.output / "scene0"), heavy=None)}


def bundle_in_a_zarr(place: Workplace) -> dict[str, Any]:
    return {"models": Models(bulk=write_fake_bundle(place.output / "scene0" / "mask.zarr" / "labels"), heavy=None)}


INPUTS: list[Callable[[Workplace], dict[str, Any]]] = [
    lambda place: own_labels(place, str(place.output / "scene0" / "labels.tif")),
    lambda place: own_labels(place, f"file://{place.output}/scene0/labels.tif"),
    lambda place: own_labels(place, f"{place.output}/scene0/../scene0//labels.tif"),
    lambda place: own_labels(place, os.path.relpath(place.output / "scene0" / "labels.tif")),
    through_folder_link,
    through_file_link,
    output_link,
    output_file_url,
    hard_link,
    hard_link_in_own_folder,
    scene_itself,
    part_of_a_vrt,
    sidecar,
    bundle,
    bundle_in_a_zarr,
]


@pytest.mark.parametrize("resumes", [False, True], ids=["fresh", "resumed"])
@pytest.mark.parametrize("make", INPUTS)
def test_an_input_that_lies_where_the_run_writes_is_refused(
    place: Workplace, make: Callable[[Workplace], dict[str, Any]], resumes: bool
) -> None:
    recipe = place.recipe(**make(place))
    if resumes:
        resolved = resolve(recipe)
        Ledger(LocalStore(place.output)).write_recipe(resolved.fingerprint, resolved.content)
    before = snapshot(place.folder)
    with pytest.raises(RecipeError, match=r"the output must not replace an input.* which lies where .* is written"):
        check(recipe)
    assert snapshot(place.folder) == before


@pytest.mark.parametrize("make", [area_of_interest, priority, polygon_labels])
def test_polygons_that_lie_where_the_run_writes_are_refused(
    place: Workplace, make: Callable[[Workplace], dict[str, Any]]
) -> None:
    changes = make(place)
    named = [changes["aoi"]] if "aoi" in changes else []
    named += [reason.polygons for reason in changes["route"].polygons] if "route" in changes else []
    named += [labels.polygons for labels in changes.get("labels", ())]
    store = LocalStore(place.output)
    keys = list_output_keys(scene.zarr for scene in resolve(place.recipe()).job.scenes.values())
    with pytest.raises(RecipeError, match="the output must not replace an input"):
        check_inputs(store, keys, named)


def test_the_whole_run_refuses_and_leaves_the_truth_as_it_is(place: Workplace) -> None:
    changes = own_labels(place, str(place.output / "scene0" / "labels.tif"))
    before = snapshot(place.output)
    with pytest.raises(RecipeError, match=r"labels\.tif, which lies where scene0/labels\.tif is written"):
        place.run(**changes)
    assert snapshot(place.output) == before


@pytest.mark.parametrize(
    "name", ["input/scene0.tif", "scene0/scene0.tif", "scene0/truth/labels.tif", "SCENE0/labels.tif"]
)
def test_an_input_beside_the_outputs_is_no_hindrance(place: Workplace, name: str) -> None:
    path = write_labels(place.output / name)
    check(place.recipe(labels=(path,)))


SERVER_KEYS = OutputKeys(frozenset({"metrics.json", "scene/labels.tif"}), frozenset({"run/records", "scene/mask.zarr"}))


@pytest.mark.parametrize(
    ("name", "is_refused"),
    [
        ("s3://bucket/out/scene/labels.tif", True),
        ("s3://bucket/out/scene/labels.tif/", True),
        ("S3://Bucket/out/scene/labels.tif", True),
        ("s3a://bucket/out/metrics.json", True),
        ("/vsis3/bucket/out/scene/labels.tif", True),
        ("/vsizip/vsis3/bucket/out/run/records/a.zip/x.tif", True),
        ("/vsizip//vsis3/bucket/out/run/records/a.zip/x.tif", True),
        ("s3://bucket/out/scene/mask.zarr", True),
        ("s3://bucket/out/metrics.json|layername=a", True),
        ("https://bucket.s3.amazonaws.com/out/scene/labels.tif?X-Amz-Signature=abc", True),
        ("https://s3.eu-central-1.amazonaws.com/bucket/out/scene/labels.tif", True),
        ("/vsicurl/https://bucket.s3.eu-central-1.amazonaws.com/out/scene/labels.tif", True),
        ("s3://bucket/out/scene/other.tif", False),
        ("s3://bucket/out/input/labels.tif", False),
        ("s3://bucket/out2/scene/labels.tif", False),
        ("s3://other/out/scene/labels.tif", False),
        ("s3://bucket/out/Scene/labels.tif", False),
        ("gs://bucket/out/scene/labels.tif", False),
        ("https://example.com/bucket/out/scene/labels.tif", False),
        ("/data/bucket/out/scene/labels.tif", False),
    ],
)
@pytest.mark.parametrize("output", ["s3://bucket/out", "s3://bucket/out/", "s3a://bucket/out"])
def test_inputs_and_outputs_on_a_server(
    name: str, is_refused: bool, output: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_S3_ENDPOINT"):
        monkeypatch.delenv(variable, raising=False)
    store = ObjectStore(output)
    if is_refused:
        with pytest.raises(RecipeError, match="the output must not replace an input"):
            check_inputs(store, SERVER_KEYS, [name])
    else:
        check_inputs(store, SERVER_KEYS, [name])


def test_the_server_of_the_environment_has_its_objects_over_http_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9000")
    assert normalise_url("http://127.0.0.1:9000/bucket/a%20b.tif?x=1") == "s3://bucket/a b.tif"
    assert normalise_url("http://127.0.0.1:9001/bucket/a.tif") == "http://127.0.0.1:9001/bucket/a.tif"


@pytest.mark.parametrize(
    "name",
    [
        "{}/x.tif",
        "file://{}/x.tif",
        "vrt://{}/x.tif?bands=1",
        'NETCDF:"{}/x.tif":band',
        "GTIFF_DIR:1:{}/x.tif",
        "{}/x.tif|layername=a",
        "/vsizip/{}/x.tif/inner.tif",
        "/vsizip//vsigzip/{}/x.tif/a/b.tif",
        "zip://{}/x.tif!inner.tif",
    ],
)
def test_the_file_behind_a_name_of_gdal(tmp_path: Path, name: str) -> None:
    (tmp_path / "x.tif").write_bytes(b"")
    assert tmp_path / "x.tif" in list(list_local_paths(name.format(tmp_path)))


@pytest.mark.parametrize("name", ["", "x" * 5000, "a\0b", "s3://bucket/x.tif", "<VRTDataset>\n</VRTDataset>"])
def test_names_without_a_file(name: str) -> None:
    assert not list(list_local_paths(name))


# Files of others in the place of outputs


FOREIGN = [
    "metrics.json",
    "ledger.parquet",
    "report.html",
    "run/plan.json",
    "run/exit.json",
    "run/driver.json",
    "run/log.jsonl",
    "run/records/notes.txt",
    "run/records/scene0/0_0.json",
    "run/sessions/mine.json",
    "run/claims/nobody.json",
    "run/quarantine/deep/er/notes.txt",
    "run/priority/scene0.wkb",
    "scene0/item.json",
    "scene0/labels.tif",
    "scene0/labels.tif.aux.xml",
    "scene0/confidence.qml",
    "scene0/mask.zarr/.zattrs",
    "scene0/mask.zarr/labels/0.0",
    "scene0/mask.zarr/mine/notes.txt",
    "run",
    "run/records",
    "scene0",
    "scene0/mask.zarr",
]


@pytest.mark.parametrize("name", FOREIGN)
def test_files_where_the_run_would_write_are_refused_by_name(place: Workplace, name: str) -> None:
    recipe = place.recipe()
    (place.output / name).parent.mkdir(parents=True)
    (place.output / name).write_text("mine")
    before = snapshot(place.folder)
    with pytest.raises(RecipeError, match=r"no run into this folder made them.*move these files away") as caught:
        check(recipe)
    assert any(name.startswith(key) for key in (caught.value.got or "").split(", "))
    assert snapshot(place.folder) == before


def test_a_folder_in_the_place_of_a_file_is_refused_too(place: Workplace) -> None:
    (place.output / "metrics.json").mkdir(parents=True)
    with pytest.raises(RecipeError, match=r"metrics\.json"):
        check(place.recipe())


BESIDE = [
    "notes.txt",
    "evaluation.json",
    "scene1/labels.tif",
    "scene0/labels.gpkg",
    "scene0/mine/labels.tif",
    "scene0/LABELS.tif",
    "run/notes.txt",
    "run/scratch/mine/notes.txt",
    "run/scratch/unfinished-mine/notes.txt",
    "run/scratch/tmpabcdefgh/notes.txt",
    ".unfinished-0123456789ab.txt",
    "other/.unfinished-0123456789ab",
]


def test_files_of_others_beside_those_of_the_run_stay(place: Workplace) -> None:
    for name in BESIDE:
        (place.output / name).parent.mkdir(parents=True, exist_ok=True)
        (place.output / name).write_text("mine")
    assert place.run().exit_status == 0
    assert place.run().exit_status == 0
    assert {name: (place.output / name).read_text() for name in BESIDE} == dict.fromkeys(BESIDE, "mine")


def test_a_driver_that_was_killed_before_it_wrote_the_recipe_has_begun_the_folder(place: Workplace) -> None:
    lease = Lease(LocalStore(place.output))
    lease.acquire()
    lease.release()
    check(place.recipe())
    assert place.run().exit_status == 0


def test_products_without_the_folder_of_their_run_are_refused(place: Workplace) -> None:
    place.run()
    check(place.recipe())
    shutil.rmtree(place.output / "run")
    before = snapshot(place.output)
    with pytest.raises(RecipeError, match=r"metrics\.json"):
        place.run()
    assert snapshot(place.output) == before


LINKS = ["run", "run/scratch", "run/records", "run/records/scene0", "run/log", "scene0", "scene0/mask.zarr"]


@pytest.mark.parametrize("resumes", [False, True], ids=["fresh", "resumed"])
@pytest.mark.parametrize("name", [*LINKS, "scene0/mask.zarr/labels", "run/log.jsonl"])
def test_links_inside_of_the_output_are_refused(place: Workplace, name: str, resumes: bool) -> None:
    elsewhere = place.folder / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "notes.txt").write_text("mine")
    if resumes:
        place.run()
        moved = place.output / name
        if moved.exists():
            moved.rename(elsewhere / "moved")
    (place.output / name).parent.mkdir(parents=True, exist_ok=True)
    (place.output / name).symlink_to(elsewhere / "moved" if (elsewhere / "moved").exists() else elsewhere)
    before = snapshot(elsewhere)
    with pytest.raises(RecipeError, match=f"got a symbolic link to {elsewhere}"):
        check(place.recipe())
    assert snapshot(elsewhere) == before


def test_a_scene_of_the_run_is_labelled_as_before(place: Workplace) -> None:
    """The output itself may be a link, and the inputs may lie in it."""
    (place.folder / "disk" / "input").mkdir(parents=True)
    scene = write_scene(place.folder / "disk" / "input" / "scene.tif", noise(20, 20))
    place.output.symlink_to(place.folder / "disk")
    assert place.run(scenes=(scene,)).exit_status == 0
    with rasterio.open(place.output / "scene" / "labels.tif") as labels:
        assert np.unique(labels.read(1)).size > 1
