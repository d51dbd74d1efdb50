"""Real rasters that are odd, damaged or badly described. Each is read right, or refused with one clear line."""

from __future__ import annotations

import logging
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from rasterio.errors import NotGeoreferencedWarning, RasterioIOError

from batchseg.errors import ReadError, SceneError
from batchseg.recipe import NodataPolicy
from batchseg.scene.area import measure_gsd_m, measure_valid_area_km2
from batchseg.scene.bands import BandWanted, choose_bands
from batchseg.scene.empty import EmptyIndex
from batchseg.scene.header import SceneHeader, read_header
from batchseg.scene.nodata import resolve_policy
from batchseg.scene.place import explain_missing_area
from batchseg.scene.polygons import find_touched_tiles, read_polygons
from batchseg.scene.raster_file import RasterFile
from batchseg.scene.source import make_gdal_window, open_source
from tiling.grid import Grid
from tiling.span import Window

DATA = Path(__file__).parents[4] / "shared" / "data"
HARD = DATA / "hard_inputs"
AUTO = NodataPolicy(from_="auto")
RGB = tuple(BandWanted(name=name, common=name) for name in ("red", "green", "blue"))
WINDOW_PX = 512

pytestmark = pytest.mark.skipif(not HARD.exists(), reason=f"the hard inputs are not at {HARD}")


@dataclass(frozen=True)
class Case:
    """What is expected of one file."""

    path: str
    valid_from: str
    rgb: str
    """Bands found for a model of red, green and blue; empty: refused."""
    gsd_m: float | None
    reason: str = ""
    """Why there is no area."""
    fails: bool = False
    """Whether some window cannot be read."""


NOWHERE = "the scene has no coordinate system"
CASES = [
    Case("DeepForest/5b90f92da0d7280005fab355_4310.tif", "none", "123", 0.0968),
    Case("DeepForest/OSBS_029.tif", "value", "123", 0.1),
    Case("MapServer/grey_upsidedown.tif", "none", "", None, NOWHERE),
    Case("MapServer/nan.tif", "value", "", 100.0),
    Case("MapServer/test3_with_1mask_1bit.tif", "mask", "123", None, "the scene is not georeferenced"),
    Case("MapServer/tileSG-000-019_3-3.tif", "value", "", 250.8),
    Case("MapServer/utm_4326_spec_char_øæöüç.tif", "none", "", 60.6),
    Case(
        "OmniCloudMask/S2A_MSIL2A_20170725T142751_N9999_R053_T19GBQ_20240410T040247_expected_output.tif",
        "mask",
        "",
        10.0,
    ),
    Case("ftw-baselines/inference-img.tif", "none", "", 10.0),
    Case("geo-inference/SpaceNet_AOI_2_Las_Vegas-056155973080_01_P001-WV03-B.tif", "none", "", 0.272),
    Case("geo-inference/SpaceNet_AOI_2_Las_Vegas-056155973080_01_P001-WV03-G.tif", "none", "", 0.272),
    Case("geo-inference/SpaceNet_AOI_2_Las_Vegas-056155973080_01_P001-WV03-R.tif", "none", "", 0.272),
    Case("geotrellis/nodata-row.tif", "value", "", 0.594),
    Case("orthoseg/BEFL-TEST-s2_2023-05-01_2023-07-01_B08-B04-B03_min_byte.tif", "none", "123", 10.0),
    Case("rasterio/RGB.byte.tif", "value", "123", 299.9),
    Case("rasterio/RGBA.uint16.tif", "alpha", "321", 1.379),
    Case("rasterio/all-nodata.tif", "value", "321", 3.0),
    Case("rasterio/cogeo.tif", "mask", "123", 0.472),
    Case("rasterio/corrupt.tif", "mask", "123", 0.472, fails=True),
    Case("rasterio/rotated.tif", "none", "", None, NOWHERE),
    Case("rasterio/test_esri_wkt.tif", "none", "", 10.0),
    Case("rasterio/world.byte.tif", "none", "", 13868),
    Case("rio-tiler/201404_13SED190110_201404_0x1500m_CL_1_mask.tif", "mask", "123", 0.15),
    Case("rio-tiler/cog_cmap.tif", "value", "", 0.916),
    Case("rio-tiler/cog_gcps.tif", "none", "", 201.8),
    Case("rio-tiler/cog_hirise_mars.tif", "none", "123", None, "the scene is not on the Earth (MARS_localRadius)"),
    Case("rio-tiler/cog_scale.tif", "value", "", 429.0),
    Case("rio-tiler/cog_world.tif", "value", "", 1109.5),
    Case(
        "rioxarray/test_rpcs.tif",
        "value",
        "",
        None,
        "the scene is placed by a sensor model (RPCs) only; orthorectify it first",
    ),
    Case("solaris/sample_geotiff_custom_proj.tif", "value", "", 30.0),
]


