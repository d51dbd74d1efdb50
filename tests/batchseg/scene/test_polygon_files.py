"""Files of polygons: formats, digests, filters, layers, repairs and refusals."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyogrio
import pytest
import shapely

from batchseg.errors import RecipeError
from batchseg.scene.georef import Georef
from batchseg.scene.polygons import read_polygons
from tests.batchseg.scene.drawn_polygons import TRANSFORMS, georef, save, to_map, whole


@pytest.mark.parametrize("ending", ["geojson", "gpkg", "shp", "fgb"])
def test_formats_and_digest(tmp_path: Path, ending: str) -> None:
    box = shapely.box(14.0, 49.5, 15.0, 49.7)
    place = georef((100, 0, 400_000, 0, -100, 5_500_000))
    reference = read_polygons(save(tmp_path / "reference.gpkg", [box], "EPSG:4326"), georef=place)
    made = read_polygons(save(tmp_path / f"x.{ending}", [box], "EPSG:4326"), georef=place)
    assert made.digest() == reference.digest()
    assert made.mask(whole(made)).any()


def test_digest_is_of_the_ground(tmp_path: Path) -> None:
    one, two = shapely.box(400_100, 5_499_000, 400_500, 5_499_500), shapely.box(401_000, 5_498_000, 402_000, 5_498_500)
    digests = [
        read_polygons(save(tmp_path / f"{number}.gpkg", shapes), georef=georef()).digest()
        for number, shapes in enumerate(
            ([one, two], [two, one], [shapely.MultiPolygon([one, two])], [one, one, two], [one.reverse(), two], [one])
        )
    ]
    assert len(set(digests[:5])) == 1
    assert digests[5] != digests[0]
    moved = shapely.affinity.translate(one, 1)
    assert read_polygons(save(tmp_path / "moved.gpkg", [moved, two]), georef=georef()).digest() != digests[0]


def test_filter(tmp_path: Path) -> None:
    boxes = [to_map(shapely.box(i * 50, 0, i * 50 + 40, 40), TRANSFORMS["north-up"]) for i in range(4)]
    path = save(tmp_path / "x.gpkg", boxes, kind=["town", "field", "town", "o'clock"], people=[10, 0, 2000, 5])
    assert len(read_polygons(path, where="kind = 'town'", georef=georef())) == 2
    assert len(read_polygons(path, where="kind = 'town' and people > 100", georef=georef())) == 1


@pytest.mark.parametrize("ending", ["gpkg", "geojson", "shp"])
@pytest.mark.parametrize("where", ["sort = 'town'", "kind ==== 'town'", "kind = "])
def test_a_filter_that_cannot_be_used(tmp_path: Path, ending: str, where: str) -> None:
    path = save(tmp_path / f"x.{ending}", [shapely.box(14, 49, 15, 50)], "EPSG:4326", kind=["town"])
    with pytest.raises(RecipeError) as caught:
        read_polygons(path, where=where, georef=georef())
    assert "the attribute filter cannot be used; expected SQL such as `kind = 'town'` over the fields" in str(
        caught.value
    )
    assert "kind" in str(caught.value)
    assert "\n" not in str(caught.value)


def refused(url: object, place: Georef | None = None, where: str | None = None) -> str:
    with pytest.raises(RecipeError) as caught:
        read_polygons(str(url), where=where, georef=place or georef())
    message = str(caught.value)
    assert message.startswith(str(url).partition("|")[0])
    assert "\n" not in message
    return message


def test_refusals(tmp_path: Path) -> None:
    assert "no such file" in refused(tmp_path / "no.gpkg")
    (tmp_path / "x.geojson").write_text("not json")
    assert "cannot be read as a vector file" in refused(tmp_path / "x.geojson")
    (tmp_path / "empty.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": []}))
    assert "there is no polygon; expected at least one" in refused(tmp_path / "empty.geojson")
    box = shapely.box(400_100, 5_499_000, 400_500, 5_499_500)
    path = save(tmp_path / "one.gpkg", [box], kind=["town"])
    assert "there is no polygon that passes `kind = 'sea'`" in refused(path, where="kind = 'sea'")
    path = save(tmp_path / "points.gpkg", [box, shapely.Point(1, 1)])
    assert "only polygons enclose ground; got 1 of 2 are Point. Buffer" in refused(path)


def test_no_coordinate_system(tmp_path: Path) -> None:
    box = shapely.box(400_100, 5_499_000, 400_500, 5_499_500)
    with pytest.warns(UserWarning, match="crs"):
        save(tmp_path / "x.shp", [box], None)
    assert "the vector file names no coordinate system. Assign the right one" in refused(tmp_path / "x.shp")
    path = save(tmp_path / "x.gpkg", [box])
    expected = "polygons need a scene with a coordinate system and a transform"
    assert expected in refused(path, georef(crs_wkt=None))
    assert expected in refused(path, georef(transform=None))
    assert expected in refused(path, georef(transform=None, crs_wkt=None))


def test_layers(tmp_path: Path) -> None:
    path = tmp_path / "x.gpkg"
    box = shapely.box(400_100, 5_499_000, 400_500, 5_499_500)
    for layer, append in (("towns", False), ("fields", True)):
        pyogrio.raw.write(
            path,
            np.array([shapely.to_wkb(box)], dtype=object),
            [],
            [],
            geometry_type="Polygon",
            crs="EPSG:32633",
            layer=layer,
            append=append,
        )
    message = refused(path)
    assert "the file has several layers; got towns, fields" in message
    assert f"Say which: `{path}|layername=towns`" in message
    assert len(read_polygons(f"{path}|layername=fields", georef=georef())) == 1
    assert "cannot be read as a vector file" in refused(f"{path}|layername=sea")


def test_an_invalid_polygon_is_repaired(tmp_path: Path) -> None:
    bow_tie = shapely.Polygon([(0, 0), (100, 100), (100, 0), (0, 100)])
    made = read_polygons(save(tmp_path / "x.gpkg", [to_map(bow_tie, TRANSFORMS["north-up"])]), georef=georef())
    inside_px = made.mask(whole(made)).sum()
    assert abs(inside_px - 5000) <= 100


def test_heights_are_dropped(tmp_path: Path) -> None:
    flat = to_map(shapely.box(10, 10, 30, 40), TRANSFORMS["north-up"])
    made = read_polygons(save(tmp_path / "x.gpkg", [shapely.force_3d(flat, 7)]), georef=georef())
    assert made.mask(whole(made)).sum() == 600
