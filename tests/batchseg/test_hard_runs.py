"""Whole runs over hard scenes: each ends with all its valid ground labelled, or says which ground is missing.

What is valid is found here by rasterio alone. Two models tell much: one says the same everywhere, so that a label
stands exactly where a pixel is valid; the other gives its input back, so that a label tells which pixel it saw.
"""

from __future__ import annotations

import errno
import json
import shutil
import warnings
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pytest
import rasterio
import shapely
from numpy.typing import NDArray
from pyarrow import parquet
from rasterio.control import GroundControlPoint
from rasterio.enums import ColorInterp
from rasterio.errors import NotGeoreferencedWarning, RasterioIOError
from rasterio.warp import transform_geom
from rasterio.windows import Window as GdalWindow

from batchseg.engine.segment import Model, Segmenter
from batchseg.engine.tiers import Tier
from batchseg.errors import BusyError, InputError
from batchseg.ledger.ledger import Ledger
from batchseg.model.contract import ClassInfo
from batchseg.recipe import Fleet, Models, NodataSpec, Tiling
from batchseg.recipe.recipe import Halo
from batchseg.runs import driver, session
from batchseg.runs.drive import Stop
from batchseg.runs.job import Job
from batchseg.runs.place import chunks_in_box
from batchseg.runs.pool import DEPTH, LocalPool, Pool
from batchseg.runs.resolve import resolve
from batchseg.runs.session import Options, Outcome, run
from batchseg.runs.worker import Worker, WorkerSpec
from batchseg.store import LocalStore
from tests.batchseg.scene_rasters import UTM, noise, write
from tests.fakes import ConstantSegmenter, CountingStore, ReachSegmenter
from tests.runs import Workplace, product_bytes, write_fake_bundle

HARD = Path(__file__).parents[3] / "shared" / "data" / "hard_inputs"
FILES = sorted(HARD.rglob("*.tif"))
HUGE = ("cog_world", "S2A_MSIL2A", "cog_cmap", "nodata-row", "nan")
WIDE_PX = 5_000
NOWHERE = {"rotated", "test_rpcs", "cog_hirise_mars", "grey_upsidedown", "test3_with_1mask_1bit"}
"""Scenes without a place on the Earth: no coordinates, only a sensor model, or another planet."""

BYTES = tuple(ClassInfo(id=i, name=f"value {i}", rgb=(i, i, i)) for i in range(255))
"""A class for each value that a byte can hold beside nodata."""

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody else claims these folders, so no run has to wait and see."""
    monkeypatch.setattr(driver, "SETTLE_S", 0.0)


def pool_of(segmenter: Callable[[], Segmenter]) -> Callable[[Job, LocalStore, Fleet], Pool]:
    """One worker whose tiers all use this model."""

    def models(job: Job, _: WorkerSpec) -> tuple[dict[Tier, Model], dict[str, str]]:
        dtype = next(iter(job.scenes.values())).mask.layer("labels").dtype
        ids = np.array([c.id for c in job.classes], dtype)
        return {tier: Model(segmenter(), m.halo_px, ids) for tier, m in job.models.items()}, {"model": "fake"}

    def open_pool(job: Job, store: LocalStore, fleet: Fleet) -> Pool:
        spec = WorkerSpec.new(pool=fleet.pools[0].name, device="cpu", usd_per_hour=1.0)
        return LocalPool(lambda: Worker(spec, job, store, models).open(), depth=DEPTH)

    return open_pool


CONSTANT, VALUES = pool_of(ConstantSegmenter), pool_of(ReachSegmenter)


def place_of(folder: Path, *scenes: Path, **changes: Any) -> Workplace:
    bundle = write_fake_bundle(folder / "bytes", classes=BYTES, range=(0.0, 254.0))
    values = {"models": Models(bulk=bundle), "bands": (1, 1, 1), "accept": ("gsd", "dtype")}
    return Workplace(folder, tuple(map(str, scenes)), values | changes)


@contextmanager
def opened(path: Path) -> Any:
    """A scene without a place is no surprise here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path) as dataset:
            yield dataset


