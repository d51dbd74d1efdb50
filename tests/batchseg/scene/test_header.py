"""Headers of rasters: place, bands, data types, nodata, masks and identity."""

from __future__ import annotations

import json
import os
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rasterio.control import GroundControlPoint
from rasterio.enums import ColorInterp

from batchseg.errors import SceneError
from batchseg.scene.header import read_header
from tests.batchseg.scene.scene_rasters import UTM, noise, vrt, write

RPCS = {
    "ERR_BIAS": "0",
    "ERR_RAND": "0",
    "LINE_OFF": "10",
    "SAMP_OFF": "10",
    "LAT_OFF": "45",
    "LONG_OFF": "12",
    "HEIGHT_OFF": "100",
    "LINE_SCALE": "20",
    "SAMP_SCALE": "20",
    "LAT_SCALE": "0.01",
    "LONG_SCALE": "0.01",
    "HEIGHT_SCALE": "500",
    "LINE_NUM_COEFF": " ".join(["0", "0", "-1"] + ["0"] * 17),
    "LINE_DEN_COEFF": " ".join(["1"] + ["0"] * 19),
    "SAMP_NUM_COEFF": " ".join(["0", "1"] + ["0"] * 18),
    "SAMP_DEN_COEFF": " ".join(["1"] + ["0"] * 19),
}


def test_plain_scene(tmp_path: Path) -> None:
    path = write(tmp_path / "a scene.tif", noise(3, 30, 40), photometric="rgb", nodata=0, compress="deflate", **UTM)
    header = read_header(str(path))
    assert header.name == "a_scene"
    assert header.raster.url == str(path)
    assert header.raster.shape_px == (30, 40)
    assert [band.common for band in header.raster.bands] == ["red", "green", "blue"]
    assert [band.name for band in header.raster.bands] == [None] * 3
    assert header.raster.dtype == "uint8"
    assert header.raster.nodata == 0.0
    assert header.raster.layout == "striped"
    assert header.raster.interleave == "pixel"
    assert header.raster.compression == "DEFLATE"
    assert header.raster.driver == "GTiff"
    assert not header.raster.palette
    assert header.grid.transform == (10, 0, 500_000, 0, -10, 5_000_000)
    assert header.grid.crs_wkt is not None
    assert header.grid.gcps == ()
    assert header.grid.rpcs is None
    assert header.raster.identity.plain() == {
        "url": str(path),
        "size_bytes": path.stat().st_size,
        "mtime_ns": path.stat().st_mtime_ns,
    }
    assert json.loads(json.dumps(header.raster.identity.plain())) == header.raster.identity.plain()
    assert pickle.loads(pickle.dumps(header)) == header


def test_relative_path_becomes_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "x.tif", noise(1, 3, 3), **UTM)
    monkeypatch.chdir(tmp_path)
    assert read_header("x.tif").raster.url == str(tmp_path / "x.tif")


def test_tiled(tmp_path: Path) -> None:
    facts = {"tiled": True, "blockxsize": 64, "blockysize": 32, "interleave": "band"}
    header = read_header(str(write(tmp_path / "x.tif", noise(2, 100, 100), **facts, **UTM)))
    assert header.raster.layout == "tiled"
    assert header.raster.block_px == (32, 64)
    assert header.raster.interleave == "band"


def test_one_pixel_without_a_place(tmp_path: Path) -> None:
    header = read_header(str(write(tmp_path / "x.tif", noise(1, 1, 1))))
    assert header.raster.shape_px == (1, 1)
    assert header.grid.transform is None
    assert header.grid.crs_wkt is None


@pytest.mark.parametrize("transform", [(10, 0, 5, 0, 10, 7), (5, -8, 100, 8, 5, 200)], ids=["south-up", "rotated"])
def test_odd_transforms(tmp_path: Path, transform: tuple[float, ...]) -> None:
    import rasterio

    path = write(tmp_path / "x.tif", noise(1, 5, 5), crs="EPSG:32633", transform=rasterio.Affine(*transform))
    assert read_header(str(path)).grid.transform == transform


@pytest.mark.parametrize("ending", ["wld", "tfw", "tifw"])
def test_world_file(tmp_path: Path, ending: str) -> None:
    path = write(tmp_path / "x.tif", noise(1, 5, 5))
    (tmp_path / f"x.{ending}").write_text("2.0\n0\n0\n-2.0\n101\n199\n")
    assert read_header(str(path)).grid.transform == (2, 0, 100, 0, -2, 200)


def test_ground_control_points_only(tmp_path: Path) -> None:
    points = [GroundControlPoint(r, c, 10 + c * 0.01, 50 - r * 0.01, 5.0) for r in (0, 20) for c in (0, 30)]
    path = write(tmp_path / "x.tif", noise(1, 20, 30), gcps=(points, "EPSG:4326"))
    georef = read_header(str(path)).grid
    assert georef.transform is None
    assert georef.crs_wkt is None
    assert georef.gcps[3] == (20.0, 30.0, 10.3, 49.8, 5.0)
    assert georef.gcps_crs_wkt is not None
    assert "WGS 84" in georef.gcps_crs_wkt


def test_sensor_model_only(tmp_path: Path) -> None:
    georef = read_header(str(write(tmp_path / "x.tif", noise(1, 20, 20), rpcs=RPCS))).grid
    assert georef.transform is None
    assert georef.rpcs is not None
    assert float(georef.rpcs["LAT_OFF"]) == 45
    assert len(georef.rpcs["LINE_NUM_COEFF"].split()) == 20


def test_palette(tmp_path: Path) -> None:
    path = write(tmp_path / "x.tif", noise(1, 5, 5), palette={1: (255, 0, 0), 2: (0, 255, 0)})
    header = read_header(str(path))
    assert header.raster.palette
    assert header.raster.bands[0].common == "palette"


