"""Whole runs over hard scenes: each ends with all its valid ground labelled, and each label saw its own pixel."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray
from rasterio.control import GroundControlPoint
from rasterio.enums import ColorInterp

from batchseg.classes import ClassInfo
from batchseg.recipe import Models, NodataPolicy, Tiling
from batchseg.recipe.recipe import Halo
from batchseg.runs.session import run
from tests.batchseg.runs.hard_scenes import (
    CONSTANT,
    VALUES,
    alone,
    check_books,
    check_rasters,
    check_values,
    expected_valid,
    opened,
    place_of,
    pool_of,
)
from tests.batchseg.scene.scene_rasters import UTM, noise, write
from tests.fakes import ConstantSegmenter
from tests.runs import write_fake_bundle

__all__ = ["alone"]
HARD = Path(__file__).parents[4] / "shared" / "data" / "hard_inputs"
FILES = sorted(HARD.rglob("*.tif"))
HUGE = ("cog_world", "S2A_MSIL2A", "cog_cmap", "nodata-row", "nan")
WIDE_PX = 5_000
NOWHERE = {"rotated", "test_rpcs", "cog_hirise_mars", "grey_upsidedown", "test3_with_1mask_1bit"}
"""Scenes without a place on the Earth: no coordinates, only a sensor model, or another planet."""

pytestmark = pytest.mark.timeout(300)


def test_every_kind_of_hard_input_is_here() -> None:
    assert not HARD.exists() or len(FILES) == 30


@pytest.mark.skipif(not FILES, reason=f"the hard inputs are not at {HARD}")
@pytest.mark.parametrize(
    "scene",
    [
        pytest.param(path, marks=[pytest.mark.real] if path.name.startswith(HUGE) else [], id=path.stem[:30])
        for path in FILES
    ],
)
def test_real_scene(scene: Path, tmp_path: Path) -> None:
    with opened(scene) as dataset:
        wide = max(dataset.shape) > WIDE_PX
    tiling = Tiling(core=512, chunk=4096 if wide else 512, halo=Halo())
    layers = ("labels",) if wide else ("labels", "confidence", "tier")
    place = place_of(tmp_path, scene, tiling=tiling, outputs=layers, scale=(0.0, 255.0))
    outcome = run(place.recipe(), open_pool=CONSTANT)
    valid_HW, lost = expected_valid(scene, tiling, halo_px=8)
    (name,) = outcome.metrics.scenes
    check_rasters(scene, place.output / name, valid_HW, layers)
    check_books(outcome, valid_HW, lost)
    block = outcome.metrics.scenes[name]
    nowhere = scene.stem in NOWHERE
    assert (block.area_km2 is None) is nowhere
    assert (block.area_note is None) is not nowhere
    assert (outcome.metrics.cost_usd_per_km2 is None) is (nowhere or not valid_HW.any())


def as_values(raw_HW: NDArray[Any], low: float, high: float) -> NDArray[np.float64]:
    """What a recipe with `scale: [low, high]` gives a model that knows 0 to 254; not rounded yet."""
    return np.clip((raw_HW.astype(np.float64) - low) * 254 / (high - low), 0, 254)


GRID = UTM["transform"]
FORMS: dict[str, tuple[int, int, dict[str, Any]]] = {
    "one pixel": (1, 1, {}),
    "one row": (1, 77, {}),
    "one column": (77, 1, {}),
    "south up": (40, 50, {"transform": rasterio.Affine(10, 0, 500_000, 0, 10, 5_000_000)}),
    "rotated": (40, 50, {"transform": GRID @ rasterio.Affine.rotation(30)}),
    "ground control points": (
        45,
        37,
        {
            "crs": None,
            "transform": None,
            "gcps": (
                [GroundControlPoint(r, c, 15 + c / 1000, 45 - r / 1000, 0.0) for r, c in ((0, 0), (0, 37), (45, 3))],
                rasterio.crs.CRS.from_epsg(4326),
            ),
        },
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_scene_of_any_form(form: str, tmp_path: Path) -> None:
    height, width, facts = FORMS[form]
    pixels_BHW = noise(3, height, width)
    profile = {key: value for key, value in {**UTM, **facts}.items() if value is not None}
    scene = write(tmp_path / "scene.tif", pixels_BHW, **profile)
    place = place_of(tmp_path, scene)
    outcome = run(place.recipe(), open_pool=VALUES)
    check_values(place, pixels_BHW[0].astype(float), np.ones((height, width), bool))
    check_books(outcome, np.ones((height, width), bool), set())
    if "gcps" not in facts:
        # A pixel of 100 m² stays one, however it is turned; UTM is narrowed by 0.9996 in its middle.
        assert outcome.metrics.area_km2 == pytest.approx(height * width * 1e-4 / 0.9996**2, rel=1e-4)


def test_sixteen_bits_by_name_and_scale(tmp_path: Path) -> None:
    """Band order from names, raw range from the recipe; what lies beyond the range is clipped, never wrapped."""
    pixels_BHW = np.random.default_rng(1).integers(0, 14_000, (4, 70, 61)).astype(np.uint16)
    pixels_BHW[3, :5] = 65_535
    scene = write(tmp_path / "scene.tif", pixels_BHW, names=("nir", "blue", "green", "red"), **UTM)
    place = place_of(tmp_path, scene, bands=None, scale=(500.0, 10_000.0), accept=())
    assert run(place.recipe(), open_pool=VALUES).exit_status == 0
    check_values(place, as_values(pixels_BHW[3], 500, 10_000), np.ones((70, 61), bool))


def test_the_nir_of_four_bands_is_never_taken_for_alpha(tmp_path: Path) -> None:
    pixels_BHW = noise(4, 40, 40, low=0)
    pixels_BHW[3, :, :20] = 0
    colours = (ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha)
    names = ("red", "green", "blue", "near infrared")
    scene = write(tmp_path / "scene.tif", pixels_BHW, names=names, colours=colours, **UTM)
    place = place_of(tmp_path, scene, bands=None, accept=())
    assert run(place.recipe(), open_pool=VALUES).exit_status == 0
    check_values(place, pixels_BHW[0].astype(float), np.ones((40, 40), bool))


def test_float_with_nan_and_infinities(tmp_path: Path) -> None:
    pixels_BHW = np.random.default_rng(2).uniform(-0.1, 1.1, (3, 50, 45)).astype(np.float32)
    pixels_BHW[0, 3:9, 10:30] = np.nan
    pixels_BHW[0, 20, 20] = np.inf
    scene = write(tmp_path / "scene.tif", pixels_BHW, **UTM)
    place = place_of(tmp_path, scene, scale=(0.0, 1.0))
    assert run(place.recipe(), open_pool=VALUES).exit_status == 0
    with np.errstate(invalid="ignore"):
        check_values(place, as_values(pixels_BHW[0], 0, 1), np.isfinite(pixels_BHW[0]))


@pytest.mark.parametrize(
    ("dtype", "nodata", "scale"), [("int8", -128, (-100.0, 100.0)), ("int16", -9999, (-300.0, 9_000.0))]
)
def test_signed_values(dtype: str, nodata: int, scale: tuple[float, float], tmp_path: Path) -> None:
    info = np.iinfo(dtype)
    pixels_BHW = np.random.default_rng(3).integers(info.min, info.max, (3, 45, 50), endpoint=True).astype(dtype)
    pixels_BHW[:, 5:20, 7:33] = nodata
    scene = write(tmp_path / "scene.tif", pixels_BHW, nodata=nodata, **UTM)
    place = place_of(tmp_path, scene, scale=scale)
    assert run(place.recipe(), open_pool=VALUES).exit_status == 0
    check_values(place, as_values(pixels_BHW[0], *scale), pixels_BHW[0] != nodata)


@pytest.mark.parametrize("kind", ["alpha", "mask", "any"])
def test_ways_to_say_invalid(kind: str, tmp_path: Path) -> None:
    pixels_BHW = noise(4 if kind == "alpha" else 3, 50, 60)
    valid_HW = np.random.default_rng(4).random((50, 60)) > 0.3
    valid_HW[:33, :33] = False
    changes: dict[str, Any] = {"bands": (1, 2, 3)}
    if kind == "alpha":
        pixels_BHW[3] = np.where(valid_HW, 255, 0)
        colours = (ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha)
        scene = write(tmp_path / "scene.tif", pixels_BHW, colours=colours, **UTM)
    elif kind == "mask":
        options = {"GDAL_TIFF_INTERNAL_MASK": True}
        scene = write(tmp_path / "scene.tif", pixels_BHW, mask_HW=valid_HW, options=options, **UTM)
    else:
        pixels_BHW[1][~valid_HW] = 200
        scene = write(tmp_path / "scene.tif", pixels_BHW, **UTM)
        changes["nodata"] = NodataPolicy(from_="value", value=200.0, rule="any")
    place = place_of(tmp_path, scene, **changes)
    outcome = run(place.recipe(), open_pool=VALUES)
    check_values(place, pixels_BHW[0].astype(float), valid_HW)
    check_books(outcome, valid_HW, set())
    assert outcome.metrics.area_km2 == pytest.approx(valid_HW.sum() * 1e-4 / 0.9996**2, rel=1e-4)


def test_class_codes_past_a_byte_take_sixteen_bits(tmp_path: Path) -> None:
    ids = [i for i in range(100, 301) if i != 255]
    classes = tuple(ClassInfo(id=i, name=f"class {i}", rgb=(i % 256, 0, 0)) for i in ids)
    pixels_BHW = noise(3, 50, 45, "uint8")
    pixels_BHW[:, :20, :20] = 0
    scene = write(tmp_path / "scene.tif", pixels_BHW, nodata=0, **UTM)
    bundle = write_fake_bundle(tmp_path / "many", classes=classes)
    last = pool_of(lambda: ConstantSegmenter(label=len(ids) - 1))
    place = place_of(tmp_path, scene, models=Models(bulk=bundle))
    outcome = run(place.recipe(), open_pool=last)
    with opened(place.output / "scene" / "labels.tif") as made:
        assert (made.dtypes[0], made.nodata) == ("uint16", 65_535)
        labels_HW = made.read(1)
    assert set(np.unique(labels_HW)) == {300, 65_535}
    np.testing.assert_array_equal(labels_HW == 65_535, pixels_BHW[0] == 0)
    assert outcome.metrics.class_px["class 300"] == outcome.metrics.valid_px == 50 * 45 - 400
