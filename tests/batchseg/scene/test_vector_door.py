"""Vector files that would lead GDAL to other files or servers are refused, and what the author allows is read."""

from __future__ import annotations

import json
import shutil
import sqlite3
import tarfile
import zipfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
import shapely

from batchseg.errors import BatchsegError
from batchseg.recipe import Trust
from batchseg.scene.polygons import read_polygons
from tests.batchseg.scene.drawn_polygons import georef, save
from tests.batchseg.scene.referring_scenes import Place, host, place

__all__ = ["host", "place"]

BOX = shapely.box(400_100, 5_499_000, 400_500, 5_499_500)
GEOJSON = {
    "type": "FeatureCollection",
    "features": [
        {"type": "Feature", "properties": {}, "geometry": shapely.geometry.mapping(shapely.box(13, 49, 14, 50))}
    ],
}
KML = """<?xml version="1.0"?><kml xmlns="http://www.opengis.net/kml/2.2"><Document><Placemark><Polygon><outerBoundaryIs>
<LinearRing><coordinates>13,49 14,49 14,50 13,49</coordinates></LinearRing></outerBoundaryIs></Polygon></Placemark>
</Document></kml>"""


def secret(place: Place) -> str:
    return save(place.root / "secret.gpkg", [BOX])


def polygons(place: Place, ending: str = "gpkg") -> str:
    return save(place.folder / f"x.{ending}", [BOX])


def text(place: Place, name: str, content: str) -> str:
    (place.folder / name).write_text(content)
    return str(place.folder / name)


def ogr_vrt(place: Place, name: str = "x.geojson", source: str | None = None, before: str = "") -> str:
    layer = f'<OGRVRTLayer name="secret"><SrcDataSource>{source or secret(place)}</SrcDataSource></OGRVRTLayer>'
    return text(place, name, f"{before}<OGRVRTDataSource>{layer}</OGRVRTDataSource>")


def sql(place: Place, *statements: str, name: str = "x.gpkg") -> str:
    path = save(place.folder / name, [BOX])
    with closing(sqlite3.connect(path)) as database:
        for statement in statements:
            database.execute(statement)
        database.commit()
    return path


def in_a_journal(place: Place) -> str:
    """A view that waits in the journal of a database."""
    path, copy = save(place.folder / "x.gpkg", [BOX]), place.folder / "y.gpkg"
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("CREATE VIEW v AS SELECT ogr_geocode('x')")
        database.commit()
        for ending in ("", "-wal", "-shm"):
            shutil.copy(f"{path}{ending}", f"{copy}{ending}")
    return str(copy)


def packed(place: Place, file: str, kind: str = "zip") -> str:
    target = place.folder / f"p.{kind}"
    if kind == "tar":
        with tarfile.open(target, "w") as archive:
            archive.add(file, Path(file).name)
    else:
        with zipfile.ZipFile(target, "w") as archive:
            archive.write(file, Path(file).name)
    return str(target)


def linked(place: Place, *endings: str) -> str:
    path = save(place.root / "s.shp", [BOX])
    (place.folder / "x").mkdir()
    for part in sorted(place.root.glob("s.*")):
        target = place.folder / "x" / part.name
        target.symlink_to(part) if part.suffix in endings else shutil.copy(part, target)
    return str(place.folder / "x") if ".shp" in endings else f"{place.folder / 'x'}/{Path(path).name}"


def with_crs(place: Place, crs: str, name: str = "c.geojson") -> str:
    return text(place, name, json.dumps(GEOJSON)[:-1] + f', "crs": {crs}}}')