@pytest.fixture(params=CASES, ids=lambda case: case.path.rpartition("/")[2][:40])
def case(request: pytest.FixtureRequest) -> Case:
    found: Case = request.param
    return found


def header_of(case: Case) -> SceneHeader:
    return read_header(str(HARD / case.path))


def windows(raster: RasterFile) -> list[Window]:
    """The first and the last."""
    rows, cols = raster.shape_px
    return [
        Window.of(0, min(WINDOW_PX, rows), 0, min(WINDOW_PX, cols)),
        Window.of(max(0, rows - WINDOW_PX), rows, max(0, cols - WINDOW_PX), cols),
    ]


def test_every_raster_has_its_case() -> None:
    assert sorted(case.path for case in CASES) == sorted(str(path.relative_to(HARD)) for path in HARD.rglob("*.tif"))


def directly(raster: RasterFile, window: Window) -> tuple[np.ndarray, np.ndarray]:
    """Band 1 and its valid pixels, by rasterio's own logic."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.Env(), rasterio.open(raster.url) as dataset:
            box = make_gdal_window(window)
            return dataset.read(1, window=box), dataset.read_masks(1, window=box) > 0


def test_read_right_or_refused(case: Case, caplog: pytest.LogCaptureFixture) -> None:
    raster = header_of(case).raster
    source = open_source(raster, (1, 1, 1), AUTO)
    failed = 0
    for window in windows(raster):
        try:
            pixels = source.read(window)
        except ReadError as error:
            failed += 1
            check_failure(raster, window, str(error))
            continue
        raw_HW, valid_HW = directly(raster, window)
        # Where nothing is valid nobody asks for values: a mask or a sparse file's index may have told that already.
        for band_HW in pixels.raw_BHW if valid_HW.any() else ():
            np.testing.assert_array_equal(band_HW, raw_HW)
        np.testing.assert_array_equal(pixels.valid_HW, valid_HW)
    assert bool(failed) is case.fails
    assert case.fails or not [record for record in caplog.records if record.levelno >= logging.WARNING]


def check_failure(raster: RasterFile, window: Window, message: str) -> None:
    assert message.startswith(f"{raster.url}, rows ")
    assert "\n" not in message
    with pytest.raises(RasterioIOError):
        directly(raster, window)


def test_where_validity_comes_from(case: Case) -> None:
    assert resolve_policy(header_of(case).raster, AUTO, (1, 1, 1)).kind == case.valid_from


def test_bands(case: Case) -> None:
    raster = header_of(case).raster
    if case.rgb:
        assert choose_bands(raster, RGB, None) == tuple(map(int, case.rgb))
    else:
        with pytest.raises(SceneError, match=r"the scene names no band as the model's red.*`bands: \["):
            choose_bands(raster, RGB, None)
    assert choose_bands(raster, RGB, (1, 1, 1)) == (1, 1, 1)


def test_area(case: Case) -> None:
    header = header_of(case)
    assert explain_missing_area(header.grid) == (case.reason or None)
    ground_m = measure_gsd_m(header.grid)
    first = windows(header.raster)[0]
    area_km2 = measure_valid_area_km2(header.grid, first, np.ones(first.shape, bool))
    if case.gsd_m is None:
        assert ground_m is None
        assert area_km2 is None
    else:
        assert ground_m == pytest.approx(case.gsd_m, rel=5e-3)
        assert area_km2 is not None
        # Pixels differ over a scene: fewfold in a map of the world, little elsewhere.
        assert area_km2 == pytest.approx(first.num_px * ground_m**2 / 1e6, rel=1.0)


def test_never_called_empty_with_a_valid_pixel(case: Case) -> None:
    header = header_of(case)
    for window in windows(header.raster)[: 1 if case.fails else 2]:
        if EmptyIndex(header.raster, (1,), AUTO).is_surely_empty(window):
            assert not open_source(header.raster, (1,), AUTO).read(window).valid_HW.any()


def test_what_is_odd_about_some() -> None:
    def header(path: str) -> SceneHeader:
        return read_header(str(HARD / path))

    nan = header("MapServer/nan.tif").raster
    assert nan.nodata is not None
    assert np.isnan(nan.nodata)
    assert EmptyIndex(nan, (1, 1, 1), AUTO).is_surely_empty(Window.of(0, 8133, 0, 7640))
    upside_down = header("MapServer/grey_upsidedown.tif").grid.transform
    assert upside_down is not None
    assert upside_down[4] > 0
    gcps = header("rio-tiler/cog_gcps.tif").grid
    assert (len(gcps.gcps), gcps.transform, gcps.crs_wkt) == (210, None, None)
    rpcs = header("rioxarray/test_rpcs.tif").grid
    assert rpcs.transform is None
    assert rpcs.rpcs is not None
    assert {"LINE_OFF", "SAMP_NUM_COEFF", "HEIGHT_SCALE"} <= set(rpcs.rpcs)
    assert header("rio-tiler/cog_cmap.tif").raster.palette
    assert header("MapServer/utm_4326_spec_char_øæöüç.tif").name == "utm_4326_spec_char_øæöüç"
    assert [band.common for band in header("rasterio/all-nodata.tif").raster.bands] == ["blue", "green", "red", "nir"]


def test_all_of_all_nodata_is_invalid() -> None:
    header = read_header(str(HARD / "rasterio/all-nodata.tif"))
    rows, cols = header.grid.shape_px
    assert not open_source(header.raster, (1, 2, 3), AUTO).read(Window.of(0, rows, 0, cols)).valid_HW.any()


def test_field_polygons_over_their_scene() -> None:
    header = read_header(str(HARD / "orthoseg/BEFL-TEST-s2_2023-05-01_2023-07-01_B08-B04-B03_min_byte.tif"))
    fields = read_polygons(str(HARD / "orthoseg/fields_BEFL-s2-fields-2023_polygons.gpkg"), georef=header.grid)
    # 199 in the file, some of them outside.
    assert len(fields) == 154
    rows, cols = header.grid.shape_px
    inside_HW = fields.mask(Window.of(0, rows, 0, cols))
    lattice = Grid(header.grid.shape_px, 128)
    touched = find_touched_tiles([fields], lattice)
    assert {
        cell for cell in lattice if inside_HW[lattice.window(*cell).within(Window.of(0, rows, 0, cols))].any()
    } <= touched


@pytest.mark.skipif(not (DATA / "buildings").exists(), reason=f"no building scenes at {DATA}")
@pytest.mark.parametrize("name", ["zanzibar_north", "zanzibar_south", "banepa_edge_east"])
def test_footprints_fall_on_their_labels(name: str) -> None:
    header = read_header(str(DATA / "buildings" / f"{name}.tif"))
    roofs = read_polygons(str(DATA / "buildings" / f"{name}_footprints.geojson"), georef=header.grid)
    rows, cols = header.grid.shape_px
    with rasterio.open(DATA / "buildings" / f"{name}_labels.tif") as dataset:
        labels_HW: Any = dataset.read(1)
    drawn_HW = roofs.mask(Window.of(0, rows, 0, cols))
    known_HW = labels_HW != 255
    assert ((labels_HW == 1) == drawn_HW)[known_HW].mean() > 0.9999


@pytest.mark.skipif(not (DATA / "naip").exists(), reason=f"no NAIP chips at {DATA}")
def test_near_infrared_of_naip_is_never_alpha() -> None:
    header = read_header(str(DATA / "naip" / "riverside_2020_0.tif"))
    wanted = (*RGB, BandWanted(name="nir", common="nir"))
    bands = choose_bands(header.raster, wanted, (1, 2, 3, 4))
    assert open_source(header.raster, bands, AUTO).read(Window.of(0, 256, 0, 256)).valid_HW.all()