@pytest.mark.parametrize(
    "dtype", ["uint8", "int8", "int16", "uint16", "int32", "uint32", "int64", "float32", "float64"]
)
def test_data_types(tmp_path: Path, dtype: str) -> None:
    header = read_header(str(write(tmp_path / "x.tif", noise(1, 5, 5, dtype), **UTM)))
    assert header.raster.dtype == dtype
    assert header.raster.bands[0].dtype == dtype


def test_nan_nodata(tmp_path: Path) -> None:
    header = read_header(str(write(tmp_path / "x.tif", noise(2, 5, 5, "float32"), nodata=float("nan"), **UTM)))
    assert header.raster.nodata is not None
    assert np.isnan(header.raster.nodata)


@pytest.mark.parametrize(
    ("types", "common"),
    [(("Byte", "UInt16"), "uint16"), (("Int16", "UInt16"), "int32"), (("Int32", "Float32"), "float64")],
)
def test_mixed_types_are_read_as_one_that_holds_them(tmp_path: Path, types: tuple[str, ...], common: str) -> None:
    header = read_header(vrt(tmp_path / "x.vrt", *(f'dataType="{t}">' for t in types)))
    assert header.raster.dtype == common


def test_mixed_types_that_no_type_holds(tmp_path: Path) -> None:
    with pytest.raises(SceneError, match="no type holds the values of all bands; got int64, float32"):
        read_header(vrt(tmp_path / "x.vrt", 'dataType="Int64">', 'dataType="Float32">'))


def test_bands_that_differ_in_nodata(tmp_path: Path) -> None:
    header = read_header(
        vrt(
            tmp_path / "x.vrt",
            'dataType="Byte"><NoDataValue>1</NoDataValue>',
            'dataType="Byte"><NoDataValue>2</NoDataValue>',
        )
    )
    assert header.raster.nodata is None
    assert [band.nodata for band in header.raster.bands] == [1, 2]


def test_parts_of_a_vrt_are_part_of_its_identity(tmp_path: Path) -> None:
    part = write(tmp_path / "part.tif", noise(1, 4, 4), **UTM)
    source = (
        'dataType="Byte"><SimpleSource><SourceFilename relativeToVRT="1">part.tif</SourceFilename>'
        "<SourceBand>1</SourceBand></SimpleSource>"
    )
    url = vrt(tmp_path / "x.vrt", source)
    before = read_header(url).raster.identity
    os.utime(part, ns=(1, 1))
    after = read_header(url).raster.identity
    assert before.parts != after.parts
    assert before.mtime_ns == after.mtime_ns


def test_statistics_beside_a_file_do_not_change_its_identity(tmp_path: Path) -> None:
    path = write(tmp_path / "x.tif", noise(1, 4, 4), **UTM)
    before = read_header(str(path))
    (tmp_path / "x.tif.aux.xml").write_text("<PAMDataset><Metadata><MDI key='a'>b</MDI></Metadata></PAMDataset>")
    after = read_header(str(path))
    assert after.raster.identity == before.raster.identity
    assert after.raster.files == (*before.raster.files, f"{path}.aux.xml")
    assert replace(after, raster=replace(after.raster, files=before.raster.files)) == before


def test_sidecar_mask_is_part_of_the_identity(tmp_path: Path) -> None:
    path = tmp_path / "x.tif"
    write(path, noise(1, 4, 4), mask_HW=np.ones((4, 4), bool), options={"GDAL_TIFF_INTERNAL_MASK": False}, **UTM)
    assert (tmp_path / "x.tif.msk").exists()
    header = read_header(str(path))
    assert header.raster.masks.per_dataset
    assert "parts" in header.raster.identity.plain()


def test_masks(tmp_path: Path) -> None:
    plain = read_header(str(write(tmp_path / "a.tif", noise(1, 4, 4), **UTM))).raster.masks
    assert (plain.alpha, plain.per_dataset, plain.per_band) == (None, False, False)
    inside = write(
        tmp_path / "b.tif",
        noise(3, 4, 4),
        mask_HW=np.ones((4, 4), bool),
        options={"GDAL_TIFF_INTERNAL_MASK": True},
        **UTM,
    )
    assert not (tmp_path / "b.tif.msk").exists()
    assert read_header(str(inside)).raster.masks.per_dataset


RGBA = (ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha)


def test_alpha(tmp_path: Path) -> None:
    pixels_BHW = noise(4, 100, 100)
    pixels_BHW[3] = 255
    pixels_BHW[3, :50] = 0
    header = read_header(str(write(tmp_path / "x.tif", pixels_BHW, colours=RGBA, **UTM)))
    assert header.raster.masks.alpha == 4
    assert header.raster.masks.alpha_shades == 0
    assert not header.raster.masks.per_dataset


def test_near_infrared_flagged_as_alpha_has_shades(tmp_path: Path) -> None:
    header = read_header(str(write(tmp_path / "x.tif", noise(4, 500, 500), colours=RGBA, **UTM)))
    assert header.raster.masks.alpha == 4
    assert header.raster.masks.alpha_shades > 0.9


def test_a_band_described_as_near_infrared_is_not_alpha(tmp_path: Path) -> None:
    names = ("Red", "Green", "Blue", "Near-Infrared")
    path = write(tmp_path / "x.tif", noise(4, 5, 5), photometric="rgb", colours=RGBA, names=names, **UTM)
    header = read_header(str(path))
    assert header.raster.masks.alpha is None
    assert not header.raster.masks.per_dataset
    assert header.raster.bands[3].common == "nir"