FORBIDDEN: dict[str, Callable[[Place], str | Path]] = {
    "a VRT of OGR": ogr_vrt,
    "a VRT of OGR by its ending": lambda p: ogr_vrt(p, "x.vrt"),
    "a VRT of OGR after a comment": lambda p: ogr_vrt(p, before="<!-- <kml> -->\n"),
    "a VRT of OGR that is called KML": lambda p: ogr_vrt(p, "x.kml", before="<?xml version='1.0'?><!-- <kml -->"),
    "a VRT of OGR on a server": lambda p: ogr_vrt(p, source=f"/vsicurl/{p.server}/x.geojson"),
    "a VRT of OGR in an archive": lambda p: packed(p, ogr_vrt(p, "x.vrt")),
    "a VRT of OGR in a tar": lambda p: f"/vsitar/{packed(p, ogr_vrt(p, 'x.vrt'), 'tar')}",
    "a VRT of OGR as a member": lambda p: f"/vsizip/{packed(p, ogr_vrt(p, 'x.vrt'))}/x.vrt",
    "a VRT of OGR in an archive of another name": lambda p: shutil.copy(
        packed(p, ogr_vrt(p, "x.vrt")), p.folder / "x.geojson"
    ),
    "a VRT of OGR in a folder": lambda p: str(Path(ogr_vrt(p, "x.vrt")).parent),
    "a service of features": lambda p: text(p, "w.gml", f"<OGRWFSDataSource><URL>{p.server}</URL></OGRWFSDataSource>"),
    "a pipeline of GDAL": lambda p: text(
        p,
        "g.json",
        json.dumps({"type": "gdal_streamed_alg", "command_line": f"gdal vector pipeline ! read {secret(p)}"}),
    ),
    "a schema on a server": lambda p: text(
        p,
        "x.gml",
        f'<wfs:FeatureCollection xmlns:gml="http://www.opengis.net/gml" xmlns:wfs="x" '
        f'xsi:schemaLocation="x {p.server}/s.xsd"></wfs:FeatureCollection>',
    ),
    "a table of text": lambda p: text(p, "x.csv", 'WKT,a\n"POLYGON((0 0,0 1,1 1,0 0))",1\n'),
    "the driver of tables": lambda p: f"CSV:{text(p, 'x.csv', 'WKT,a')}",
    "the driver of PostgreSQL": lambda _: "PG:host=127.0.0.1 dbname=x",
    "the driver of GeoJSON with a URL": lambda p: f"GEOJSON:{p.server}/x.geojson",
    "a service by its name": lambda p: f"WFS:{p.server}",
    "a virtual table": lambda p: sql(p, "PRAGMA writable_schema=1", VIRTUAL),
    "a view that asks a server": lambda p: sql(p, "CREATE VIEW v AS SELECT ogr_geocode('x')"),
    "a view with a name in quotes": lambda p: sql(p, 'CREATE VIEW v AS SELECT "ogr_GeoCode"(1)'),
    "a view that loads an extension": lambda p: sql(p, "CREATE VIEW v AS SELECT load_extension('/tmp/x.so')"),
    "a trigger": lambda p: sql(
        p, "CREATE VIEW v AS SELECT 1", "CREATE TRIGGER t INSTEAD OF INSERT ON v BEGIN SELECT readfile('/x'); END"
    ),
    "a view in a journal": in_a_journal,
    "a view in an archive": lambda p: packed(p, sql(p, "CREATE VIEW v AS SELECT ogr_geocode('x')")),
    "a view in a database of another name": lambda p: shutil.copy(
        sql(p, "CREATE VIEW v AS SELECT ogr_geocode('x')"), p.folder / "x.shp"
    ),
    "a coordinate system by a link": lambda p: with_crs(
        p, json.dumps({"type": "link", "properties": {"href": f"{p.server}/crs", "type": "proj4"}})
    ),
    "a coordinate system by an escaped link": lambda p: with_crs(
        p, json.dumps({"type": "link", "properties": {"href": f"{p.server}/crs"}}).replace("link", "l\\u0069nk")
    ),
    "a coordinate system by a link in an archive": lambda p: packed(
        p, with_crs(p, json.dumps({"type": "LINK", "properties": {"href": f"{p.server}/crs"}}))
    ),
    "a link beside a shapefile": lambda p: linked(p, ".dbf"),
    "links in a folder": lambda p: linked(p, ".shp", ".shx"),
    "an archive on a server by a name of GDAL": lambda p: f"/vsizip//vsicurl/{p.server}/x.zip",
    "a part of a file": lambda p: f"/vsisubfile/0_9,{secret(p)}",
    "a device": lambda _: "/dev/zero",
    "a link-local address": lambda _: "http://169.254.169.254/x.geojson",
    "a link-local address in other digits": lambda _: "http://0xa9fea9fe/x.geojson",
    "a server that leads to a link-local address": lambda p: p.redirect("x.geojson", "http://169.254.169.254/x"),
}
VIRTUAL = (
    "INSERT INTO sqlite_master (type, name, tbl_name, rootpage, sql) VALUES "
    "('table', 'v', 'v', 0, 'CREATE VIRTUAL TABLE v USING VirtualOGR(''/etc/passwd'')')"
)


