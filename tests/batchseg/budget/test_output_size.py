"""What `plan` says of the output, against the folder of a finished run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from batchseg.budget import output_size
from batchseg.budget.output_size import TOLERANCE
from batchseg.errors import RecipeError
from batchseg.layers.layer import Layer
from batchseg.recipe import Models, NodataPolicy, Recipe, Tiling
from batchseg.resolve.resolve import resolve
from batchseg.runs.estimate import plan
from batchseg.runs.session import run
from batchseg.synth.scene import write_scene as write_synthetic_scene
from tests.runs import Workplace, noise, write_scene

IMAGERY = Path(__file__).parents[4] / "shared" / "data"
ALL = ("labels", "confidence", "tier")


def measure(output: Path) -> tuple[int, int]:
    """Bytes and number of the files of an output folder."""
    sizes = [path.stat().st_size for path in output.rglob("*") if path.is_file()]
    return sum(sizes), len(sizes)


@pytest.mark.parametrize(
    ("shapes", "tiling", "outputs"),
    [
        ([(300, 420)], Tiling(core=16, chunk=32), ALL),
        ([(70, 45), (33, 64)], Tiling(core=16, chunk=32), ALL),
        ([(300, 420)], Tiling(core=32, chunk=64), ("labels",)),
        ([(1500, 700)], Tiling(core=256, chunk=512), ("labels", "confidence")),
        ([(160, 208)], Tiling(core=16, chunk=32, sheet=64), ALL),
    ],
)
def test_the_number_of_files_is_exact_where_all_ground_is_valid(
    tmp_path: Path, shapes: list[tuple[int, int]], tiling: Tiling, outputs: tuple[str, ...]
) -> None:
    place = Workplace.of(tmp_path, *(noise(*shape) for shape in shapes))
    found = plan(place.recipe(tiling=tiling, outputs=outputs))
    place.run(tiling=tiling, outputs=outputs)
    assert found.num_objects == measure(place.output)[1]


def test_empty_ground_has_fewer_files(tmp_path: Path) -> None:
    pixels_BHW = noise(128, 128)
    pixels_BHW[:, :64] = 0
    place = Workplace(tmp_path, (write_scene(tmp_path / "scene.tif", pixels_BHW, nodata=0),))
    found = plan(place.recipe())
    place.run()
    assert 0.4 * found.num_objects < measure(place.output)[1] < found.num_objects


@pytest.mark.real
@pytest.mark.parametrize("kind", ["synthetic", "drone", "many small scenes"])
def test_the_size_is_within_its_tolerance(tmp_path: Path, kind: str) -> None:
    changes: dict[str, Any] = {"models": Models(bulk="zoo:aerial-bulk"), "bands": (1, 2, 3), "accept": ("gsd",)}
    if kind == "synthetic":
        write_synthetic_scene(tmp_path / "synthetic", size_px=1536, seed=3)
        scenes = (str(tmp_path / "synthetic" / "scene.tif"),)
        changes["models"] = Models(bulk="zoo:synthetic-bulk")
    elif not IMAGERY.exists():
        pytest.skip("the imagery is not here")
    elif kind == "drone":
        scenes = (str(IMAGERY / "buildings" / "zanzibar_south.tif"),)
    else:
        scenes = tuple(map(str, sorted((IMAGERY / "naip").glob("*.tif"))[:12]))
        changes["nodata"] = NodataPolicy(from_="none")
    recipe = Recipe(scenes=scenes, output=str(tmp_path / "out"), **changes)
    found = plan(recipe)
    assert run(recipe).exit_status == 0
    size_bytes, num_files = measure(tmp_path / "out")
    assert found.output_bytes / TOLERANCE < size_bytes < found.output_bytes * TOLERANCE
    assert num_files == found.num_objects


def test_the_assumption_says_what_the_size_rests_on(tmp_path: Path) -> None:
    found = plan(Workplace.of(tmp_path, noise(64, 64)).recipe(outputs=("labels", "confidence")))
    (text,) = (text for text in found.assumptions if text.startswith("output: "))
    assert text.startswith("output: bytes per pixel in both formats: labels 0.2, confidence 1.5; ")
    assert text.endswith("the real size is half to twice as much")


def test_an_area_of_interest_makes_the_output_smaller(tmp_path: Path) -> None:
    place = Workplace.of(tmp_path, noise(1024, 1024))
    box = [[500_000, 5_000_000], [500_100, 5_000_000], [500_100, 4_999_900], [500_000, 4_999_900], [500_000, 5_000_000]]
    crs = {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::32633"}}
    feature = {"type": "Feature", "properties": {}, "geometry": {"type": "Polygon", "coordinates": [box]}}
    (tmp_path / "aoi.geojson").write_text(json.dumps({"type": "FeatureCollection", "crs": crs, "features": [feature]}))
    tiling = Tiling(core=64, chunk=128)
    whole = resolve(place.recipe(tiling=tiling)).job
    part = resolve(place.recipe(tiling=tiling, aoi=str(tmp_path / "aoi.geojson"))).job
    (scene,) = part.scenes.values()
    assert output_size.measure_wanted_share(part, scene) == 1 / 64
    assert output_size.estimate_output_bytes(part) < output_size.estimate_output_bytes(whole) / 4


def test_a_layer_that_is_not_known_counts_like_its_kind() -> None:
    assert output_size.estimate_bytes_per_px(Layer(name="slope", dtype="uint8", nodata=255, kind="measure")) == 1.5


@pytest.mark.parametrize(("free_gb", "expected"), [(49, "refused"), (51, "warned"), (199, "warned"), (201, "silent")])
def test_a_disk_that_is_surely_too_small_is_refused_and_a_small_one_is_warned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free_gb: int, expected: str
) -> None:
    usage = type("Usage", (), {"free": int(free_gb * 1e9)})
    monkeypatch.setattr(output_size.shutil, "disk_usage", lambda _: usage)
    if expected == "refused":
        with pytest.raises(RecipeError, match=r"expected at most 49\.0 GB, got 50\.0 GB or more"):
            output_size.check_disk(int(100e9), tmp_path / "out")
        return
    warning = output_size.check_disk(int(100e9), tmp_path / "out")
    assert (warning is not None) == (expected == "warned")
    place = Workplace.of(tmp_path, noise(32, 32))
    monkeypatch.setattr("batchseg.runs.estimate.estimate_output_bytes", lambda _: int(100e9))
    assert plan(place.recipe()).warnings[-1:] == (() if warning is None else (warning,))
