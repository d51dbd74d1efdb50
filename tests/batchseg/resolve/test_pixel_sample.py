"""The sample of pixels that undeclared nodata is looked for in: small, spread over the scene, and bounded."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import rasterio
from rasterio.enums import Resampling

from batchseg.recipe import NodataPolicy
from batchseg.resolve.nodata_warnings import find_nodata_warnings
from batchseg.resolve.resolve import resolve
from batchseg.scene import pixel_sample
from batchseg.scene.source import RasterSource
from tests.batchseg.resolve.test_nodata_warnings import fill, find_warnings, ground, make_recipe, parse_line
from tests.runs import write_scene


@pytest.fixture
def small_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    """Samples so small that a scene of some megapixels counts as large."""
    monkeypatch.setattr(pixel_sample, "SAMPLE_PX", 400_000)


@pytest.mark.parametrize("options", [{"tiled": True, "blockxsize": 256, "blockysize": 256}, {"blockysize": 8}])
@pytest.mark.usefixtures("small_samples")
def test_a_large_scene_is_sampled(tmp_path: Path, options: dict[str, Any]) -> None:
    side_px = 2048
    hole = (900, 900 + side_px // 10, 300, 300 + side_px // 10)
    scene = write_scene(tmp_path / "scene.tif", fill(ground(side_px=side_px), 255, hole), **options)
    (raster,) = (job.raster for job in resolve(make_recipe(tmp_path, scene)).job.scenes.values())
    sample = pixel_sample.read_pixel_sample(RasterSource(raster, (1, 2, 3), NodataPolicy()), None)
    assert len(sample.parts) == pixel_sample.GRID_LOCAL**2
    assert sum(part.valid_HW.size for part in sample.parts) <= 400_000
    assert len(find_warnings(make_recipe(tmp_path, scene))) == 1
    write_scene(tmp_path / "scene.tif", ground(side_px=side_px), **options)
    assert find_warnings(make_recipe(tmp_path, scene)) == {}


@pytest.mark.parametrize("resampling", [Resampling.nearest, Resampling.average, Resampling.cubic])
@pytest.mark.usefixtures("small_samples")
def test_an_overview_shows_holes_between_the_windows(tmp_path: Path, resampling: Resampling) -> None:
    side_px = 2048
    scene = write_scene(tmp_path / "scene.tif", fill(ground(side_px=side_px), 255, (900, 1000, 250, 350)))
    with rasterio.open(scene, "r+") as file:
        file.build_overviews([2, 4, 8], resampling)
    recipe = make_recipe(tmp_path, scene)
    (raster,) = (job.raster for job in resolve(recipe).job.scenes.values())
    assert pixel_sample.read_pixel_sample(RasterSource(raster, (1, 2, 3), NodataPolicy()), None).scale == 4
    (warning,) = find_warnings(recipe).values()
    assert parse_line(warning) == NodataPolicy(from_="value", value=255.0)
    assert find_warnings(replace(recipe, nodata=parse_line(warning))) == {}


@pytest.mark.usefixtures("small_samples")
def test_a_look_ends_when_it_takes_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scene = write_scene(tmp_path / "scene.tif", fill(ground(side_px=2048), 255, (0, 2048, 0, 2048)))
    job = resolve(make_recipe(tmp_path, scene)).job
    monkeypatch.setattr(pixel_sample, "MAX_READ_S", -1.0)
    (only,) = job.scenes.values()
    sample = pixel_sample.read_pixel_sample(RasterSource(only.raster, (1, 2, 3), NodataPolicy()), None)
    assert len(sample.parts) == 1
    monkeypatch.setattr("batchseg.resolve.nodata_warnings.MAX_LOOK_S", -1.0)
    scenes = {f"s{i}": replace(only, name=f"s{i}") for i in range(5)}
    assert list(find_nodata_warnings(replace(job, scenes=scenes))) == ["s0"]
