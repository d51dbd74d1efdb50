"""Names of bands, names of scenes made from their files, and GDAL's names of files."""

from __future__ import annotations

from pathlib import Path

import pytest

from batchseg.scene.header import find_common_name, make_scene_name, read_header
from batchseg.scene.names import gdal_path
from tests.batchseg.scene.scene_rasters import UTM, noise, write


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
    assert find_common_name(description, colour) == common


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
    assert make_scene_name(url) == name


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


def test_names_that_are_not_utf8_are_dropped(tmp_path: Path) -> None:
    path = write(tmp_path / "x.tif", noise(3, 5, 5), photometric="rgb", names=("red", "green", "blue"), **UTM)
    path.write_bytes(path.read_bytes().replace(b"green", b"gr\xfcn "))
    bands = read_header(str(path)).raster.bands
    assert [(band.name, band.common) for band in bands] == [(None, "red"), (None, "green"), (None, "blue")]
