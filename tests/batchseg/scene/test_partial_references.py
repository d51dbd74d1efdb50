"""References that cover a part of the scene: only ground that somebody has looked at is scored."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import geopandas
import numpy as np
import pytest
import rasterio
import shapely

from batchseg import plan
from batchseg.errors import BatchsegError, RecipeError
from batchseg.recipe import LabelPolygons
from batchseg.reports.evaluate import evaluate
from jobs.cli import main as batchseg
from tests.runs import UTM, Workplace, noise, write_scene

WEST, NORTH = 500_000, 5_000_000
"""The corner of the scene; a pixel has 1 m."""


@pytest.fixture
def place(tmp_path: Path) -> Workplace:
    place = Workplace.of(tmp_path, noise(100, 130))
    place.run()
    return place


def stored_labels(place: Workplace) -> np.ndarray:
    with rasterio.open(place.output / "scene0" / "labels.tif") as file:
        return file.read(1)


def draw(place: Workplace, name: str, *boxes: tuple[int, int, int, int], crs: str = UTM) -> str:
    """Boxes in pixels: left, top, right, bottom."""
    shapes = [shapely.box(WEST + left, NORTH - bottom, WEST + right, NORTH - top) for left, top, right, bottom in boxes]
    geopandas.GeoDataFrame({"class": ["class 1"] * len(boxes)}, geometry=shapes, crs=crs).to_file(place.folder / name)
    return str(place.folder / name)


def count_labelled(place: Workplace, given: LabelPolygons) -> int:
    return evaluate(place.output, given).scores.scored_px


def test_only_the_ground_within_is_scored(place: Workplace) -> None:
    """The footprints are two boxes in the upper left; the lower right was never looked at."""
    footprints = draw(place, "footprints.gpkg", (10, 10, 20, 20), (30, 30, 40, 40))
    surveyed = draw(place, "surveyed.geojson", (0, 0, 50, 60))
    whole = LabelPolygons(polygons=footprints, outside="class 0")
    assert count_labelled(place, whole) == 100 * 130
    assert count_labelled(place, LabelPolygons(polygons=footprints)) == 200
    within = evaluate(place.output, LabelPolygons(polygons=footprints, outside="class 0", within=surveyed))
    assert within.scores.scored_px == 50 * 60
    labels_HW = stored_labels(place)[:60, :50]
    truth_HW = np.zeros((60, 50), int)
    truth_HW[10:20, 10:20] = truth_HW[30:40, 30:40] = 1
    for number in (0, 1):
        hits = ((labels_HW == number) & (truth_HW == number)).sum()
        union = ((labels_HW == number) | (truth_HW == number)).sum()
        assert within.scores.iou[f"class {number}"] == pytest.approx(hits / union, abs=1e-5)
    assert within.scores.iou["class 2"] is None, "no reference pixel has it"
    known = [iou for iou in within.scores.iou.values() if iou is not None]
    assert within.scores.miou == pytest.approx(np.mean(known), abs=1e-5)
    assert within.notes == (f"only the ground within {surveyed} is scored, 23% of the scene",)


def test_the_hull_of_the_references_is_ground_of_their_own(place: Workplace) -> None:
    """The hull of two boxes on a diagonal is a hexagon: neither their bounds nor the boxes alone."""
    footprints = draw(place, "footprints.gpkg", (10, 10, 20, 20), (30, 30, 40, 40))
    hull = evaluate(place.output, LabelPolygons(polygons=footprints, outside="class 0", within="hull"))
    corners = [(10, 10), (20, 10), (40, 30), (40, 40), (30, 40), (10, 20)]
    assert hull.scores.scored_px == pytest.approx(shapely.Polygon(corners).area, abs=15)
    assert hull.notes == ("only the convex hull of the reference is scored, 4% of the scene",)


@pytest.mark.parametrize("chunk", [16, 144])
def test_a_run_scores_as_an_evaluation_does_whatever_its_chunks(place: Workplace, chunk: int) -> None:
    from tests.batchseg.engine.test_route import tiling

    footprints = draw(place, "footprints.gpkg", (10, 10, 20, 20), (30, 30, 40, 40))
    given = LabelPolygons(polygons=footprints, outside="class 0", within="hull")
    metrics = place.run(labels=(given,), tiling=tiling(chunk), output=str(place.folder / f"run{chunk}")).metrics
    assert metrics.scores == evaluate(place.output, given).scores
    assert metrics.scenes["scene0"].labels_note == "only the convex hull of the reference is scored, 4% of the scene"


def test_a_reference_that_may_end_before_the_scene_does_is_warned_of(
    place: Workplace, capsys: pytest.CaptureFixture[str]
) -> None:
    part = draw(place, "part.gpkg", (10, 10, 20, 20), (30, 30, 60, 70))
    whole = draw(place, "whole.gpkg", (0, 0, 10, 10), (120, 0, 130, 10), (0, 90, 10, 100), (115, 85, 130, 100))
    partial = LabelPolygons(polygons=part, outside="class 0")
    (note,) = evaluate(place.output, partial).notes
    assert re.search(r"part.gpkg reaches over \d+% of the scene, and all other ground counts as class 0", note)
    assert note in plan(place.recipe(labels=(partial,))).warnings
    assert evaluate(place.output, LabelPolygons(polygons=whole, outside="class 0")).notes == ()
    command = ["evaluate", str(place.output), "--labels", part, "--outside", "class 0"]
    assert batchseg(command) == 0
    assert f"note: {note}" in capsys.readouterr().out
    assert batchseg([*command, "--within", "hull"]) == 0
    text = capsys.readouterr().out
    assert "only the convex hull of the reference is scored" in text
    assert "without a reference pixel, and left out of the means: class 2, class 3" in text
    content = json.loads((place.output / "evaluation.json").read_text())
    assert content["labels"]["scene0"]["within"] == "hull"
    assert content["notes"] == ["only the convex hull of the reference is scored, 16% of the scene"]


def test_footprints_alone_are_said_to_give_a_recall(place: Workplace, capsys: pytest.CaptureFixture[str]) -> None:
    footprints = draw(place, "footprints.gpkg", (10, 10, 60, 70))
    assert batchseg(["evaluate", str(place.output), "--labels", footprints]) == 0
    text = capsys.readouterr().out
    assert "only class 1 has reference pixels, so its IoU is its recall" in text
    scores = evaluate(place.output, footprints).scores
    assert scores.iou["class 1"] == scores.recall["class 1"] == scores.miou


@pytest.mark.parametrize("where", ["beside", "other_crs", "within"])
def test_references_off_the_scene_are_refused(place: Workplace, where: str) -> None:
    on_scene, off_scene = (10, 10, 20, 20), (1000, 1000, 1020, 1020)
    if where == "within":
        given = LabelPolygons(polygons=draw(place, "on.gpkg", on_scene), within=draw(place, "off.gpkg", off_scene))
    elif where == "beside":
        given = LabelPolygons(polygons=draw(place, "off.gpkg", off_scene))
    else:
        given = LabelPolygons(polygons=draw(place, "off.gpkg", on_scene, crs="EPSG:32634"))
    for refuse in (lambda: evaluate(place.output, given), lambda: plan(place.recipe(labels=(given,)))):
        with pytest.raises(RecipeError, match=r"lies on the scene\. Check the file's coordinate system"):
            refuse()


def test_the_filter_of_the_advice_is_an_option(place: Workplace, capsys: pytest.CaptureFixture[str]) -> None:
    shapes = [shapely.box(WEST + 10, NORTH - 20, WEST + 20, NORTH - 10), shapely.box(WEST, NORTH - 9, WEST + 9, NORTH)]
    path = place.folder / "mixed.gpkg"
    geopandas.GeoDataFrame({"class": ["class 1", "tree"]}, geometry=shapes, crs=UTM).to_file(path)
    assert batchseg(["evaluate", str(place.output), "--labels", str(path)]) == 2
    assert "leave such polygons out with `where` (--where)" in capsys.readouterr().err.lower()
    assert batchseg(["evaluate", str(place.output), "--labels", str(path), "--where", "class <> 'tree'"]) == 0
    assert "100 px" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        batchseg(["adjust", "--help"])
    assert "--where SQL" in capsys.readouterr().out


def test_options_for_polygons_are_refused_with_a_raster(place: Workplace, capsys: pytest.CaptureFixture[str]) -> None:
    raster = write_scene(place.folder / "labels.tif", np.ones((1, 100, 130), np.uint8))
    assert batchseg(["evaluate", str(place.output), "--labels", raster, "--within", "hull"]) == 2
    assert "--within: this is for polygons, and the reference is a raster" in capsys.readouterr().err


@pytest.mark.skipif(shutil.which("gdalwarp") is None, reason="gdalwarp is not installed")
def test_the_command_that_brings_labels_onto_the_grid_works_as_it_stands(place: Workplace) -> None:
    """The labels have 2 m per pixel, cover the left half, and class 0 is one of them."""
    values = np.arange(50 * 32).reshape(1, 50, 32).astype(np.uint8) % 4
    transform = rasterio.Affine(2, 0, WEST, 0, -2, NORTH)
    labels = write_scene(place.folder / "coarse labels.tif", values, transform=transform)
    with pytest.raises(BatchsegError, match="must lie on the scene's grid") as refused:
        evaluate(place.output, labels)
    command = re.search(r"`(gdalwarp [^`]+)`", str(refused.value))
    assert command is not None
    subprocess.run(shlex.split(command[1]), cwd=place.folder, check=True, capture_output=True)
    scores = evaluate(place.output, str(place.folder / "on_grid.tif")).scores
    assert scores.scored_px == 100 * 64, "ground without labels is unlabelled, not class 0"
