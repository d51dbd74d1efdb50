"""The tags of a COG, read back with GDAL for every kind of place."""

from __future__ import annotations

import numpy as np
import pytest
import rasterio
from rasterio.crs import CRS
from rasterio.errors import NotGeoreferencedWarning
from rasterio.rpc import RPC

from batchseg.classes import ClassInfo
from batchseg.errors import InputError, SceneError
from batchseg.layers.layer import Layer
from batchseg.output.cog import CogOptions, write_cog
from batchseg.output.sidecars import make_sidecars
from batchseg.scene.georef import Georef

LAYER = Layer(name="labels", dtype="uint8", nodata=255, kind="classes")
PIXELS = np.arange(40 * 23, dtype=np.uint16).reshape(40, 23).astype(np.uint8)

NORTH_UP = (0.5, 0.0, 500_000.25, 0.0, -0.5, 4_000_000.125)
SOUTH_UP = (0.5, 0.0, 500_000.0, 0.0, 0.5, 4_000_000.0)
ROTATED = (0.4, 0.3, 500_000.0, 0.3, -0.4, 4_000_000.0)
UTM = CRS.from_epsg(32640).to_wkt()
ALBERS = (
    'PROJCS["Odd Albers",GEOGCS["NAD83",DATUM["North_American_Datum_1983",SPHEROID["GRS 1980",6378137,298.257222101]],'
    'PRIMEM["Greenwich",0],UNIT["degree",0.0174532925199433]],PROJECTION["Albers_Conic_Equal_Area"],'
    'PARAMETER["standard_parallel_1",27.5],PARAMETER["standard_parallel_2",35],PARAMETER["latitude_of_center",18],'
    'PARAMETER["longitude_of_center",-100],PARAMETER["false_easting",1500000],PARAMETER["false_northing",6000000],'
    'UNIT["metre",1],AXIS["Easting",EAST],AXIS["Northing",NORTH]]'
)
MARS = (
    'GEOGCS["Mars 2000",DATUM["D_Mars_2000",SPHEROID["Mars_2000_IAU_IAG",3396190,169.894447223612]],'
    'PRIMEM["Reference_Meridian",0],UNIT["degree",0.0174532925199433],'
    'AXIS["Latitude",NORTH],AXIS["Longitude",EAST]]'
)
SITE = 'LOCAL_CS["Building site",UNIT["metre",1]]'
ROTATED_POLE = CRS.from_proj4("+proj=ob_tran +o_proj=longlat +o_lon_p=0 +o_lat_p=37 +lon_0=10 +R=6371229").to_wkt()
GCPS = tuple((float(row), float(col), 55 + col / 100, 25 - row / 100, 3.5) for row in (0, 17, 40) for col in (0, 23))
RPCS = RPC(
    *(100.5, 501.0, 25.25, 0.125, [1.0, *[0.001] * 19], [0.5] * 20, 2000.0, 2001.0, 55.5, 0.25),
    *([1.0, *[-0.002] * 19], [0.25] * 20, 3000.0, 3001.0),
)


def make_georef(crs_wkt=None, transform=None, **kw):
    return Georef(width_px=23, height_px=40, crs_wkt=crs_wkt, transform=transform, **kw)


def write_raster(folder, georef):
    path = folder / "out.tif"
    made = write_cog(
        path, georef, LAYER, lambda a, b: PIXELS[a:b], scratch=folder, stripe_px=16, options=CogOptions(block_px=16)
    )
    return path, made


@pytest.mark.parametrize("transform", [NORTH_UP, SOUTH_UP, ROTATED])
@pytest.mark.parametrize("crs_wkt", [UTM, ALBERS, MARS, SITE, None])
def test_a_grid_is_placed_by_its_transform(tmp_path, crs_wkt, transform):
    path, made = write_raster(tmp_path, make_georef(crs_wkt, transform))
    assert made.srs_xml is None
    with rasterio.open(path) as file:
        assert file.transform[:6] == pytest.approx(transform, rel=1e-12)
        assert file.crs == (None if crs_wkt is None else CRS.from_wkt(crs_wkt))
        assert np.array_equal(file.read(1), PIXELS)


