"""Scenes that would lead GDAL to other files or servers are refused, and what the author allows is read."""

from __future__ import annotations

import shutil
import sqlite3
import tarfile
import warnings
import zipfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
import rasterio

from batchseg.errors import SceneError
from batchseg.reports.page.pictures import draw_scene
from batchseg.scene.header import read_header
from tests.batchseg.scene.referring_scenes import BAND, SOURCE, Place, host, place
from tests.batchseg.scene.scene_rasters import UTM, noise, write

__all__ = ["host", "place"]


def link(place: Place, name: str, target: Path) -> str:
    (place.folder / name).symlink_to(target)
    return str(place.part)


def tagged(place: Place, name: str, overview: object) -> Path:
    path = write(place.folder / name, noise(1, 40, 40), **UTM)
    with rasterio.open(path, "r+") as dataset:
        dataset.update_tags(ns="OVERVIEWS", OVERVIEW_FILE=str(overview))
    return path


def text(place: Place, name: str, content: str) -> str:
    (place.folder / name).write_text(content)
    return str(place.folder / name)


def nested(place: Place) -> str:
    place.source(place.secret, file="inner.vrt")
    return place.source("inner.vrt", ' relativeToVRT="1"')


def archive_member(place: Place) -> str:
    with zipfile.ZipFile(place.folder / "a.zip", "w") as archive:
        archive.writestr("m.tif", place.source(place.secret, file="m.vrt") and (place.folder / "m.vrt").read_bytes())
    return place.source(f"/vsizip/{place.folder}/a.zip/m.tif")


def raw(place: Place, name: object, flag: str = "") -> str:
    band = f'<VRTRasterBand {BAND} subClass="VRTRawRasterBand"><SourceFilename{flag}>{name}</SourceFilename>'
    return place.vrt(band + "<ImageOffset>0</ImageOffset></VRTRasterBand>")


def wms(place: Place, server: str, ending: str = "tif") -> str:
    service = f'<Service name="TMS"><ServerUrl>{server}/${{z}}/${{x}}/${{y}}.png</ServerUrl></Service>'
    window = (
        "<UpperLeftX>0</UpperLeftX><UpperLeftY>9</UpperLeftY><LowerRightX>9</LowerRightX><LowerRightY>0</LowerRightY>"
    )
    return text(
        place,
        f"w.{ending}",
        f"<GDAL_WMS>{service}<DataWindow>{window}<TileLevel>1</TileLevel><TileCountX>1</TileCountX><TileCountY>1</TileCountY>"
        "</DataWindow><Projection>EPSG:4326</Projection><BandsCount>3</BandsCount></GDAL_WMS>",
    )


def warped(place: Place) -> str:
    options = f'<GDALWarpOptions><SourceDataset relativeToVRT="0">{place.secret}</SourceDataset></GDALWarpOptions>'
    return place.vrt(options, root=' subClass="VRTWarpedDataset"')


def dem(place: Place) -> str:
    item = f'<RPCTransformer><Options><MDI key="RPC_DEM">{place.secret}</MDI></Options></RPCTransformer>'
    own = f'<SourceDataset relativeToVRT="1">{place.part.name}</SourceDataset>'
    options = f"<GDALWarpOptions>{own}<Transformer>{item}</Transformer></GDALWarpOptions>"
    return place.vrt(options, root=' subClass="VRTWarpedDataset"')


def pansharpened(place: Place) -> str:
    band = f"<PanchroBand><SourceFilename>{place.secret}</SourceFilename><SourceBand>1</SourceBand></PanchroBand>"
    return place.vrt(f"<PansharpeningOptions>{band}</PansharpeningOptions>", root=' subClass="VRTPansharpenedDataset"')


def processed(place: Place) -> str:
    first = f'<Input><SourceFilename relativeToVRT="1">{place.part.name}</SourceFilename></Input>'
    argument = f'<Argument name="gain_dataset_filename_1">{place.secret}</Argument>'
    step = f"<Step><Algorithm>LocalScaleOffset</Algorithm>{argument}</Step>"
    return place.vrt(f"{first}<ProcessingSteps>{step}</ProcessingSteps>", root=' subClass="VRTProcessedDataset"')


