from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from rasterio.control import GroundControlPoint
from rasterio.enums import ColorInterp

from batchseg.errors import SceneError
from batchseg.scene.dataset import gdal_path
from batchseg.scene.header import common_name, read_header, scene_name
from tests.batchseg.scene_rasters import UTM, noise, write

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
    assert header.url == str(path)
    assert header.shape_px == (30, 40)
    assert [band.common for band in header.bands] == ["red", "green", "blue"]
    assert [band.name for band in header.bands] == [None] * 3
    assert header.dtype == "uint8"
    assert header.nodata == 0.0
    assert header.layout == "striped"
    assert header.interleave == "pixel"
    assert header.compression == "DEFLATE"
    assert header.driver == "GTiff"
    assert not header.palette
    assert header.georef.transform == (10, 0, 500_000, 0, -10, 5_000_000)
    assert header.georef.crs_wkt is not None
    assert header.georef.gcps == ()
    assert header.georef.rpcs is None
    assert header.identity == {
        "url": str(path),
        "size_bytes": path.stat().st_size,
        "mtime_ns": path.stat().st_mtime_ns,
    }
    assert json.loads(json.dumps(header.identity)) == header.identity
    assert pickle.loads(pickle.dumps(header)) == header


def test_relative_path_becomes_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "x.tif", noise(1, 3, 3), **UTM)
    monkeypatch.chdir(tmp_path)
    assert read_header("x.tif").url == str(tmp_path / "x.tif")


def test_tiled(tmp_path: Path) -> None:
    facts = {"tiled": True, "blockxsize": 64, "blockysize": 32, "interleave": "band"}
    header = read_header(str(write(tmp_path / "x.tif", noise(2, 100, 100), **facts, **UTM)))
    assert header.layout == "tiled"
    assert header.block_px == (32, 64)
    assert header.interleave == "band"


def test_one_pixel_without_a_place(tmp_path: Path) -> None:
    header = read_header(str(write(tmp_path / "x.tif", noise(1, 1, 1))))
    assert header.shape_px == (1, 1)
    assert header.georef.transform is None
    assert header.georef.crs_wkt is None


@pytest.mark.parametrize("transform", [(10, 0, 5, 0, 10, 7), (5, -8, 100, 8, 5, 200)], ids=["south-up", "rotated"])
def test_odd_transforms(tmp_path: Path, transform: tuple[float, ...]) -> None:
    import rasterio

    path = write(tmp_path / "x.tif", noise(1, 5, 5), crs="EPSG:32633", transform=rasterio.Affine(*transform))
    assert read_header(str(path)).georef.transform == transform


@pytest.mark.parametrize("ending", ["wld", "tfw", "tifw"])
def test_world_file(tmp_path: Path, ending: str) -> None:
    path = write(tmp_path / "x.tif", noise(1, 5, 5))
    (tmp_path / f"x.{ending}").write_text("2.0\n0\n0\n-2.0\n101\n199\n")
    assert read_header(str(path)).georef.transform == (2, 0, 100, 0, -2, 200)


def test_ground_control_points_only(tmp_path: Path) -> None:
    points = [GroundControlPoint(r, c, 10 + c * 0.01, 50 - r * 0.01, 5.0) for r in (0, 20) for c in (0, 30)]
    path = write(tmp_path / "x.tif", noise(1, 20, 30), gcps=(points, "EPSG:4326"))
    georef = read_header(str(path)).georef
    assert georef.transform is None
    assert georef.crs_wkt is None
    assert georef.gcps[3] == (20.0, 30.0, 10.3, 49.8, 5.0)
    assert georef.gcps_crs_wkt is not None
    assert "WGS 84" in georef.gcps_crs_wkt


def test_sensor_model_only(tmp_path: Path) -> None:
    georef = read_header(str(write(tmp_path / "x.tif", noise(1, 20, 20), rpcs=RPCS))).georef
    assert georef.transform is None
    assert georef.rpcs is not None
    assert float(georef.rpcs["LAT_OFF"]) == 45
    assert len(georef.rpcs["LINE_NUM_COEFF"].split()) == 20


def test_palette(tmp_path: Path) -> None:
    path = write(tmp_path / "x.tif", noise(1, 5, 5), palette={1: (255, 0, 0), 2: (0, 255, 0)})
    header = read_header(str(path))
    assert header.palette
    assert header.bands[0].common == "palette"


@pytest.mark.parametrize(
    "dtype", ["uint8", "int8", "int16", "uint16", "int32", "uint32", "int64", "float32", "float64"]
)
def test_data_types(tmp_path: Path, dtype: str) -> None:
    header = read_header(str(write(tmp_path / "x.tif", noise(1, 5, 5, dtype), **UTM)))
    assert header.dtype == dtype
    assert header.bands[0].dtype == dtype


