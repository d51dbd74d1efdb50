"""A run replaces no file that it did not make: it refuses before the first byte, and names the files."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import rasterio

from batchseg.errors import RecipeError
from batchseg.ledger.lease import Lease
from batchseg.store import LocalStore
from tests.batchseg.runs.output_folders import check, place, snapshot
from tests.runs import Workplace, noise, write_scene

__all__ = ["place"]


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
