"""Holes without a declared nodata value are warned of, with the line that declares them; ground is not."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import yaml
from rasterio.enums import ColorInterp

from batchseg.errors import ReadError
from batchseg.recipe import NodataPolicy, Recipe, load_recipe
from batchseg.resolve.nodata_warnings import find_nodata_warnings, format_policy
from batchseg.resolve.resolve import resolve
from batchseg.runs.estimate import plan
from batchseg.scene.source import RasterSource
from jobs.cli import main
from tests.jobs.command_line import alone, quick
from tests.runs import Workplace, noise, write_fake_bundle, write_scene

__all__ = ["alone", "quick"]
SIDE_PX = 512
RGBA = (ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha)
IMAGERY = Path(__file__).parents[4] / "shared" / "data"


def ground(dtype: str = "uint8", side_px: int = SIDE_PX) -> np.ndarray:
    return noise(side_px, side_px).astype(dtype)


def fill(pixels_BHW: np.ndarray, value: Any, *boxes: tuple[int, int, int, int]) -> np.ndarray:
    for top, bottom, left, right in boxes:
        pixels_BHW[:, top:bottom, left:right] = value
    return pixels_BHW


HOLE = (100, 200, 40, 140)
COLLAR = ((0, 12, 0, None), (-12, None, 0, None), (0, None, 0, 12), (0, None, -12, None))


def scatter(side_px: int, num: int) -> list[tuple[int, int, int, int]]:
    places = np.random.default_rng(1).choice(100, num, replace=False)
    tops_lefts = ((10 + place // 10 * 50, 10 + place % 10 * 50) for place in places)
    return [(top, top + side_px, left, left + side_px) for top, left in tops_lefts]


def make_recipe(folder: Path, *scenes: str, **changes: Any) -> Recipe:
    return Workplace(folder, scenes).recipe(**({"accept": ("dtype",)} | changes))


def find_warnings(recipe: Recipe) -> dict[str, str]:
    return find_nodata_warnings(resolve(recipe).job)


def parse_line(warning: str) -> NodataPolicy:
    """The policy of the line that a warning ends with, read like a line of a recipe."""
    line = warning.partition("add this line to the recipe: ")[2]
    values = yaml.safe_load(line)["nodata"]
    values["from_"] = values.pop("from")
    return NodataPolicy(**(values | {"also": tuple(values.pop("also", ()))}))


def paste(recipe: Recipe, warning: str, folder: Path) -> Recipe:
    """The recipe with the line in its file."""
    values = {"scenes": list(recipe.scenes), "output": str(folder / "out"), "models": {"bulk": recipe.models.bulk}}
    text = yaml.safe_dump(values | {"tiling": {"core": 16, "chunk": 32}, "accept": ["dtype"]})
    (folder / "pasted.yaml").write_text(text + warning.partition("add this line to the recipe: ")[2] + "\n")
    return load_recipe(folder / "pasted.yaml")


JPEG = {"compress": "JPEG", "tiled": True, "interleave": "pixel", "photometric": "YCBCR"}


def make_lake(pixels_BHW: np.ndarray) -> np.ndarray:
    """A lake that is clipped to zero, whose shore rises slowly."""
    rows, cols = np.mgrid[:SIDE_PX, :SIDE_PX]
    depth = np.hypot(rows - 250, cols - 250) - 90
    return np.clip(np.where(depth < 40, depth / 4, pixels_BHW), 0, 255).astype(np.uint8)


def make_fields() -> np.ndarray:
    """Ground that JPEG can store: squares of one colour with a little noise."""
    squares = noise(SIDE_PX // 16, SIDE_PX // 16).repeat(16, 1).repeat(16, 2).astype(int) // 2 + 60
    return (squares + noise(SIDE_PX, SIDE_PX) % 5).astype(np.uint8)


UNDECLARED = {
    "collar in a JPEG": (fill(make_fields(), 0, (0, None, 0, 30)), JPEG, "{from: value, value: 0}"),
    "hole in a JPEG": (fill(make_fields(), 255, HOLE), JPEG, "{from: value, value: 255}"),
    "collar beside a clipped lake": (fill(make_lake(ground()), 0, *COLLAR), {}, "{from: value, value: 0}"),
    "white hole": (fill(ground(), 255, HOLE), {}, "{from: value, value: 255}"),
    "black collar": (fill(ground(), 0, *COLLAR), {}, "{from: value, value: 0}"),
    "one corner": (fill(ground(), 0, (400, None, 400, None)), {}, "{from: value, value: 0}"),
    "scattered holes": (fill(ground(), 255, *scatter(34, 3)), {}, "{from: value, value: 255}"),
    "many small holes": (fill(ground(), 255, *scatter(20, 7)), {}, "{from: value, value: 255}"),
    "two values": (fill(fill(ground(), 255, HOLE), 0, *COLLAR), {}, "{from: auto, also: [0, 255]}"),
    "another declared value": (fill(fill(ground(), 255, HOLE), 0, *COLLAR), {"nodata": 0}, "{from: auto, also: [255]}"),
    "uint16": (fill(ground("uint16"), 65535, HOLE), {}, "{from: value, value: 65535}"),
    "int16": (fill(ground("int16"), -9999, HOLE), {}, "{from: value, value: -9999}"),
    "int16 lowest": (fill(ground("int16"), -32768, HOLE), {}, "{from: value, value: -32768}"),
    "float32": (fill(ground("float32"), -9999, HOLE), {}, "{from: value, value: -9999}"),
    "float32 lowest": (
        fill(ground("float32"), np.finfo("float32").min, HOLE),
        {},
        "{from: value, value: -3.4028234663852886e+38}",
    ),
    "float32 1e20": (fill(ground("float32"), 1e20, HOLE), {}, "{from: value, value: 1.00000002004087734e+20}"),
    "nearly all": (fill(ground(), 0, (0, 500, 0, None)), {}, "{from: value, value: 0}"),
    "all": (fill(ground(), 0, (0, None, 0, None)), {}, "{from: value, value: 0}"),
}


@pytest.mark.parametrize("name", UNDECLARED)
def test_undeclared_nodata_is_warned_of_and_the_line_declares_it(tmp_path: Path, name: str) -> None:
    pixels_BHW, profile, line = UNDECLARED[name]
    scene = write_scene(tmp_path / "scene.tif", pixels_BHW, **profile)
    recipe = make_recipe(tmp_path, scene)
    (warning,) = find_warnings(recipe).values()
    expected = parse_line(f"add this line to the recipe: nodata: {line}")
    assert parse_line(warning) == expected, warning
    again = paste(recipe, warning, tmp_path)
    assert again.nodata == expected
    assert find_warnings(again) == {}
    (job,) = resolve(again).job.scenes.values()
    pixels = RasterSource(job.raster, job.bands, job.nodata_policy).read_once(job.zarr.stored_grid.window(0, 0))
    extremes = {0, 255, 65535, -9999, -32768, float(np.finfo("float32").min), float(np.float32(1e20))}
    held_HW = np.logical_or.reduce([(pixels.raw_BHW == value).all(axis=0) for value in extremes])
    assert not pixels.valid_HW[held_HW].any()


def make_roofs() -> np.ndarray:
    return fill(fill(ground(), 255, *scatter(22, 4)), 255, *scatter(12, 30)[4:])


def make_snow() -> np.ndarray:
    return np.random.default_rng(0).integers(250, 256, (3, SIDE_PX, SIDE_PX)).astype(np.uint8)


GROUND = {
    "noise": (ground(), {}),
    "saturated roofs": (make_roofs(), {}),
    "a large roof": (fill(ground(), 255, (100, 130, 100, 160)), {}),
    "snow": (make_snow(), {}),
    "bright, even, not extreme": (fill(ground(), 254, HOLE), {}),
    "dark, even, not extreme": (fill(ground(), 1, HOLE), {}),
    "white in two bands": (np.stack([*fill(ground(), 255, HOLE)[:2], ground()[2]]), {}),
    "clipped lake": (make_lake(ground()), {}),
    "declared": (fill(ground(), 255, HOLE), {"nodata": 255}),
    "NaN": (fill(ground("float32"), np.nan, HOLE), {}),
    "infinite": (fill(ground("float32"), np.inf, HOLE), {}),
    "twelve bits in sixteen": (fill(ground("uint16"), 4095, HOLE), {}),
}


@pytest.mark.parametrize("name", GROUND)
def test_ground_is_not_warned_of(tmp_path: Path, name: str) -> None:
    pixels_BHW, profile = GROUND[name]
    scene = write_scene(tmp_path / "scene.tif", pixels_BHW, **profile)
    assert find_warnings(make_recipe(tmp_path, scene)) == {}


def write_with_alpha(path: Path, alpha_HW: np.ndarray) -> str:
    pixels_BHW = np.concatenate([fill(ground(), 255, HOLE), alpha_HW[np.newaxis]])
    write_scene(path, pixels_BHW)
    with rasterio.open(path, "r+") as file:
        file.colorinterp = RGBA
        file.set_band_description(4, "alpha")
    return str(path)


def test_holes_that_alpha_or_a_mask_hides_are_declared(tmp_path: Path) -> None:
    opaque_HW = np.full((SIDE_PX, SIDE_PX), 255, np.uint8)
    seen_HW = fill(opaque_HW[np.newaxis].copy(), 0, HOLE)[0]
    assert find_warnings(make_recipe(tmp_path, write_with_alpha(tmp_path / "hidden.tif", seen_HW))) == {}
    recipe = make_recipe(tmp_path, write_with_alpha(tmp_path / "shown.tif", opaque_HW))
    (warning,) = find_warnings(recipe).values()
    assert parse_line(warning) == NodataPolicy(also=(255.0,)), "alpha counts as before"
    assert find_warnings(paste(recipe, warning, tmp_path)) == {}
    masked = write_scene(tmp_path / "masked.tif", fill(ground(), 255, HOLE))
    with rasterio.open(masked, "r+") as file:
        file.write_mask(seen_HW)
    assert find_warnings(make_recipe(tmp_path, masked)) == {}


def test_bands_of_different_types_have_different_extremes(tmp_path: Path) -> None:
    first = write_scene(tmp_path / "first.tif", fill(ground()[:1], 255, HOLE))
    second = write_scene(tmp_path / "second.tif", fill(ground("uint16")[:2], 65535, HOLE))
    bands = ((first, 1, "Byte"), (second, 1, "UInt16"), (second, 2, "UInt16"))
    text = "".join(
        f'<VRTRasterBand dataType="{kind}" band="{number}"><SimpleSource><SourceFilename>{file}</SourceFilename>'
        f"<SourceBand>{band}</SourceBand></SimpleSource></VRTRasterBand>"
        for number, (file, band, kind) in enumerate(bands, start=1)
    )
    scene = tmp_path / "scene.vrt"
    scene.write_text(f'<VRTDataset rasterXSize="{SIDE_PX}" rasterYSize="{SIDE_PX}">{text}</VRTDataset>')
    recipe = make_recipe(tmp_path, str(scene), bands=(1, 2, 3))
    (warning,) = find_warnings(recipe).values()
    assert "hold 255, 65535, 65535 in the bands" in warning
    assert parse_line(warning) == NodataPolicy(from_="value", value=65535.0, rule="any")
    assert find_warnings(replace(recipe, nodata=parse_line(warning))) == {}


def test_one_line_serves_all_scenes_of_a_recipe(tmp_path: Path) -> None:
    scenes = (
        write_scene(tmp_path / "white.tif", fill(ground(), 255, HOLE)),
        write_scene(tmp_path / "black.tif", fill(ground(), 0, HOLE)),
        write_scene(tmp_path / "good.tif", ground()),
    )
    recipe = make_recipe(tmp_path, *scenes)
    warnings = find_warnings(recipe)
    assert list(warnings) == ["white", "black"]
    assert {parse_line(warning) for warning in warnings.values()} == {NodataPolicy(also=(0.0, 255.0))}
    assert find_warnings(replace(recipe, nodata=NodataPolicy(also=(0.0, 255.0)))) == {}


def test_ground_outside_of_the_area_of_interest_does_not_matter(tmp_path: Path) -> None:
    aoi = tmp_path / "aoi.geojson"
    box = [[500_300, 5_000_000], [500_500, 5_000_000], [500_500, 4_999_600], [500_300, 4_999_600]]
    geometry = {"type": "Polygon", "coordinates": [[*box, box[0]]]}
    crs = {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::32633"}}
    scene = write_scene(tmp_path / "scene.tif", fill(ground(), 255, HOLE))
    features = [{"type": "Feature", "properties": {}, "geometry": geometry}]
    aoi.write_text(json.dumps({"type": "FeatureCollection", "crs": crs, "features": features}))
    assert find_warnings(make_recipe(tmp_path, scene)) != {}
    assert find_warnings(make_recipe(tmp_path, scene, aoi=str(aoi))) == {}


def test_a_scene_that_cannot_be_read_is_not_warned_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = make_recipe(tmp_path, write_scene(tmp_path / "scene.tif", fill(ground(), 255, HOLE)))

    def fail(*_: Any) -> None:
        raise ReadError("the raster could not be read")

    monkeypatch.setattr(RasterSource, "read_once", fail)
    assert find_warnings(recipe) == {}


def test_few_of_many_scenes_are_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scene = write_scene(tmp_path / "scene.tif", fill(ground(), 255, HOLE))
    job = resolve(make_recipe(tmp_path, scene)).job
    (only,) = job.scenes.values()
    scenes = {f"s{i}": replace(only, name=f"s{i}") for i in range(200)}
    assert len(find_nodata_warnings(replace(job, scenes=scenes))) == 64
    remote = {
        name: replace(one, raster=replace(one.raster, url="https://nowhere/x.tif")) for name, one in scenes.items()
    }
    read: list[str] = []
    monkeypatch.setattr(
        "batchseg.resolve.nodata_warnings.read_pixel_sample", lambda source, _: read.append(source.raster.url) or fail()
    )

    def fail() -> None:
        raise ReadError("the raster could not be read")

    assert find_nodata_warnings(replace(job, scenes=remote)) == {}
    assert len(read) == 8


def test_plan_run_log_summary_and_report_say_it(
    tmp_path: Path, quick: None, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = make_recipe(tmp_path, write_scene(tmp_path / "scene.tif", fill(ground(side_px=32), 255, (0, 20, 0, 20))))
    (warning,) = find_warnings(recipe).values()
    assert plan(recipe).warnings == (warning,)
    paste(recipe, "", tmp_path)
    path = str(tmp_path / "pasted.yaml")
    assert main(["plan", path]) == 0
    assert f"warning    {warning}\n" in capsys.readouterr().out
    assert main(["run", path]) == 0
    told = capsys.readouterr()
    assert told.err.count(warning) == 1
    assert told.out.count(warning) == 1


def test_real_imagery(tmp_path: Path) -> None:
    if not IMAGERY.exists():
        pytest.skip("the imagery is not here")
    bundle = write_fake_bundle(tmp_path / "bundle")
    scenes = {"buildings/banepa_full": True, "dubai/scene_7": False, "dubai/scene_3": False, "dubai/scene_6": False}
    for name, is_holed in scenes.items():
        recipe = Workplace(tmp_path, (str(IMAGERY / f"{name}.tif"),)).recipe(bands=(1, 2, 3))
        warnings = find_warnings(replace(recipe, models=replace(recipe.models, bulk=bundle)))
        assert len(warnings) == is_holed, (name, warnings)


def test_numbers_are_read_back_as_they_were_written() -> None:
    for value in (0.0, -9999.0, 0.1, 1e20, -3.4028234663852886e38, 1e-7, 65535.0):
        policy = NodataPolicy(from_="value", value=value, also=(value,))
        assert parse_line(f"add this line to the recipe: {format_policy(policy)}") == policy