def placement(dataset: Any) -> dict[str, Any]:
    """All that says where a raster lies, but for its coordinate system."""
    points, points_crs = dataset.gcps
    return {
        "size": (dataset.width, dataset.height),
        "transform": dataset.transform,
        "gcps": [(p.row, p.col, p.x, p.y, p.z or 0.0) for p in points],
        "gcps_crs": points_crs if points else None,
        "rpcs": dataset.rpcs.to_dict() if dataset.rpcs else None,
    }


def valid_of(dataset: Any, window: GdalWindow | None = None) -> NDArray[np.bool_]:
    """What is valid of band 1 by rasterio's own logic."""
    valid_HW = dataset.read_masks(1, window=window) > 0
    if dataset.dtypes[0].startswith("float"):
        valid_HW &= np.isfinite(dataset.read(1, window=window))
    return valid_HW


def readable(dataset: Any, window: GdalWindow) -> bool:
    try:
        dataset.read(window=window)
        dataset.read_masks(window=window)
    except RasterioIOError:
        return False
    return True


def expected_valid(scene: Path, tiling: Tiling, *, halo_px: int) -> tuple[NDArray[np.bool_], set[str]]:
    """Valid pixels of all chunks that can be read with their halo, and the names of those that cannot."""
    with opened(scene) as dataset:
        whole = GdalWindow(0, 0, dataset.width, dataset.height)
        if readable(dataset, whole):
            return valid_of(dataset), set()
        valid_HW, lost = np.zeros(dataset.shape, bool), set()
        for row in range(-(-dataset.height // tiling.chunk)):
            for col in range(-(-dataset.width // tiling.chunk)):
                top, left, side = row * tiling.chunk, col * tiling.chunk, tiling.chunk
                core = GdalWindow(left, top, side, side).intersection(whole)
                grown = GdalWindow(left - halo_px, top - halo_px, side + 2 * halo_px, side + 2 * halo_px)
                if readable(dataset, grown.intersection(whole)):
                    valid_HW[core.toslices()] = valid_of(dataset, core)
                else:
                    lost.add(f"{scene.stem}/{row}_{col}")
        return valid_HW, lost


def product(folder: Path, layer: str) -> Path:
    """A layer as an analyst opens it: one file, or the mosaic of a scene that is cut into sheets."""
    whole = folder / f"{layer}.tif"
    return whole if whole.exists() else folder / f"{layer}.vrt"


def check_rasters(scene: Path, folder: Path, valid_HW: NDArray[np.bool_], layers: tuple[str, ...]) -> None:
    """Every layer lies where the scene lies, and holds data exactly where the scene does."""
    with opened(scene) as dataset:
        wanted, crs = placement(dataset), dataset.crs
    for layer in layers:
        with opened(product(folder, layer)) as made:
            assert placement(made) == wanted
            # GeoTIFF spells out defaults of some systems that have no number.
            assert made.crs == crs or made.crs.to_proj4() == crs.to_proj4()
            for top in range(0, made.height, 2048):  # the largest has 648 million pixels
                stripe = GdalWindow(0, top, made.width, min(2048, made.height - top))
                labelled_HW = made.read(1, window=stripe) != made.nodata
                np.testing.assert_array_equal(labelled_HW, valid_HW[stripe.toslices()], err_msg=layer)


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
    (name,) = outcome.metrics["scenes"]
    check_rasters(scene, place.output / name, valid_HW, layers)
    check_books(outcome, valid_HW, lost)
    block = outcome.metrics["scenes"][name]
    nowhere = scene.stem in NOWHERE
    assert (block["area_km2"] is None) is nowhere
    assert (block["area_note"] is None) is not nowhere
    assert (outcome.metrics["cost_usd_per_km2"] is None) is (nowhere or not valid_HW.any())


def check_books(outcome: Outcome, valid_HW: NDArray[np.bool_], lost: set[str]) -> None:
    """Status, reports and ledger tell the same story as the pixels."""
    metrics = outcome.metrics
    assert outcome.exit_status == (3 if lost else 0)
    assert metrics["valid_px"] == int(valid_HW.sum())
    assert set(metrics["quarantined"]) == lost
    assert metrics["chunks"]["failed"] == len(lost)
    assert metrics["chunks"]["not_run"] == 0
    sheets = list(Ledger(LocalStore(outcome.output)).sheets())
    assert sheets
    assert {str(key) for sheet in sheets for key in sheet.missing} == lost
    told = json.loads((outcome.output / "run" / "exit.json").read_text())
    assert told["exit_status"] == outcome.exit_status
    table = geopandas.read_parquet(outcome.output / "ledger.parquet")
    assert set(table.kind) <= {"done", "empty", "failed"}
    assert int((table.kind == "failed").sum()) == len(lost)
    if metrics["scenes"][table.scene[0]]["area_note"] is None:
        assert not table.geometry.is_empty.any()
        assert not table.geometry.isna().any(), "ground is missing from the map of the ledger"


def as_values(raw_HW: NDArray[Any], low: float, high: float) -> NDArray[np.float64]:
    """What a recipe with `scale: [low, high]` gives a model that knows 0 to 254; not rounded yet."""
    return np.clip((raw_HW.astype(np.float64) - low) * 254 / (high - low), 0, 254)


def check_values(place: Workplace, exact_HW: NDArray[np.float64], valid_HW: NDArray[np.bool_]) -> None:
    """Each label is the rounded input of its pixel. A half may go either way: the engine counts in float32."""
    (scene,) = place.scenes
    check_rasters(Path(scene), place.output / Path(scene).stem, valid_HW, ("labels", "confidence", "tier"))
    with opened(place.output / Path(scene).stem / "labels.tif") as made:
        labels_HW = made.read(1).astype(np.float64)
    assert np.abs(labels_HW - exact_HW)[valid_HW].max() <= 0.5 + 1e-3


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
        assert outcome.metrics["area_km2"] == pytest.approx(height * width * 1e-4 / 0.9996**2, rel=1e-4)


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
        changes["nodata"] = NodataSpec(from_="value", value=200.0, rule="any")
    place = place_of(tmp_path, scene, **changes)
    outcome = run(place.recipe(), open_pool=VALUES)
    check_values(place, pixels_BHW[0].astype(float), valid_HW)
    check_books(outcome, valid_HW, set())
    assert outcome.metrics["area_km2"] == pytest.approx(valid_HW.sum() * 1e-4 / 0.9996**2, rel=1e-4)


def cut(scene: Path, share: float) -> Path:
    content = scene.read_bytes()
    scene.write_bytes(content[: int(len(content) * share)])
    return scene


def test_i7_a_file_cut_short_loses_its_missing_chunks_and_nothing_else(tmp_path: Path) -> None:
    blocks = {"tiled": True, "blockxsize": 16, "blockysize": 16, **UTM}
    pixels = [noise(3, 100, 90 + i) for i in range(3)]
    scenes = [write(tmp_path / f"scene{i}.tif", p, **blocks) for i, p in enumerate(pixels)]
    cut(scenes[1], 0.6)
    place = place_of(tmp_path, *scenes)
    outcome = run(place.recipe(), open_pool=VALUES)
    valid_HW, lost = expected_valid(scenes[1], place.recipe().tiling, halo_px=8)
    assert 0 < len(lost) < 12
    assert outcome.exit_status == 3
    assert set(outcome.metrics["quarantined"]) == lost
    for story in outcome.metrics["quarantined"].values():
        assert len(story) == 3
        assert all("scene1.tif, rows " in line and "\n" not in line for line in story)
    check_rasters(scenes[1], place.output / "scene1", valid_HW, ("labels", "confidence", "tier"))
    alone = replace(
        place, scenes=(str(scenes[0]), str(scenes[2])), changes=place.changes | {"output": str(tmp_path / "o")}
    )
    assert run(alone.recipe(), open_pool=VALUES).exit_status == 0
    whole = product_bytes(place.output)
    assert {key: digest for key, digest in whole.items() if "scene1/" not in key} == product_bytes(tmp_path / "o")
    table = geopandas.read_parquet(place.output / "ledger.parquet")
    failed = table[table.kind == "failed"]
    assert {f"{r.scene}/{r.row}_{r.col}" for r in failed.itertuples()} == lost
    # The last rows of the file are gone, so the middle of the last row lies in what the map calls missing.
    assert failed.to_crs(UTM["crs"]).contains(shapely.Point(500_455, 4_999_005)).sum() == 1


def test_i7_a_mended_file_is_another_scene(tmp_path: Path) -> None:
    """What was given up is not filled from a file that has changed since; the run says so before it writes."""
    scene = write(tmp_path / "scene.tif", noise(3, 70, 70), tiled=True, blockxsize=16, blockysize=16, **UTM)
    whole = shutil.copy(scene, tmp_path / "whole.tif")
    place = place_of(tmp_path, cut(scene, 0.6))
    assert run(place.recipe(), open_pool=VALUES).exit_status == 3
    assert run(place.recipe(), open_pool=VALUES, options=Options(retry_quarantined=True)).exit_status == 3
    shutil.copy(whole, scene)
    with pytest.raises(InputError, match=r"another recipe; different: scenes\.scene\.identity\.mtime_ns"):
        run(place.recipe(), open_pool=VALUES, options=Options(retry_quarantined=True))


def test_i6_a_scene_without_a_valid_pixel(tmp_path: Path) -> None:
    scene = write(tmp_path / "scene.tif", np.zeros((3, 70, 50), np.uint8), nodata=0, **UTM)
    place = place_of(tmp_path, scene)
    outcome = run(place.recipe(), open_pool=CONSTANT)
    records = list(Ledger(LocalStore(place.output)).records())
    assert [(record.kind, record.objects, record.measured.area_km2) for record in records] == [("empty", (), 0.0)] * 6
    assert outcome.metrics["chunks"] == {"done": 0, "empty": 6, "failed": 0, "not_run": 0}
    assert (outcome.metrics["area_km2"], outcome.metrics["cost_usd_per_km2"]) == (0.0, None)
    assert outcome.metrics["mean_confidence"] is None
    check_rasters(scene, place.output / "scene", np.zeros((70, 50), bool), ("labels", "confidence", "tier"))
    check_books(outcome, np.zeros((70, 50), bool), set())


def polygon_file(path: Path, shape: Any, crs: str) -> str:
    """In longitudes and latitudes, as GeoJSON always is."""
    geometry = transform_geom(crs, "EPSG:4326", shape.__geo_interface__)
    feature = {"type": "Feature", "properties": {}, "geometry": geometry}
    path.write_text(json.dumps({"type": "FeatureCollection", "features": [feature]}))
    return str(path)


def test_ground_outside_of_the_area_of_interest_is_nodata(tmp_path: Path) -> None:
    pixels_BHW = noise(3, 100, 90)
    scene = write(tmp_path / "scene.tif", pixels_BHW, **UTM)
    # Columns 20 to 50 and rows 30 to 45, borders half a pixel away from pixel centres.
    aoi = polygon_file(tmp_path / "aoi.geojson", shapely.box(500_200, 4_999_550, 500_500, 4_999_700), "EPSG:32633")
    place = place_of(tmp_path, scene, aoi=aoi)
    outcome = run(place.recipe(), open_pool=VALUES)
    inside_HW = np.zeros((100, 90), bool)
    inside_HW[30:45, 20:50] = True
    check_values(place, pixels_BHW[0].astype(float), inside_HW)
    check_books(outcome, inside_HW, set())
    # Cores of 16 px: rows 1 and 2, columns 1 to 3.
    assert outcome.metrics["tiles"] == {"bulk": 6, "heavy": 0, "skipped": 7 * 6 - 6}
    assert outcome.metrics["chunks"] == {"done": 4, "empty": 8, "failed": 0, "not_run": 0}


def test_an_area_of_interest_that_misses_the_scene(tmp_path: Path) -> None:
    scene = write(tmp_path / "scene.tif", noise(3, 40, 40), **UTM)
    aoi = polygon_file(tmp_path / "aoi.geojson", shapely.box(0, 0, 1000, 1000), "EPSG:32633")
    outcome = run(place_of(tmp_path, scene, aoi=aoi).recipe(), open_pool=VALUES)
    assert outcome.exit_status == 0
    assert outcome.metrics["chunks"] == {"done": 0, "empty": 4, "failed": 0, "not_run": 0}


def test_scenes_of_several_coordinate_systems(tmp_path: Path) -> None:
    """Each on its own grid; the ground adds up, and is unknown as a whole when one scene is nowhere."""
    grids = {
        "utm": UTM,
        "degrees": {"crs": "EPSG:4326", "transform": rasterio.Affine(1e-4, 0, 15.0, 0, -1e-4, 45.0)},
        "web": {"crs": "EPSG:3857", "transform": rasterio.Affine(10, 0, 1_670_000, 0, -10, 5_621_000)},
    }
    pixels_BHW = noise(3, 40, 50)
    scenes = [write(tmp_path / f"{name}.tif", pixels_BHW, **grid) for name, grid in grids.items()]
    place = place_of(tmp_path, *scenes)
    outcome = run(place.recipe(), open_pool=VALUES)
    areas = {name: block["area_km2"] for name, block in outcome.metrics["scenes"].items()}
    assert outcome.metrics["area_km2"] == pytest.approx(sum(areas.values()), abs=1e-8)
    # 1e-4 degrees: 11.11 m by 7.88 m at 45 degrees; map pixels of 10 m: near cos(45 degrees) of it each way.
    assert areas == pytest.approx({"utm": 0.20016, "degrees": 0.1752, "web": 0.1000}, rel=2e-3)
    for scene in scenes:
        check_rasters(scene, place.output / scene.stem, np.ones((40, 50), bool), ("labels", "confidence", "tier"))
    nowhere = write(tmp_path / "nowhere.tif", pixels_BHW)
    both = place_of(tmp_path, scenes[0], nowhere, output=str(tmp_path / "both"))
    metrics = run(both.recipe(), open_pool=VALUES).metrics
    assert (metrics["area_km2"], metrics["scenes"]["utm"]["area_km2"]) == (None, pytest.approx(0.20016, rel=2e-3))


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
    assert outcome.metrics["class_px"]["class 300"] == outcome.metrics["valid_px"] == 50 * 45 - 400


@dataclass(slots=True)
class BadSectors(CountingStore):
    """Cannot write objects whose names end like this."""

    ending: str = ""

    def put(self, key: str, content: bytes) -> None:
        self._fail(key)
        self.inner.put(key, content)

    def put_file(self, key: str, path: Path) -> None:
        self._fail(key)
        self.inner.put_file(key, path)

    def _fail(self, key: str) -> None:
        if key.endswith(self.ending):
            raise OSError(errno.EIO, "Input/output error", key)


@pytest.mark.parametrize(
    ("ending", "task", "kind"),
    [("labels/1.1", "scene/1_1", "failed"), ("scene/confidence.tif", "scene/sheet_0_0", "failed sheet")],
)
def test_i7_what_cannot_be_written_is_given_up_and_can_be_tried_again(
    ending: str, task: str, kind: str, tmp_path: Path
) -> None:
    scene = write(tmp_path / "scene.tif", noise(3, 70, 50), **UTM)
    place = place_of(tmp_path, scene)
    bad: Any = BadSectors(LocalStore(place.output), ending=ending)
    outcome = run(place.recipe(), open_pool=VALUES, store=bad)
    assert outcome.exit_status == 3
    assert list(outcome.metrics["quarantined"]) == [task]
    assert all("Input/output error" in line for line in outcome.metrics["quarantined"][task])
    table = geopandas.read_parquet(place.output / "ledger.parquet")
    (failed,) = table[table.kind.str.startswith("failed")].itertuples()
    assert failed.kind == kind
    assert failed.geometry.area > 0
    types = parquet.read_schema(place.output / "ledger.parquet").remove_metadata()
    assert run(place.recipe(), open_pool=VALUES, options=Options(retry_quarantined=True)).exit_status == 0
    other = replace(place, changes=place.changes | {"output": str(tmp_path / "other")})
    run(other.recipe(), open_pool=VALUES)
    assert product_bytes(place.output) == product_bytes(tmp_path / "other")
    assert parquet.read_schema(tmp_path / "other" / "ledger.parquet").remove_metadata() == types


def test_a_run_that_is_stopped_before_its_first_chunk(tmp_path: Path) -> None:
    place = place_of(tmp_path, write(tmp_path / "scene.tif", noise(3, 40, 40), **UTM))
    stop = Stop(why="SIGINT", exit_status=130)
    outcome = run(place.recipe(), open_pool=VALUES, options=Options(stop=stop))
    assert outcome.exit_status == 130
    assert outcome.metrics["chunks"] == {"done": 0, "empty": 0, "failed": 0, "not_run": 4}
    assert len(geopandas.read_parquet(place.output / "ledger.parquet")) == 0
    assert run(place.recipe(), open_pool=VALUES).exit_status == 0


@dataclass(slots=True)
class Watch:
    """Does something when a task has been committed."""

    then: Callable[[Any], None]

    def event(self, kind: str, **facts: Any) -> None:
        pass

    def committed(self, record: Any) -> None:
        self.then(record)

    def tick(self) -> None:
        pass


def test_a_stop_at_the_very_end_has_stopped_nothing(tmp_path: Path) -> None:
    place = place_of(tmp_path, write(tmp_path / "scene.tif", noise(3, 40, 40), **UTM))
    stop = Stop()

    def ask(record: Any) -> None:
        if "sheet" in str(record.key):
            stop.request("SIGTERM", 143)

    outcome = run(place.recipe(), open_pool=VALUES, options=Options(stop=stop, watchers=(Watch(ask),)))
    assert (outcome.exit_status, outcome.why) == (0, "complete")


def test_what_a_killed_worker_left_unfinished_is_gone_at_the_end(tmp_path: Path) -> None:
    place = place_of(tmp_path, write(tmp_path / "scene.tif", noise(3, 40, 40), **UTM))

    def leave(_: Any) -> None:
        (place.output / "scene" / "mask.zarr" / "labels" / ".unfinished-0123").write_bytes(b"half of")

    assert run(place.recipe(), open_pool=VALUES, options=Options(watchers=(Watch(leave),))).exit_status == 0
    assert not list(place.output.rglob(".unfinished-*"))
    assert not list((place.output / "run" / "scratch").iterdir())


def test_a_driver_that_was_replaced_stops_in_the_middle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may have stood still for an hour; two drivers must not go on beside each other."""
    monkeypatch.setattr(session, "BEAT_S", 0.02)
    place = place_of(tmp_path, write(tmp_path / "scene.tif", noise(3, 400, 400), **UTM))
    key = place.output / "run" / "driver.json"

    def replace_driver(_: Any) -> None:
        LocalStore(place.output).put(
            "run/driver.json", json.dumps(json.loads(key.read_text()) | {"name": "x"}).encode()
        )

    with pytest.raises(BusyError, match="another driver has taken this run over"):
        run(place.recipe(), open_pool=VALUES, options=Options(watchers=(Watch(replace_driver),)))
    assert len(list(Ledger(LocalStore(place.output)).records())) < 13 * 13
    assert json.loads(key.read_text())["name"] == "x"


def test_boxes_across_the_antimeridian_and_around_the_pole(tmp_path: Path) -> None:
    degrees = {"crs": "EPSG:4326", "transform": rasterio.Affine(0.01, 0, 179.5, 0, -0.01, 1.0)}
    fiji = write(tmp_path / "fiji.tif", noise(3, 32, 96), **degrees)
    arctic = {"crs": "EPSG:3995", "transform": rasterio.Affine(100, 0, -1600, 0, -100, 1600)}
    pole = write(tmp_path / "pole.tif", noise(3, 32, 32), **arctic)
    job = resolve(place_of(tmp_path, fiji, pole).recipe()).job

    def found(*bbox: float) -> set[str]:
        return {str(key) for key in chunks_in_box(job, bbox)}

    # Columns 32 to 64 lie over the antimeridian: 179.82 to 180.14.
    assert found(179.6, 0.8, 179.7, 0.9) == {"fiji/0_0"}
    assert found(179.9, 0.8, 180.1, 0.9) == {"fiji/0_1"}
    assert found(-179.9, 0.8, -179.88, 0.9) == {"fiji/0_1"}
    assert found(-179.8, 0.8, -179.7, 0.9) == {"fiji/0_2"}
    for lon in (-170, -80, 10, 100):
        assert found(lon, 89.995, lon + 1, 89.999) == {"pole/0_0"}
