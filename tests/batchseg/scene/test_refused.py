"""Files that cannot be scenes are refused with one line, and nothing else is printed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from batchseg.errors import SceneError
from batchseg.scene.header import read_header
from tests.batchseg.scene.scene_rasters import UTM, noise, vrt, write


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
    assert read_header(url).grid.shape_px == (4, 4)


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
        cwd=Path(__file__).parents[3],
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
