"""A scene that is replaced between two starts is noticed under every name that GDAL has for it."""

from __future__ import annotations

import gzip
import os
import shutil
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import rasterio.shutil

from batchseg.errors import ForeignRunError, SceneError
from batchseg.scene.header import read_header
from tests.batchseg.scene.referring_scenes import host
from tests.runs import Workplace, noise, write_scene

__all__ = ["host"]

VRT = (
    '<VRTDataset rasterXSize="64" rasterYSize="64"><SRS>EPSG:32633</SRS>'
    "<GeoTransform>500000,1,0,5000000,0,-1</GeoTransform>"
    "{bands}</VRTDataset>"
)
BAND = (
    '<VRTRasterBand dataType="Byte" band="{band}"><ColorInterp>{colour}</ColorInterp><SimpleSource>'
    '<SourceFilename relativeToVRT="{flag}">{name}</SourceFilename><SourceBand>{band}</SourceBand>{places}'
    "</SimpleSource></VRTRasterBand>"
)
HALF = '<SrcRect xOff="0" yOff="0" xSize="64" ySize="64"/><DstRect xOff="0" yOff="0" xSize="32" ySize="32"/>'


def make_vrt(folder: Path, name: str, *, places: str = "", file: str = "scene.vrt") -> str:
    bands = "".join(
        BAND.format(band=number, colour=colour, name=name, flag=int(not name.startswith("/")), places=places)
        for number, colour in enumerate(("Red", "Green", "Blue"), start=1)
    )
    (folder / file).write_text(VRT.format(bands=bands))
    return str(folder / file)


def zip_up(scene: Path) -> str:
    with zipfile.ZipFile(scene.with_suffix(".zip"), "w") as archive:
        archive.write(scene, "a/scene.tif")
    return str(scene.with_suffix(".zip"))


def tar_up(scene: Path) -> str:
    with tarfile.open(scene.with_suffix(".tar"), "w") as archive:
        archive.add(scene, "scene.tif")
    return str(scene.with_suffix(".tar"))


def gzip_up(scene: Path) -> str:
    Path(f"{scene}.gz").write_bytes(gzip.compress(scene.read_bytes()))
    return f"{scene}.gz"


def make_netcdf(scene: Path) -> str:
    rasterio.shutil.copy(str(scene), str(scene.with_suffix(".nc")), driver="netCDF")
    return str(scene.with_suffix(".nc"))


def make_overviews(scene: Path) -> str:
    shutil.copy(scene, f"{scene}.ovr")
    return make_vrt(scene.parent, "scene.tif", places=HALF)


NAMES: dict[str, Callable[[Path], tuple[str, str]]] = {
    "a path": lambda scene: (str(scene), str(scene)),
    "a URL of a file": lambda scene: (f"file://{scene}", str(scene)),
    "a member of a zip": lambda scene: (f"/vsizip/{zip_up(scene)}/a/scene.tif", zip_up(scene)),
    "a member of a zip in braces": lambda scene: (f"/vsizip/{{{zip_up(scene)}}}/a/scene.tif", zip_up(scene)),
    "a member of a tar": lambda scene: (f"/vsitar/{tar_up(scene)}/scene.tif", tar_up(scene)),
    "a compressed file": lambda scene: (f"/vsigzip/{gzip_up(scene)}", gzip_up(scene)),
    "a directory of a TIFF": lambda scene: (f"GTIFF_DIR:1:{scene}", str(scene)),
    "a source of a VRT": lambda scene: (make_vrt(scene.parent, "scene.tif"), str(scene)),
    "a source of a nested VRT": lambda scene: (
        make_vrt(scene.parent, "inner.vrt")
        and make_vrt(scene.parent, "scene.tif", file="inner.vrt")
        and make_vrt(scene.parent, "inner.vrt"),
        str(scene),
    ),
    "an archive behind a VRT": lambda scene: (
        make_vrt(scene.parent, f"/vsizip/{zip_up(scene)}/a/scene.tif"),
        str(scene.with_suffix(".zip")),
    ),
    "overviews of a source that a VRT shrinks": lambda scene: (make_overviews(scene), f"{scene}.ovr"),
}


@pytest.mark.parametrize("name", NAMES)
def test_a_replaced_scene_is_noticed_at_the_next_start(tmp_path: Path, name: str) -> None:
    scene = Path(write_scene(tmp_path / "scene.tif", noise(64, 64)))
    url, file = NAMES[name](scene)
    place = Workplace(tmp_path, (url,), {"bands": (1, 2, 3)})
    assert place.run().exit_status == 0
    assert place.run().exit_status == 0
    os.utime(file, ns=(1, 1))
    with pytest.raises(ForeignRunError, match="identity") as caught:
        place.run()
    assert caught.value.exit_status == 2


def test_a_source_between_signs_of_a_histogram_is_noticed(tmp_path: Path) -> None:
    write_scene(tmp_path / "scene.tif", noise(64, 64))
    url = make_vrt(tmp_path, "scene.tif")
    text = Path(url).read_text()
    identities = []
    for part in ("scene.tif", "other.tif"):
        hidden = f'<!-- <Histograms> --><SourceFilename relativeToVRT="1">{part}</SourceFilename><!-- </Histograms> -->'
        Path(url).write_text(text.replace("</VRTDataset>", f"<Overview>{hidden}</Overview></VRTDataset>"))
        identities.append(read_header(url).raster.identity.text)
    assert identities[0] != identities[1]


@pytest.mark.parametrize("prefix", ["NETCDF:{}:Band1", 'NETCDF:"{}":Band1', "{}"])
def test_the_version_of_a_netcdf_file_is_known(tmp_path: Path, prefix: str) -> None:
    file = make_netcdf(Path(write_scene(tmp_path / "scene.tif", noise(64, 64)[:1])))
    url = prefix.format(file)
    before = read_header(url).raster.identity
    os.utime(file, ns=(1, 1))
    assert read_header(url).raster.identity != before


@pytest.fixture
def served(host: tuple[str, Path]) -> Iterator[tuple[str, Path]]:
    folder = host[1] / "versions"
    folder.mkdir(exist_ok=True)
    yield f"http://{host[0]}/versions", folder
    shutil.rmtree(folder)


@pytest.mark.parametrize(
    "kind",
    ["{}/scene.tif", "/vsicurl/{}/scene.tif", "/vsicurl?url={}/scene.tif", "/vsizip//vsicurl/{}/scene.zip/a/scene.tif"],
)
def test_the_version_of_a_file_on_a_server_is_known(tmp_path: Path, served: tuple[str, Path], kind: str) -> None:
    scene = Path(write_scene(served[1] / "scene.tif", noise(64, 64)))
    zip_up(scene)
    url = kind.format(served[0])
    before = read_header(url).raster.identity
    assert read_header(url).raster.identity == before
    for file in served[1].iterdir():
        os.utime(file, ns=(10**18, 10**18))
    assert read_header(url).raster.identity != before


@pytest.mark.parametrize(
    "name", ["/vsistdin/", "/vsimem/x.tif", "/vsisubfile/0_9,{}", "/vsisparse/{}", "/vsioss/a/b.tif"]
)
def test_a_scene_without_a_version_is_refused(tmp_path: Path, name: str) -> None:
    scene = write_scene(tmp_path / "scene.tif", noise(64, 64))
    with pytest.raises(SceneError, match=r"version of the file cannot be known.*Copy it to a file or a bucket"):
        Workplace(tmp_path, (name.format(scene),), {"bands": (1, 2, 3)}).run()
    assert not (tmp_path / "out").exists()