@pytest.mark.parametrize("crs_wkt", [CRS.from_epsg(4326).to_wkt(), ALBERS, None])
def test_a_grid_is_placed_by_points(tmp_path, crs_wkt):
    path, _ = write_raster(tmp_path, make_georef(gcps=GCPS, gcps_crs_wkt=crs_wkt))
    with rasterio.open(path) as file:
        points, crs = file.gcps
        assert tuple((point.row, point.col, point.x, point.y, point.z) for point in points) == GCPS
        assert crs == (None if crs_wkt is None else CRS.from_wkt(crs_wkt))
        assert file.crs is None


@pytest.mark.parametrize(("crs_wkt", "transform"), [(None, None), (UTM, NORTH_UP)])
def test_a_grid_is_placed_by_a_sensor_model(tmp_path, crs_wkt, transform):
    path, _ = write_raster(tmp_path, make_georef(crs_wkt, transform, rpcs=RPCS.to_gdal()))
    with rasterio.open(path) as file:
        found = file.rpcs.to_dict()
        expected = RPCS.to_dict()
        for name in expected.keys() - {"err_bias", "err_rand"}:
            assert found[name] == pytest.approx(expected[name]), name
        assert file.crs == (None if crs_wkt is None else CRS.from_wkt(crs_wkt))


@pytest.mark.parametrize("crs_wkt", [None, UTM])
@pytest.mark.parametrize("transform", [None, (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)])
def test_a_grid_without_a_place_stays_so(tmp_path, crs_wkt, transform):
    path, _ = write_raster(tmp_path, make_georef(crs_wkt, transform))
    with pytest.warns(NotGeoreferencedWarning):
        file = rasterio.open(path)
    with file:
        assert file.transform.is_identity
        assert file.crs == (None if crs_wkt is None else CRS.from_wkt(crs_wkt))
        assert not file.gcps[0]


@pytest.mark.parametrize("kind", ["classes", "measure"])
def test_a_system_that_no_geotiff_can_hold_goes_into_the_sidecar(tmp_path, kind):
    path, made = write_raster(tmp_path, make_georef(ROTATED_POLE, NORTH_UP))
    with rasterio.open(path) as file:
        assert file.crs is None
    layer = Layer(name="labels", dtype="uint8", nodata=255, kind=kind)
    (tmp_path / "out.tif.aux.xml").write_text(make_sidecars(layer, made)[".aux.xml"], encoding="utf-8")
    with rasterio.open(path) as file:
        assert file.crs == CRS.from_wkt(ROTATED_POLE)


def test_a_system_that_cannot_be_read_is_refused_before_the_first_row(tmp_path):
    asked = []
    with pytest.raises(SceneError, match="must be able to read the coordinate system"):
        write_cog(
            tmp_path / "out.tif",
            make_georef("PROJCS[", NORTH_UP),
            LAYER,
            lambda *rows: asked.append(rows),
            scratch=tmp_path,
        )
    assert asked == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"width_px": 0},
        {"transform": (1.0, 0.0, float("nan"), 0.0, 1.0, 0.0)},
        {"transform": NORTH_UP, "gcps": GCPS},
    ],
)
def test_places_that_cannot_be_meant_are_refused(wrong):
    with pytest.raises(SceneError):
        Georef(**{"width_px": 1, "height_px": 1, "crs_wkt": None, "transform": None} | wrong)


@pytest.mark.parametrize(
    "wrong",
    [
        {"nodata": 256},
        {"nodata": 100, "kind": "measure"},
        {"classes": (ClassInfo(id=255, name="x", rgb=(0, 0, 0)),)},
        {"classes": (ClassInfo(id=256, name="x", rgb=(0, 0, 0)),)},
        {"classes": (ClassInfo(id=0, name="x", rgb=(0, 0, 0)),), "kind": "measure"},
        {"dtype": "int16"},
    ],
)
def test_layers_that_cannot_be_meant_are_refused(wrong):
    with pytest.raises(InputError, match="layer labels"):
        Layer(**{"name": "labels", "dtype": "uint8", "nodata": 255, "kind": "classes"} | wrong)
