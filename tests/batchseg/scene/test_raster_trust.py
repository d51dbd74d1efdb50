"""What scenes may refer to: files below their folder, and what the author of the recipe allows. Never more."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import rasterio.shutil

from batchseg.errors import BatchsegError, RecipeError, SceneError
from batchseg.link_local import is_link_local
from batchseg.recipe import NodataPolicy, Trust
from batchseg.scene.header import read_header
from batchseg.scene.source import RasterSource
from tests.batchseg.scene.referring_scenes import Place, host, place
from tests.batchseg.scene.scene_rasters import UTM, noise, write
from tests.batchseg.scene.test_raster_door import link, text, wms, zip_up
from tiling.span import Window

__all__ = ["host", "place"]

RELATIVE = ' relativeToVRT="1"'


def read(url: str, trust: Trust) -> bytes:
    """The pixels of all 40 x 40, as a worker reads them."""
    raster = read_header(url, trust).raster
    return RasterSource(raster, (1,), NodataPolicy(from_="none")).read(Window.of(0, 40, 0, 40)).raw_BHW.tobytes()


def served(place: Place, name: str = "x.tif") -> str:
    shutil.copy(place.secret, place.served / name)
    return f"{place.server}/{name}"


def trusted_host(place: Place) -> Trust:
    return Trust(hosts=(place.host,))


INSIDE: dict[str, Callable[[Place], tuple[str, Trust]]] = {
    "a file beside": lambda p: (p.source("part.tif", RELATIVE), Trust()),
    "a file beside by its path": lambda p: (p.source(p.part), Trust()),
    "a file below": lambda p: (
        p.source(shutil.copy(p.part, (p.folder / "a").mkdir() or p.folder / "a" / "b.tif")),
        Trust(),
    ),
    "a nested VRT": lambda p: (
        p.source("part.tif", RELATIVE, file="inner.vrt") and p.source("inner.vrt", RELATIVE),
        Trust(),
    ),
    "a member of an archive beside": lambda p: (
        zip_up(p.folder / "a.zip", p.part) and p.source(f"/vsizip/{p.folder}/a.zip/part.tif"),
        Trust(),
    ),
    "a link of the author": lambda p: (
        p.source(p.part) and str(shutil.copy(p.scene, p.folder / "y.vrt")) and link_of_the_author(p),
        Trust(),
    ),
    "a folder that is trusted": lambda p: (p.source(p.secret), Trust(folders=(str(p.root),))),
    "a link to a folder that is trusted": lambda p: (
        link(p, "l.tif", p.secret) and p.source("l.tif", RELATIVE),
        Trust(folders=(str(p.root),)),
    ),
    "a host that is trusted": lambda p: (p.source(f"/vsicurl/{served(p)}"), trusted_host(p)),
    "a host that is trusted without its port": lambda p: (p.source(served(p)), Trust(hosts=("127.0.0.1",))),
    "a URL of the author": lambda p: (served(p), Trust()),
    "a VRT on a server": lambda p: (
        served(p, "part.tif")
        and p.source("part.tif", RELATIVE)
        and str(shutil.copy(p.scene, p.served))
        and f"{p.server}/x.vrt",
        Trust(),
    ),
    "a driver that is trusted": lambda p: (netcdf(p), Trust(drivers=("netCDF",))),
    "a driver that is trusted in other letters": lambda p: (netcdf(p), Trust(drivers=("NETCDF",))),
    "a classic netCDF file": lambda p: (netcdf(p, "NC"), Trust()),
    "a dataset of a netCDF file": lambda p: (f'NETCDF:"{netcdf(p, "NC")}":Band1', Trust()),
    "a raw file": lambda p: (
        p.source(write(p.folder / "r.bin", noise(1, 40, 40), driver="ENVI", **UTM)),
        Trust(),
    ),
    "a raw file beside a VRT of its name": lambda p: (
        p.source(write(p.folder / "x.bin", noise(1, 40, 40), driver="ENVI", **UTM)),
        Trust(),
    ),
}


def link_of_the_author(place: Place) -> str:
    (place.root / "elsewhere.vrt").symlink_to(place.folder / "y.vrt")
    return str(place.root / "elsewhere.vrt")


def netcdf(place: Place, kind: str = "NC4") -> str:
    target = str(place.folder / "n.nc")
    rasterio.shutil.copy(str(place.part), target, driver="netCDF", FORMAT=kind)
    return target


@pytest.mark.parametrize("case", INSIDE)
def test_what_is_allowed_is_read(place: Place, case: str) -> None:
    url, trust = INSIDE[case](place)
    assert read(url, trust) == noise(1, 40, 40).tobytes()


def refused(url: str, trust: Trust | None = None) -> str:
    with pytest.raises(BatchsegError) as caught:
        read_header(url, trust or Trust())
    assert caught.value.exit_status == 2
    return str(caught.value)


def test_the_advice_allows_what_was_refused(place: Place) -> None:
    assert f"`trust: {{folders: [{place.root}]}}`" in refused(place.source(place.secret))
    assert f'`trust: {{hosts: ["{place.host}"]}}`' in refused(place.source(f"/vsicurl/{place.server}/x.tif"))
    assert '`trust: {hosts: ["s3://bucket"]}`' in refused(place.source("/vsis3/bucket/x.tif"))
    assert "`trust: {drivers: [netCDF]}`" in refused(netcdf(place))
    assert "`trust: {drivers: [WMS]}`" in refused(wms(place, place.server))
    assert "`trust: {drivers: [WMTS]}`" in refused(text(place, "x.tif", "<GDAL_WMTS></GDAL_WMTS>"))


@pytest.mark.parametrize(
    "address",
    [
        "169.254.169.254",
        "169.254.1.1:80",
        "2852039166",
        "0xa9fea9fe",
        "0xa9.254.0xa9.0xfe",
        "0251.0376.0251.0376",
        "169.254.43518",
        "[fe80::1]",
        "[fe80::1%25eth0]",
        "[::ffff:169.254.169.254]",
        "[::ffff:a9fe:a9fe]",
        "[64:ff9b::a9fe:a9fe]",
        "[fd00:ec2::254]",
        "metadata.google.internal",
        "metadata",
        "METADATA.google.internal.",
        "169%2e254%2e169%2e254",
        "１６９.254.169.254",
        "user@169.254.169.254",
        "169.254.169.254\\@127.0.0.1",
    ],
)
def test_link_local_addresses_are_never_read(place: Place, address: str) -> None:
    trust = Trust(hosts=("169.254.169.254", address.partition("@")[2] or address), folders=("/",), drivers=("WMS",))
    for url in (
        place.source(f"/vsicurl/http://{address}/latest/x.tif"),
        f"http://{address}/latest/x.tif",
        wms(place, f"http://{address}"),
    ):
        assert "link-local" in refused(url, trust)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "10.0.0.5", "[::1]", "example.org", "metadata.example.org"])
def test_other_addresses_are_not_link_local(host: str) -> None:
    assert not is_link_local(host, ask_dns=False)


def test_a_server_cannot_lead_to_a_link_local_address(place: Place) -> None:
    own = place.redirect("x.tif", "http://169.254.169.254/latest/x.tif")
    for url in (own, place.source(f"/vsicurl/{own}")):
        assert "link-local" in refused(url, trusted_host(place))


REPLACED: dict[str, Callable[[Place], tuple[str, Path]]] = {
    "the source of a VRT": lambda p: (p.source("part.tif", RELATIVE), p.part),
    "the source of a nested VRT": lambda p: (
        p.source("part.tif", RELATIVE, file="inner.vrt") and p.source("inner.vrt", RELATIVE),
        p.part,
    ),
    "a nested VRT": lambda p: (
        p.source("part.tif", RELATIVE, file="inner.vrt") and p.source("inner.vrt", RELATIVE),
        p.folder / "inner.vrt",
    ),
    "an archive in a VRT": lambda p: (
        zip_up(p.folder / "a.zip", p.part) and p.source(f"/vsizip/{p.folder}/a.zip/part.tif"),
        p.folder / "a.zip",
    ),
    "an archive": lambda p: (
        zip_up(p.folder / "a.zip", p.part) and f"/vsizip/{p.folder}/a.zip/part.tif",
        p.folder / "a.zip",
    ),
    "a mask": lambda p: (str(p.part), Path(shutil.copy(p.part, f"{p.part}.msk"))),
}


@pytest.mark.parametrize("case", REPLACED)
def test_a_file_that_is_replaced_after_planning_is_not_read(place: Place, case: str) -> None:
    url, file = REPLACED[case](place)
    source = RasterSource(read_header(url).raster, (1,), NodataPolicy(from_="none"))
    source.read(Window.of(0, 40, 0, 40))
    os.utime(file, ns=(1, 1))
    with pytest.raises(SceneError, match=r"changed since the run was planned.*Put the first version back"):
        source.read(Window.of(0, 40, 0, 40))


@pytest.mark.parametrize(
    "trust",
    [{"folders": ("s3://bucket/a",)}, {"folders": (" ",)}, {"hosts": ("http://x.org/a",)}, {"drivers": ("",)}],
)
def test_trust_is_checked(trust: dict[str, tuple[str, ...]]) -> None:
    with pytest.raises(RecipeError, match="trust"):
        Trust(**trust)
