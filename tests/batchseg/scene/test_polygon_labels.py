"""Reference labels as polygons: the same scores as a raster of the same polygons, and clear errors."""

from __future__ import annotations

from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import geopandas
import numpy as np
import pytest
import shapely
from rasterio.features import rasterize
from rasterio.transform import Affine

from batchseg.errors import RecipeError
from batchseg.recipe import LabelPolygons
from batchseg.reports.evaluate import evaluate
from batchseg.scene.header import read_header
from batchseg.scene.polygon_labels import find_class, read_polygon_labels
from batchseg.scene.polygons import read_layer_marks, read_layer_polygons
from batchseg.scene.vectors import open_layer
from jobs.cli import main as batchseg
from tests.batchseg.engine.test_route import tiling
from tests.runs import UTM, Workplace, noise, write_scene
from tiling.span import Window

SHAPES = [shapely.box(10.3, 5.2, 60.1, 70.7), shapely.Point(90, 50).buffer(33.3), shapely.box(70, 80, 125.5, 99)]
NAMES = ["class 1", "CLASS 3", "class 1"]


@pytest.fixture
def place(tmp_path: Path) -> Workplace:
    return Workplace.of(tmp_path, noise(100, 130))


def drawn(place: Workplace, values: list[Any], name: str = "labels.gpkg", **changes: Any) -> str:
    """The shapes in degrees, which is not the scene's system."""
    on_earth = [shapely.affinity.affine_transform(s, [1, 0, 0, -1, 500_000, 5_000_000]) for s in SHAPES]
    frame = geopandas.GeoDataFrame({"kind": values, **changes}, geometry=on_earth, crs=UTM).to_crs("EPSG:4326")
    frame.to_file(place.folder / name)
    return str(place.folder / name)


def as_raster(place: Workplace, ids: list[int], outside: int = 255) -> str:
    """Pixels of two classes at once are unlabelled."""
    values_HW = np.full((100, 130), outside, np.uint8)
    layers = {}
    for shape, class_id in zip(SHAPES, ids, strict=True):
        inside_HW = rasterize([shape], (100, 130), transform=Affine.identity()) == 1
        layers[class_id] = layers.get(class_id, False) | inside_HW
    for class_id, inside_HW in layers.items():
        values_HW[inside_HW] = class_id
    values_HW[sum(inside_HW.astype(int) for inside_HW in layers.values()) > 1] = 255
    return write_scene(place.folder / f"labels{outside}.tif", values_HW[None])


@pytest.mark.filterwarnings("ignore:.*identity")
@pytest.mark.parametrize("outside", [None, "class 0"])
@pytest.mark.parametrize("chunk", [16, 144])
def test_polygons_score_like_a_raster_of_them(place: Workplace, chunk: int, outside: str | None) -> None:
    raster = as_raster(place, [1, 3, 1], 255 if outside is None else 0)
    given = LabelPolygons(polygons=drawn(place, NAMES), class_="kind", outside=outside)
    during = place.run(labels=(given,), tiling=tiling(chunk)).metrics
    known = place.run(labels=(raster,), tiling=tiling(chunk), output=str(place.folder / "known")).metrics
    assert during.scores == known.scores
    assert during.scores.scored_px > 0
    assert evaluate(place.output, given).scores == known.scores


def test_ids_as_numbers_and_a_bare_file_name(place: Workplace) -> None:
    names = place.run(labels=(LabelPolygons(polygons=drawn(place, NAMES), class_="kind"),)).metrics
    by_id = drawn(place, ["", "", ""], "ids.geojson", **{"class": [1, 3, 1]})
    assert place.run(labels=(by_id,)).metrics.scores.confusion == names.scores.confusion
    text = drawn(place, ["1", "3", "class 1"], "texts.gpkg")
    again = place.run(labels=(LabelPolygons(polygons=text, class_="kind"),)).metrics
    assert again.scores.confusion == names.scores.confusion


MARKS = [((4.5, 7.5), "class 1"), ((99.99, 50.01), "class 3"), ((0.01, 0.01), "class 1"), ((-3.0, 4.0), "class 1")]
TWICE = [((20.2, 30.2), "class 1"), ((20.8, 30.9), "class 3"), ((60.1, 30.9), "class 2"), ((60.9, 30.1), "class 2")]


def points(place: Workplace, marks: list[tuple[tuple[float, float], str]], *, beside: bool = False) -> str:
    """Points in degrees, the third of them a multipoint; optionally with a polygon, a square of four pixels."""
    shapes = [shapely.Point(500_000 + x, 5_000_000 - y) for (x, y), _ in marks]
    shapes[2] = shapely.MultiPoint([shapes[2]])
    shapes += [shapely.box(500_070, 4_999_948, 500_072, 4_999_950)] if beside else []
    kinds = [kind for _, kind in marks] + ["class 3"] * beside
    frame = geopandas.GeoDataFrame({"class": kinds}, geometry=shapes, crs=UTM).to_crs("EPSG:4326")
    frame.to_file(place.folder / "points.gpkg", mode="w")
    return str(place.folder / "points.gpkg")


@pytest.mark.parametrize("beside", [False, True])
def test_points_mark_the_pixels_that_they_are_in(place: Workplace, beside: bool) -> None:
    georef = read_header(place.scenes[0]).grid
    made = read_polygon_labels(
        LabelPolygons(polygons=points(place, [*MARKS, *TWICE], beside=beside)),
        georef=georef,
        classes={number: f"class {number}" for number in range(4)},
    )
    labels_HW, known_HW = made.read(Window.of(0, 100, 0, 130))
    expected = {(7, 4): 1, (50, 99): 3, (0, 0): 1, (30, 60): 2}
    expected |= dict.fromkeys([(50, 70), (50, 71), (51, 70), (51, 71)], 3) if beside else {}
    found = {(int(row), int(col)): int(labels_HW[row, col]) for row, col in zip(*known_HW.nonzero(), strict=True)}
    assert found == expected, "neither the point beyond the rim nor the pixel that has two classes"