@pytest.mark.parametrize("case", FORBIDDEN)
def test_what_leads_elsewhere_is_refused(place: Place, case: str) -> None:
    url = str(FORBIDDEN[case](place))
    with pytest.raises(BatchsegError) as caught:
        read_polygons(url, georef=georef())
    assert caught.value.exit_status == 2
    assert "\n" not in str(caught.value)
    assert [path for path in place.asked if not path.endswith("/x.geojson")] == []


ALLOWED: dict[str, Callable[[Place], tuple[str, Trust]]] = {
    "a GeoPackage": lambda p: (polygons(p), Trust()),
    "a GeoPackage with a view": lambda p: (sql(p, "CREATE TABLE x__ATTACH (a)", "CREATE VIEW v AS SELECT 1"), Trust()),
    "GeoJSON": lambda p: (text(p, "g.geojson", json.dumps(GEOJSON)), Trust()),
    "GeoJSON with a mark of the byte order": lambda p: (text(p, "g.json", f"\ufeff{json.dumps(GEOJSON)}"), Trust()),
    "GeoJSON with a coordinate system": lambda p: (
        with_crs(p, '{"type": "name", "properties": {"name": "EPSG:4326"}}'),
        Trust(),
    ),
    "a shapefile": lambda p: (polygons(p, "shp"), Trust()),
    "FlatGeobuf": lambda p: (polygons(p, "fgb"), Trust()),
    "KML": lambda p: (text(p, "x.kml", KML), Trust()),
    "an archive": lambda p: (packed(p, polygons(p)), Trust()),
    "a member of an archive": lambda p: (f"/vsizip/{packed(p, polygons(p))}/x.gpkg", Trust()),
    "a URL of the author": lambda p: (shutil.copy(polygons(p), p.served) and f"{p.server}/x.gpkg", Trust()),
    "a URL of the author in GDAL's words": lambda p: (
        shutil.copy(polygons(p), p.served) and f"/vsicurl/{p.server}/x.gpkg",
        Trust(),
    ),
    "a VRT of OGR that is trusted": lambda p: (ogr_vrt(p), Trust(drivers=("OGR_VRT",))),
    "GML that is trusted": lambda p: (polygons(p, "gml"), Trust(drivers=("gml",))),
    "links to a folder that is trusted": lambda p: (linked(p, ".dbf"), Trust(folders=(str(p.root),))),
}


@pytest.mark.parametrize("case", ALLOWED)
def test_what_is_allowed_is_read(place: Place, case: str) -> None:
    url, trust = ALLOWED[case](place)
    assert len(read_polygons(url, georef=georef(), trust=trust)) <= 1


def test_the_advice_allows_what_was_refused(place: Place) -> None:
    with pytest.raises(BatchsegError, match=r"trust: \{drivers: \[OGR_VRT\]\}"):
        read_polygons(ogr_vrt(place), georef=georef())
    with pytest.raises(BatchsegError, match=r"trust: \{drivers: \[CSV\]\}"):
        read_polygons(text(place, "x.csv", "WKT,a\n"), georef=georef())
