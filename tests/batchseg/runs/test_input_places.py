"""A run replaces none of its inputs: it refuses before the first byte."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from batchseg.collisions import check_inputs
from batchseg.errors import RecipeError
from batchseg.ledger.ledger import Ledger
from batchseg.recipe import LabelPolygons, Models
from batchseg.recipe.heavy_tiles import Priority, Route
from batchseg.resolve.output_keys import list_output_keys
from batchseg.resolve.resolve import resolve
from batchseg.store import LocalStore
from tests.batchseg.runs.output_folders import check, place, snapshot
from tests.runs import Workplace, noise, write_fake_bundle, write_scene

__all__ = ["place"]


def write_labels(path: Path) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_scene(path, noise(20, 20, bands=1) % 5)


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