def test_nan_nodata(tmp_path: Path) -> None:
    header = read_header(str(write(tmp_path / "x.tif", noise(2, 5, 5, "float32"), nodata=float("nan"), **UTM)))
    assert header.nodata is not None
    assert np.isnan(header.nodata)


def vrt(path: Path, *bands: str, files: str = "") -> str:
    body = "".join(f"<VRTRasterBand {band}</VRTRasterBand>" for band in bands)
    path.write_text(f'<VRTDataset rasterXSize="4" rasterYSize="4">{body}{files}</VRTDataset>')
    return str(path)


@pytest.mark.parametrize(
    ("types", "common"),
    [(("Byte", "UInt16"), "uint16"), (("Int16", "UInt16"), "int32"), (("Int32", "Float32"), "float64")],
)
def test_mixed_types_are_read_as_one_that_holds_them(tmp_path: Path, types: tuple[str, ...], common: str) -> None:
    header = read_header(vrt(tmp_path / "x.vrt", *(f'dataType="{t}">' for t in types)))
    assert header.dtype == common


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
    assert header.nodata is None
    assert [band.nodata for band in header.bands] == [1, 2]


def test_parts_of_a_vrt_are_part_of_its_identity(tmp_path: Path) -> None:
    part = write(tmp_path / "part.tif", noise(1, 4, 4), **UTM)
    source = (
        'dataType="Byte"><SimpleSource><SourceFilename relativeToVRT="1">part.tif</SourceFilename>'
        "<SourceBand>1</SourceBand></SimpleSource>"
    )
    url = vrt(tmp_path / "x.vrt", source)
    before = read_header(url).identity
    os.utime(part, ns=(1, 1))
    after = read_header(url).identity
    assert before["parts"] != after["parts"]
    assert before["mtime_ns"] == after["mtime_ns"]


def test_statistics_beside_a_file_do_not_change_its_identity(tmp_path: Path) -> None:
    path = write(tmp_path / "x.tif", noise(1, 4, 4), **UTM)
    before = read_header(str(path))
    (tmp_path / "x.tif.aux.xml").write_text("<PAMDataset><Metadata><MDI key='a'>b</MDI></Metadata></PAMDataset>")
    assert read_header(str(path)) == before


def test_sidecar_mask_is_part_of_the_identity(tmp_path: Path) -> None:
    path = tmp_path / "x.tif"
    write(path, noise(1, 4, 4), mask_HW=np.ones((4, 4), bool), options={"GDAL_TIFF_INTERNAL_MASK": False}, **UTM)
    assert (tmp_path / "x.tif.msk").exists()
    header = read_header(str(path))
    assert header.masks.per_dataset
    assert "parts" in header.identity


def test_masks(tmp_path: Path) -> None:
    plain = read_header(str(write(tmp_path / "a.tif", noise(1, 4, 4), **UTM))).masks
    assert (plain.alpha, plain.per_dataset, plain.per_band) == (None, False, False)
    inside = write(
        tmp_path / "b.tif",
        noise(3, 4, 4),
        mask_HW=np.ones((4, 4), bool),
        options={"GDAL_TIFF_INTERNAL_MASK": True},
        **UTM,
    )
    assert not (tmp_path / "b.tif.msk").exists()
    assert read_header(str(inside)).masks.per_dataset


RGBA = (ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha)


def test_alpha(tmp_path: Path) -> None:
    pixels_BHW = noise(4, 100, 100)
    pixels_BHW[3] = 255
    pixels_BHW[3, :50] = 0
    header = read_header(str(write(tmp_path / "x.tif", pixels_BHW, colours=RGBA, **UTM)))
    assert header.masks.alpha == 4
    assert header.masks.alpha_shades == 0
    assert not header.masks.per_dataset


def test_near_infrared_flagged_as_alpha_has_shades(tmp_path: Path) -> None:
    header = read_header(str(write(tmp_path / "x.tif", noise(4, 500, 500), colours=RGBA, **UTM)))
    assert header.masks.alpha == 4
    assert header.masks.alpha_shades > 0.9


def test_a_band_described_as_near_infrared_is_not_alpha(tmp_path: Path) -> None:
    names = ("Red", "Green", "Blue", "Near-Infrared")
    path = write(tmp_path / "x.tif", noise(4, 5, 5), photometric="rgb", colours=RGBA, names=names, **UTM)
    header = read_header(str(path))
    assert header.masks.alpha is None
    assert not header.masks.per_dataset
    assert header.bands[3].common == "nir"