def test_self_crossing_polygons_enclose_the_same_ground_as_labels_and_as_priority(place: Workplace) -> None:
    """Overlapping parts could be read as holes or as ground; both uses read them alike."""
    outer, inner = (
        shapely.box(500_010, 4_999_940, 500_030, 4_999_960),
        shapely.box(500_015, 4_999_945, 500_020, 4_999_950),
    )
    geopandas.GeoDataFrame(geometry=[shapely.MultiPolygon([outer, inner])], crs=UTM).to_file(place.folder / "x.gpkg")
    georef = read_header(place.scenes[0]).grid
    with open_layer(str(place.folder / "x.gpkg")) as layer:
        assert read_layer_marks(layer, where=None, georef=georef) == read_layer_polygons(
            layer, where=None, georef=georef
        )


def test_a_run_is_scored_at_points(place: Workplace, capsys: pytest.CaptureFixture[str]) -> None:
    during = place.run(labels=(points(place, [*MARKS, *TWICE]),)).metrics
    assert during.scores.scored_px == 4
    assert batchseg(["evaluate", str(place.output), "--labels", str(place.folder / "points.gpkg")]) == 0
    assert "over 4 px" in capsys.readouterr().out


def test_lines_are_refused_as_labels(place: Workplace) -> None:
    line = shapely.LineString([(500_010, 4_999_990), (500_020, 4_999_980)])
    frame = geopandas.GeoDataFrame(
        {"class": ["class 1", "class 1"]}, geometry=[line, shapely.Point(500_001, 4_999_999)], crs=UTM
    )
    frame.to_file(place.folder / "lines.gpkg")
    with pytest.raises(RecipeError, match=r"only polygons enclose ground; got 1 of 1 are LineString"):
        place.run(labels=(str(place.folder / "lines.gpkg"),))


def test_one_class_for_all_polygons_that_pass(place: Workplace) -> None:
    given = LabelPolygons(polygons=drawn(place, ["a", "b", "a"]), all_="class 2", where="kind = 'a'", outside=4)
    rows = np.array(place.run(labels=(given,)).metrics.scores.confusion).sum(1)
    assert rows[2] > 0
    assert rows[[0, 1, 3]].sum() == 0
    assert rows.sum() == 100 * 130


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, "the file has no attribute `class`, which should hold the class of each polygon; got the attributes kind"),
        (
            {"class_": "kind"},
            r"labels\.gpkg: kind: the class must be one of the models' classes; expected 0 class 0, .* got 'barn'",
        ),
        ({"all_": "barn"}, "labels.gpkg: all: the class must be one of"),
        ({"all_": 1, "outside": 7}, "labels.gpkg: outside: the class must be one of .* got 7"),
        ({"all_": 1, "where": "nothing = 1"}, "the attribute filter cannot be used"),
        ({"polygons": "nowhere.gpkg"}, "nowhere.gpkg: no such file"),
    ],
)
def test_invalid_options_are_refused(place: Workplace, changes: dict[str, Any], message: str) -> None:
    given = LabelPolygons(**({"polygons": drawn(place, ["class 1", "barn", "class 1"])} | changes))
    with pytest.raises(RecipeError, match=message):
        place.run(labels=(given,))
    assert not place.output.exists()


@pytest.mark.parametrize("text", ["²", "--1", "1" * 5000, "٣", "-", "1e2"])
def test_texts_that_look_like_ids_are_names(text: str) -> None:
    with pytest.raises(RecipeError, match="the class must be one of"):
        find_class(text, {1: "land", 3: "water"}, "labels: class")


def test_a_polygon_without_a_class_is_refused(place: Workplace) -> None:
    with pytest.raises(RecipeError, match=r"the class must be one of the models' classes; .* got None"):
        place.run(labels=(LabelPolygons(polygons=drawn(place, ["class 1", None, "class 1"]), class_="kind"),))


def test_evaluate_takes_polygons(place: Workplace, capsys: pytest.CaptureFixture[str]) -> None:
    place.run()
    path = drawn(place, NAMES)
    assert batchseg(["evaluate", str(place.output), "--labels", path, "--class", "kind", "--outside", "class 0"]) == 0
    assert "over 0.01 Mpx" in capsys.readouterr().out
    assert batchseg(["evaluate", str(place.output), "--labels", path]) == 2
    assert "has no attribute" in capsys.readouterr().err


def test_a_remote_file_is_fetched_once_for_all_classes(place: Workplace) -> None:
    drawn(place, NAMES)
    asked: list[str] = []

    class Listing(SimpleHTTPRequestHandler):
        def log_message(self, _format: str, *args: Any) -> None:
            asked.append(str(args[0]).split(" HTTP", maxsplit=1)[0])

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Listing, directory=str(place.folder))) as server:
        Thread(target=server.serve_forever).start()
        url = f"http://127.0.0.1:{server.server_address[1]}/labels.gpkg"
        georef = read_header(place.scenes[0]).grid
        made = read_polygon_labels(
            LabelPolygons(polygons=url, class_="kind"), georef=georef, classes={1: "class 1", 3: "class 3"}
        )
        server.shutdown()
    assert [class_id for class_id, _ in made.classes] == [1, 3]
    assert asked == ["GET /labels.gpkg"]
