"""GDAL's names lead to one file, or to none that can be told."""

from __future__ import annotations

from pathlib import Path

import pytest

from batchseg.scene.gdal_name import parse_gdal_name


@pytest.mark.parametrize(
    ("name", "file", "member"),
    [
        ("a.tif", "a.tif", ""),
        ("a&b<i>x.tif", "a&b<i>x.tif", ""),
        ("file:///a/b.tif", "/a/b.tif", ""),
        ("s3://b/x.tif", "s3://b/x.tif", ""),
        ("/vsis3/b/x.tif", "s3://b/x.tif", ""),
        ("/vsis3_streaming/b/x.tif", "s3://b/x.tif", ""),
        ("/vsigs/b/x.tif", "gs://b/x.tif", ""),
        ("/vsicurl/https://h/x.tif?sig=1", "https://h/x.tif?sig=1", ""),
        ("/vsicurl?url=https://h/x.tif&use_head=no", "https://h/x.tif", ""),
        ("/vsizip//vsis3/b/x.zip/a/b.tif", "s3://b/x.zip", "a/b.tif"),
        ("/vsizip/vsicurl/https://h/x.zip/b.tif", "https://h/x.zip", "b.tif"),
        ("/vsizip/{/vsis3/b/x.data}/b.tif", "s3://b/x.data", "b.tif"),
        ("/vsitar/{t}/x.tar/b.tif", "{t}/x.tar", "b.tif"),
        ("/vsigzip/{t}/x.gz", "{t}/x.gz", ""),
        ("GTIFF_DIR:2:{t}/x.tar", "{t}/x.tar", ""),
        ('NETCDF:"{t}/x.tar":red', "{t}/x.tar", ""),
        ("NETCDF:{t}/x.tar:red", "{t}/x.tar", ""),
        ("HDF5:{t}/x.tar://group/red", "{t}/x.tar", ""),
        ("GTIFF_DIR:1:/vsis3/b/x.tif", "s3://b/x.tif", ""),
        ("DERIVED_SUBDATASET:PHASE:{t}/x.tar", "{t}/x.tar", ""),
    ],
)
def test_a_name_leads_to_a_file(tmp_path: Path, name: str, file: str, member: str) -> None:
    for there in ("x.tar", "x.gz"):
        (tmp_path / there).touch()
    name, file = (text.replace("{t}", str(tmp_path)) for text in (name, file))
    parsed = parse_gdal_name(name)
    assert parsed is not None
    assert (parsed.file, parsed.member) == (file, member)


@pytest.mark.parametrize(
    "name",
    [
        "<VRTDataset/>",
        "x<VRTDataset rasterXSize='1'/>",
        '{"type": "x"}',
        "/vsistdin/",
        "/vsimem/x",
        "/vsicached?file=/etc/passwd",
        "/vsizip/a/../../b.zip/x",
        "/vsicurl/file:///etc/passwd",
        "/vsicurl?url=file:///etc/passwd",
        "/vsicurl?url=http://a/x&url=http://b/x",
        "ftp://h/x.tif",
        "HTTP://h/x.tif",
        "a\nb.tif",
    ],
)
def test_a_name_without_a_file(name: str) -> None:
    assert parse_gdal_name(name) is None