ENVI = "ENVI\nsamples = 40\nlines = 40\nbands = 1\ndata type = 1\ninterleave = bsq\nbyte order = 0\n"


def reaching(place: Place) -> str:
    path = write(place.folder / "r.gpkg", noise(1, 40, 40), driver="GPKG", **UTM)
    with closing(sqlite3.connect(path)) as database:
        database.execute("CREATE VIEW v AS SELECT gdal_get_pixel_value('/etc/passwd', 1, 'pixel', 0, 0)")
        database.commit()
    return str(path)


def two_members(place: Place) -> str:
    harmless = place.source("part.tif", ' relativeToVRT="1"', file="m.vrt")
    with zipfile.ZipFile(place.folder / "s.zip", "w") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        archive.writestr("m.vrt", Path(place.source(place.secret)).read_bytes())
        archive.write(harmless, "m.vrt")
    return place.source(f"/vsizip/{place.folder}/s.zip/m.vrt")


def aux(place: Place) -> Path:
    (place.root / "aux.xml").write_text("<PAMDataset/>")
    return place.root / "aux.xml"


def zip_up(path: Path, member: Path, *more: tuple[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(member, member.name)
        for name, content in more:
            archive.writestr(name, content)
    return path


def tar_up(path: Path, member: Path) -> Path:
    with tarfile.open(path, "w") as archive:
        archive.add(member, member.name)
    return path


OUTSIDE: dict[str, Callable[[Place], str]] = {
    "an absolute path": lambda p: p.source(p.secret),
    "a relative path": lambda p: p.source("../secret.tif", ' relativeToVRT="1"'),
    "a path with points in it": lambda p: p.source(f"{p.folder}/../secret.tif"),
    "a link in the folder": lambda p: link(p, "l.tif", p.secret) and p.source("l.tif", ' relativeToVRT="1"'),
    "a linked folder and points": lambda p: (
        link(p, "d", p.root / "scene") and p.source("d/../secret.tif", ' relativeToVRT="1"')
    ),
    "another folder with the same beginning": lambda p: p.source(
        shutil.copytree(p.folder, p.root / "scene2") / "part.tif"
    ),
    "an attribute": lambda p: p.vrt(
        f'<VRTRasterBand {BAND}><SimpleSource SourceFilename="{p.secret}"/></VRTRasterBand>'
    ),
    "a name in capitals": lambda p: p.vrt(
        SOURCE.format(name=p.secret, flag="").replace("SourceFilename", "SOURCEFILENAME")
    ),
    "references to characters": lambda p: p.source(str(p.secret).replace("/", "&#47;")),
    "a section of characters": lambda p: p.source(f"<![CDATA[{p.secret}]]>"),
    "a comment in the name": lambda p: p.source("part.tif<!-- -->/../../secret.tif", ' relativeToVRT="1"'),
    "an entity": lambda p: text(
        p, "e.vrt", f'<!DOCTYPE x [<!ENTITY s "{p.secret}">]>{Path(p.source("&s;")).read_text()}'
    ),
    "a nested VRT": nested,
    "a nested VRT named as a TIFF": lambda p: p.source(shutil.copy(nested(p), p.folder / "n.tif")),
    "a VRT as text": lambda p: p.source("&lt;VRTDataset rasterXSize=&quot;4&quot; rasterYSize=&quot;4&quot;/&gt;"),
    "a name of the driver VRT": lambda p: p.source(f"vrt://{p.secret}?bands=1"),
    "a directory of a TIFF": lambda p: p.source(f"GTIFF_DIR:1:{p.secret}"),
    "a complex source": lambda p: p.vrt(SOURCE.format(name=p.secret, flag="").replace("SimpleSource", "ComplexSource")),
    "an overview of a band": lambda p: p.vrt(
        f"<VRTRasterBand {BAND}><Overview><SourceFilename>{p.secret}</SourceFilename></Overview></VRTRasterBand>"
    ),
    "a mask": lambda p: p.vrt(f"<MaskBand>{SOURCE.format(name=p.secret, flag='')}</MaskBand>"),
    "raw bytes": lambda p: raw(p, "/etc/passwd"),
    "raw bytes beside a link": lambda p: (
        link(p, "p.bin", Path("/etc/passwd")) and raw(p, "p.bin", ' relativeToVRT="1"')
    ),
    "a warped VRT": warped,
    "a terrain model": dem,
    "a pansharpened VRT": pansharpened,
    "a processed VRT": processed,
    "an archive elsewhere": lambda p: (
        zip_up(p.root / "s.zip", p.secret) and p.source(f"/vsizip/{p.root}/s.zip/secret.tif")
    ),
    "an archive elsewhere in braces": lambda p: (
        zip_up(p.root / "s.zip", p.secret) and p.source(f"/vsizip/{{{p.root}/s.zip}}/secret.tif")
    ),
    "a tar elsewhere": lambda p: tar_up(p.root / "s.tar", p.secret) and p.source(f"/vsitar/{p.root}/s.tar/secret.tif"),
    "an archive and points": lambda p: (
        zip_up(p.folder / "s.zip", p.part) and p.source(f"/vsizip/{p.folder}/s.zip/../../secret.tif")
    ),
    "a VRT in an archive": archive_member,
    "a part of a file": lambda p: p.source(f"/vsisubfile/0_9999,{p.secret}"),
    "a sparse file": lambda p: p.source(f"/vsisparse/{p.folder}/s.xml"),
    "memory": lambda p: p.source("MEM:::DATAPOINTER=1,PIXELS=4,LINES=4"),
    "an overview in a tag": lambda p: str(tagged(p, "t.tif", p.secret)),
    "an overview in a tag of a source": lambda p: p.source(tagged(p, "t.tif", p.secret)),
    "a mask that is a link": lambda p: link(p, "part.tif.msk", p.secret),
    "overviews that are a link": lambda p: link(p, "part.tif.ovr", p.secret),
    "metadata that are a link": lambda p: link(p, "part.tif.aux.xml", aux(p)),
    "a mask that is a VRT": lambda p: p.source(p.secret, file="part.tif.msk") and str(p.part),
    "overviews that are a VRT": lambda p: p.source(p.secret, file="part.tif.ovr") and str(p.part),
    "an overview in metadata beside": lambda p: (
        text(
            p,
            "part.tif.aux.xml",
            f'<PAMDataset><Metadata domain="OVERVIEWS"><MDI key="OVERVIEW_FILE">{p.secret}</MDI></Metadata>'
            "</PAMDataset>",
        )
        and str(p.part)
    ),
    "a server": lambda p: p.source(f"/vsicurl/{p.server}/x.tif"),
    "a server by its URL": lambda p: p.source(f"{p.server}/x.tif"),
    "a server with options": lambda p: p.source(f"/vsicurl?url={p.server}/x.tif"),
    "a streamed server": lambda p: p.source(f"/vsicurl_streaming/{p.server}/x.tif"),
    "a bucket": lambda p: p.source("/vsis3/other/x.tif"),
    "an archive on a server": lambda p: p.source(f"/vsizip//vsicurl/{p.server}/x.zip/x.tif"),
    "a mask on a server": lambda p: text(p, "part.tif.msk", Path(wms(p, p.server)).read_text()) and str(p.part),
    "a tile service": lambda p: wms(p, p.server),
    "a tile service in a VRT": lambda p: p.source(wms(p, p.server)),
    "a tile service by its name": lambda p: p.source(f"WMS:{p.server}/?SERVICE=WMS"),
    "a tile index": lambda p: text(
        p, "i.vrt.tif", "<GDALTileIndexDataset><IndexDataset>/x.gpkg</IndexDataset></GDALTileIndexDataset>"
    ),
    "a document of STAC": lambda p: p.source(text(p, "s.json", '{"stac_version": "1.0.0", "assets": {}}')),
    "a database that reads other files": reaching,
    "a database in an archive": lambda p: (
        zip_up(p.folder / "s.zip", Path(reaching(p))) and p.source(f"/vsizip/{p.folder}/s.zip/r.gpkg")
    ),
    "a function in Python": lambda p: p.vrt(
        f'<VRTRasterBand {BAND} subClass="VRTDerivedRasterBand"><PixelFunctionType>f</PixelFunctionType>'
        "<PixelFunctionLanguage>Python</PixelFunctionLanguage></VRTRasterBand>"
    ),
    "a description of raw pixels": lambda p: (
        text(p, "c.bin", 'Object = IsisCube\n Object = Core\n ^Core = "/etc/passwd"\n' + " " * 2000)
        and text(p, "c.hdr", ENVI)
        and p.source("c.bin", ' relativeToVRT="1"')
    ),
    "two members of one name": two_members,
    "a tile service as a mask in an archive": lambda p: (
        zip_up(p.folder / "s.zip", p.part, ("part.tif.msk", Path(wms(p, p.server)).read_bytes()))
        and f"/vsizip/{p.folder}/s.zip/part.tif"
    ),
    "a derived dataset": lambda p: f"DERIVED_SUBDATASET:AMPLITUDE:{p.part}",
    "a part of a file by the author": lambda p: f"/vsisubfile/0_9999,{p.part}",
    "a service of maps by the author": lambda p: f"WMS:{p.server}/?SERVICE=WMS&folder={p.folder}",
    "broken XML": lambda p: text(p, "b.vrt", Path(p.source(p.secret)).read_text() + "<"),
    "another encoding": lambda p: text(p, "b.vrt", '<VRTDataset rasterXSize="4" rasterYSize="4"><?xml encoding="x"?>'),
}


def spilled(place: Place) -> str:
    """Make an Erdas image whose pixels lie in a file that it names."""
    path = write(place.folder / "abcdefghij.img", noise(1, 40, 40), driver="HFA", USE_SPILL="YES", **UTM)
    (place.folder / "abcdefghij.ige").rename(place.root / "secretpixel")
    path.write_bytes(path.read_bytes().replace(b"abcdefghij.ige", b"../secretpixel"))
    return str(path)


ON_A_SERVER: dict[str, Callable[[Place], object]] = {
    "a mask that is a tile service": lambda p: shutil.copy(wms(p, f"{p.server}/evil"), p.served / "x.tif.msk"),
    "overviews that are a VRT": lambda p: shutil.copy(p.source(p.secret), p.served / "x.tif.ovr"),
    "a VRT in capitals": lambda p: shutil.copy(p.source(p.secret), p.served / "x.tif.MSK"),
    "an overview in metadata beside": lambda p: (p.served / "x.tif.aux.xml").write_text(
        f'<PAMDataset><Metadata domain="OVERVIEWS"><MDI key="OVERVIEW_FILE">{p.secret}</MDI></Metadata></PAMDataset>'
    ),
}


@pytest.mark.parametrize("case", ON_A_SERVER)
def test_what_lies_beside_a_scene_on_a_server_leads_nowhere(place: Place, case: str) -> None:
    shutil.copy(place.part, place.served / "x.tif")
    ON_A_SERVER[case](place)
    with pytest.raises(SceneError, match=r"WMS is not allowed|outside of its own folder"):
        read_header(f"{place.server}/x.tif")
    assert not any("evil" in path for path in place.asked)


def test_pixels_in_a_file_outside_are_refused(place: Place) -> None:
    with pytest.raises(SceneError, match="outside of its own folder"):
        read_header(spilled(place))


@pytest.mark.parametrize("case", OUTSIDE)
def test_what_leads_out_of_the_folder_is_refused(place: Place, case: str) -> None:
    url = OUTSIDE[case](place)
    with pytest.raises(SceneError) as caught:
        read_header(url)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(url.partition("?")[0])
    assert draw_scene(url, (1,), (20, 20)) is None
    assert place.asked == []
