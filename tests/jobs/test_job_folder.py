"""Paths of a submitted recipe: what the job's working directory would lose, or does not have, is refused at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from batchseg.errors import RecipeError
from batchseg.recipe import LabelPolygons, Models, Priority, Recipe, Route
from batchseg.runs.night_settings import Night
from jobs.cli import main
from jobs.cluster.job_folder import check_night_paths, check_recipe_paths, find_job_folder
from jobs.verbs.run import run_main


@pytest.fixture
def job_folder(tmp_path: Path) -> Path:
    """A working directory as Ray unpacks it, with one scene."""
    folder = tmp_path / "session_1" / "runtime_resources" / "working_dir_files" / "_ray_pkg_0123"
    (folder / "data").mkdir(parents=True)
    (folder / "data" / "scene.tif").touch()
    return folder


def make_recipe(**changes: object) -> Recipe:
    values = {"scenes": ("data/scene.tif",), "output": "/shared/out", "models": Models(bulk="zoo:synthetic-bulk")}
    return Recipe(**(values | changes))


def test_the_unpacked_folder_is_found_from_anywhere_inside(job_folder: Path, tmp_path: Path) -> None:
    assert find_job_folder(job_folder) == find_job_folder(job_folder / "data") == job_folder
    assert find_job_folder(tmp_path) is None
    assert find_job_folder(job_folder.parent) is None


@pytest.mark.parametrize(
    "output", ["out/map", "map", "./map", "../_ray_pkg_0123/map", "{job}/map", "file://{job}/map", "{link}/map"]
)
def test_an_output_that_would_be_lost_is_refused(output: str, job_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(job_folder)
    recipe = make_recipe(output=output.format(job=job_folder, link=tmp_path / "link"))
    with pytest.raises(RecipeError, match="output: an output in the job's working directory would be lost") as refused:
        check_recipe_paths(recipe, current=job_folder)
    assert "write `output: s3://BUCKET/map` or `output: /SHARED/map`" in (refused.value.todo or "")
    check_recipe_paths(recipe, current=tmp_path)  # outside of a job it is the user's own folder


@pytest.mark.parametrize("output", ["/shared/map", "s3://bucket/map", "../../map", "gs://bucket/map"])
def test_an_output_that_stays_is_taken(output: str, job_folder: Path) -> None:
    check_recipe_paths(make_recipe(output=output), current=job_folder)


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"scenes": ("out/town/scene.tif",)}, "scenes"),
        ({"scenes": ("data/scene.tif", "out/*.tif")}, "scenes"),
        ({"labels": ("out/labels.tif",)}, "labels"),
        ({"labels": (LabelPolygons(polygons="out/labels.gpkg"),)}, "labels: polygons"),
        ({"aoi": "out/aoi.geojson|layername=a"}, "aoi"),
        ({"models": Models(bulk="out/my-bundle")}, "models: bulk"),
        (
            {
                "models": Models(bulk="zoo:synthetic-bulk", heavy="zoo:synthetic-heavy"),
                "route": Route(priority=(Priority(polygons="out/priority.gpkg"),)),
            },
            "route: priority: polygons",
        ),
    ],
)
def test_an_input_that_was_not_uploaded_is_refused(changes: dict[str, object], key: str, job_folder: Path) -> None:
    recipe = make_recipe(**changes)
    with pytest.raises(RecipeError, match=f"^{key}: this file is not in the job's working directory") as refused:
        check_recipe_paths(recipe, current=job_folder)
    assert ".rayignore" in (refused.value.todo or "")


@pytest.mark.parametrize(
    "scene",
    [
        "data/scene.tif",
        "data/*.tif",
        "/shared/scene.tif",
        "s3://b/scene.tif",
        "/vsizip/a.zip/scene.tif",
        "GTIFF_DIR:1:/shared/scene.tif",
    ],
)
def test_inputs_that_are_there_or_are_absolute_are_taken(scene: str, job_folder: Path) -> None:
    check_recipe_paths(make_recipe(scenes=(scene,)), current=job_folder)


def test_a_night_is_held_to_the_same(job_folder: Path) -> None:
    (job_folder / "recipe.yaml").touch()
    night = {"recipe": "recipe.yaml", "output": "/shared/nights", "scenes": ("data/*.tif",)}
    check_night_paths(Night(**night), current=job_folder)
    for changes, key in (
        ({"output": "nights"}, "output"),
        ({"scenes": ("incoming/*.tif",)}, "scenes"),
        ({"listing": "out/scenes.txt"}, "listing"),
        ({"recipe": "out/recipe.yaml"}, "recipe"),
    ):
        with pytest.raises(RecipeError, match=f"^{key}: "):
            check_night_paths(Night(**(night | changes)), current=job_folder)


def test_the_command_of_a_job_refuses_before_it_opens_anything(
    job_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = "scenes: [data/scene.tif]\noutput: out/map\nmodels: {bulk: zoo:synthetic-bulk}\n"
    (job_folder / "recipe.yaml").write_text(text)
    monkeypatch.chdir(job_folder)
    assert run_main(["recipe.yaml", "--quiet"]) == 2
    assert "would be lost, since Ray deletes this copy after the job" in capsys.readouterr().err
    assert main(["plan", "recipe.yaml"]) == 2, "an empty file is no scene"
    assert "would be lost" not in capsys.readouterr().err
    assert not (job_folder / "out").exists()