@pytest.mark.parametrize(
    ("description", "colour", "common"),
    [
        (None, "undefined", None),
        (None, "gray", None),
        (None, "red", "red"),
        ("Red", "undefined", "red"),
        ("Band 3: Red", "blue", "red"),
        ("red_edge_1", "undefined", "rededge"),
        ("NIR", "alpha", "nir"),
        ("nir08", "undefined", "nir"),
        ("SWIR16", "undefined", "swir"),
        ("short-wave infrared", "undefined", "swir"),
        ("near infrared", "undefined", "nir"),
        ("B04", "undefined", None),
        ("B04", "green", "green"),
        ("red-green ratio", "undefined", None),
        ("infrared colour", "gray", "nir"),
        ("scattered light", "undefined", None),
        ("Alpha", "undefined", "alpha"),
    ],
)
def test_common_names(description: str | None, colour: str, common: str | None) -> None:
    assert common_name(description, colour) == common


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("/a/b/scene.tif", "scene"),
        ("utm_4326_spec_char_øæöüç.tif", "utm_4326_spec_char_øæöüç"),
        ("a b (1).v2.tif", "a_b_1_.v2"),
        ("s3://bucket/key/x.tif?version=3", "x"),
        ("/data/scene/", "scene"),
        (".tif", "tif"),
        ("../..", "scene"),
        ("###.tif", "scene"),
    ],
)
def test_scene_names(url: str, name: str) -> None:
    assert scene_name(url) == name


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("/a/b.tif", "/a/b.tif"),
        ("s3://b/k.tif", "/vsis3/b/k.tif"),
        ("https://h/k.tif", "/vsicurl/https://h/k.tif"),
        ("file:///a/b.tif", "/a/b.tif"),
        ("/vsizip/a.zip/b.tif", "/vsizip/a.zip/b.tif"),
        ("zip+s3://x", "zip+s3://x"),
    ],
)
def test_gdal_paths(url: str, path: str) -> None:
    assert gdal_path(url) == path


def test_names_in_an_old_encoding_are_no_names(tmp_path: Path) -> None:
    path = write(tmp_path / "x.tif", noise(3, 5, 5), photometric="rgb", names=("red", "green", "blue"), **UTM)
    path.write_bytes(path.read_bytes().replace(b"green", b"gr\xfcn "))
    bands = read_header(str(path)).bands
    assert [(band.name, band.common) for band in bands] == [(None, "red"), (None, "green"), (None, "blue")]


def refused(url: object) -> str:
    with pytest.raises(SceneError) as caught:
        read_header(str(url))
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_missing_file(tmp_path: Path) -> None:
    assert refused(tmp_path / "no.tif") == f"{tmp_path}/no.tif: no such file. Check the path and the current folder"


def test_text_named_tif(tmp_path: Path) -> None:
    (tmp_path / "x.tif").write_text("not a raster")
    assert "GDAL cannot open it as a raster" in refused(tmp_path / "x.tif")


def test_empty_file_and_folder(tmp_path: Path) -> None:
    (tmp_path / "x.tif").write_bytes(b"")
    assert "GDAL cannot open it as a raster" in refused(tmp_path / "x.tif")
    assert "GDAL cannot open it as a raster" in refused(tmp_path)


def test_truncated_before_its_header(tmp_path: Path) -> None:
    path = write(tmp_path / "x.tif", noise(3, 50, 50), **UTM)
    path.write_bytes(path.read_bytes()[:60])
    refused(path)


def test_complex_pixels(tmp_path: Path) -> None:
    path = write(tmp_path / "x.tif", np.ones((1, 4, 4), "complex64"), **UTM)
    assert "complex pixels are not supported" in refused(path)


def test_container_of_rasters(tmp_path: Path) -> None:
    for table in ("one", "two"):
        write(
            tmp_path / "x.gpkg",
            noise(1, 8, 8),
            driver="GPKG",
            RASTER_TABLE=table,
            APPEND_SUBDATASET="YES" if table == "two" else "NO",
            **UTM,
        )
    message = refused(tmp_path / "x.gpkg")
    assert "container of several rasters" in message
    assert ":two" in message


def test_no_bands(tmp_path: Path) -> None:
    refused(vrt(tmp_path / "x.vrt"))


def test_broken_vrt_names_its_missing_part(tmp_path: Path) -> None:
    source = 'dataType="Byte"><SimpleSource><SourceFilename relativeToVRT="1">gone.tif</SourceFilename></SimpleSource>'
    url = vrt(tmp_path / "x.vrt", source)
    # GDAL opens parts when it reads them.
    assert read_header(url).shape_px == (4, 4)


def test_nothing_on_stderr(tmp_path: Path) -> None:
    (tmp_path / "x.tif").write_text("not a raster")
    write(tmp_path / "y.tif", noise(1, 4, 4))
    code = (
        "import sys\n"
        "from batchseg.errors import SceneError\n"
        "from batchseg.scene.header import read_header\n"
        "read_header(sys.argv[2])\n"
        "try:\n    read_header(sys.argv[1])\nexcept SceneError:\n    pass\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, tmp_path / "x.tif", tmp_path / "y.tif"],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
