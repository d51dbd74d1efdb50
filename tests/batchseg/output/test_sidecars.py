"""Sidecars hold the names and colours of a layer as XML, and GDAL reads them."""

from __future__ import annotations

from xml.etree import ElementTree as ET

import numpy as np
import pytest
import rasterio
from hypothesis import given
from hypothesis import strategies as st

from batchseg.classes import ClassInfo
from batchseg.errors import InputError
from batchseg.layers import make_layers
from batchseg.layers.layer import Layer
from batchseg.output.cog import CogOptions, write_cog
from batchseg.output.sidecars import make_pam, make_qml, make_sidecars
from batchseg.scene.georef import Georef

LAND = ClassInfo(id=0, name="land", rgb=(200, 180, 120))
WATER = ClassInfo(id=1, name="water <&\"> 'lake'", rgb=(0, 0, 250))
ROAD = ClassInfo(id=4, name="öffentliche Straße", rgb=(90, 90, 90))
CLASSES = (ROAD, LAND, WATER)


def make_layer(*classes):
    return Layer(name="labels", dtype="uint8", nodata=255, kind="classes", classes=classes)


LABELS = make_layer(*CLASSES)
CONFIDENCE = Layer(name="confidence", dtype="uint8", nodata=255, kind="measure")
COUNTS = (70, 0, 0, 0, 10, *[0] * 250, 5)


def parse_table(pam):
    root = ET.fromstring(pam)
    fields = [field.findtext("Name") for field in root.iter("FieldDefn")]
    return [dict(zip(fields, [cell.text for cell in row], strict=True)) for row in root.iter("Row")]


def test_pam_names_every_code_by_its_place():
    names = [category.text or "" for category in ET.fromstring(make_pam(LABELS, COUNTS, None)).iter("Category")]
    assert names == ["land", WATER.name, "", "", "öffentliche Straße"]


def test_pam_table_has_colours_counts_and_ground():
    rows = parse_table(make_pam(LABELS, COUNTS, {0: 1.75, 4: 0.25}))
    assert [row["Value"] for row in rows] == ["0", "1", "4"]
    assert [row["Class"] for row in rows] == ["land", WATER.name, "öffentliche Straße"]
    assert [rows[0][part] for part in ("Red", "Green", "Blue", "Alpha")] == ["200", "180", "120", "255"]
    assert [row["Count"] for row in rows] == ["70", "0", "10"]
    assert [row["Area_km2"] for row in rows] == ["1.75", "0.0", "0.25"]


def test_pam_without_known_ground_has_no_such_column():
    assert "Area_km2" not in parse_table(make_pam(LABELS, COUNTS, None))[0]


def test_counts_beyond_32_bits_are_real_numbers():
    def read_count_type(counts):
        pam = ET.fromstring(make_pam(make_layer(LAND), counts, None))
        return next(field.findtext("Type") for field in pam.iter("FieldDefn") if field.findtext("Name") == "Count")

    assert (read_count_type([2**31 - 1]), read_count_type([2**31])) == ("0", "1")


@given(st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=20))
def test_any_name_survives_both_files(name):
    layer = make_layer(ClassInfo(id=3, name=name, rgb=(1, 2, 255)))
    assert parse_table(make_pam(layer, [0] * 256, None))[0]["Class"] == name
    entry = next(ET.fromstring(make_qml(layer)).iter("paletteEntry"))
    assert entry.attrib == {"value": "3", "color": "#0102ff", "alpha": "255", "label": name}


def test_qml_shows_classes_in_order_and_no_nodata():
    qml = ET.fromstring(make_qml(LABELS))
    assert qml.find("pipe/rasterrenderer").attrib["type"] == "paletted"
    assert [entry.attrib["value"] for entry in qml.iter("paletteEntry")] == ["0", "1", "4"]


@pytest.mark.parametrize(
    ("num_classes", "values", "labels"),
    [
        (1, ["0", "63.5", "127", "190.5", "254"], ["0 %", "25 %", "50 %", "75 %", "100 %"]),
        (2, ["127", "158.75", "190.5", "222.25", "254"], ["50 %", "62 %", "75 %", "88 %", "100 %"]),
        (5, ["50.8", "101.6", "152.4", "203.2", "254"], ["20 %", "40 %", "60 %", "80 %", "100 %"]),
        (10, ["25.4", "82.55", "139.7", "196.85", "254"], ["10 %", "32 %", "55 %", "78 %", "100 %"]),
    ],
)
def test_the_legend_of_confidence_begins_at_one_over_the_number_of_classes(num_classes, values, labels):
    classes = tuple(ClassInfo(id=i, name=f"class {i}", rgb=(i, i, i)) for i in range(num_classes))
    layer = make_layers(("labels", "confidence"), classes)[1]
    qml = ET.fromstring(make_qml(layer))
    items = qml.findall(".//item")
    assert [item.get("value") for item in items] == values
    assert [item.get("label") for item in items] == labels
    assert qml.find("pipe/rasterrenderer").get("classificationMin") == values[0]
    assert layer.least == pytest.approx(float(values[0]) / 254)


@pytest.mark.parametrize(("kind", "least"), [("measure", 1.0), ("measure", -0.1), ("classes", 0.5)])
def test_a_legend_without_a_range_is_refused(kind, least):
    with pytest.raises(InputError, match="a measure must have a range"):
        Layer(name="x", dtype="uint8", nodata=255, kind=kind, least=least)


def test_qml_shows_confidence_in_percent():
    qml = ET.fromstring(make_qml(CONFIDENCE))
    assert qml.find("pipe/rasterrenderer").attrib["type"] == "singlebandpseudocolor"
    labels = {item.attrib["value"]: item.attrib["label"] for item in qml.iter("item")}
    assert labels == {"0": "0 %", "63.5": "25 %", "127": "50 %", "190.5": "75 %", "254": "100 %"}


def test_texts_do_not_depend_on_the_order_of_classes():
    assert make_pam(LABELS, COUNTS, None) == make_pam(make_layer(*CLASSES[::-1]), COUNTS, None)
    assert make_qml(LABELS) == make_qml(make_layer(*CLASSES[::-1]))


@pytest.mark.parametrize("classes", [(LAND, LAND), (LAND, ClassInfo(id=255, name="x", rgb=(0, 0, 0)))])
def test_legends_that_cannot_be_meant_are_refused(classes):
    with pytest.raises(InputError, match="a code of its own, other than nodata"):
        make_layer(*classes)


def test_gdal_reads_a_layer_with_its_sidecars(tmp_path):
    pixels = np.array([[0, 1, 4, 255]], np.uint8)
    georef = Georef(width_px=4, height_px=1, crs_wkt=None, transform=(1.0, 0.0, 5.0, 0.0, -1.0, 6.0))
    path = tmp_path / "labels.tif"
    made = write_cog(
        path, georef, LABELS, lambda *_: pixels, scratch=tmp_path, stripe_px=16, options=CogOptions(block_px=16)
    )
    texts = make_sidecars(LABELS, made)
    (tmp_path / "labels.tif.aux.xml").write_text(texts[".aux.xml"], encoding="utf-8")
    with rasterio.open(path) as file:
        assert [name.rsplit("/")[-1] for name in file.files] == ["labels.tif", "labels.tif.aux.xml"]
        assert np.array_equal(file.read(1), pixels)
        assert file.colormap(1)[1] == (0, 0, 250, 255)
    assert texts.keys() == {".aux.xml", ".qml"}


def test_a_measure_with_an_ordinary_system_needs_no_pam(tmp_path):
    georef = Georef(width_px=1, height_px=1, crs_wkt=None, transform=(1.0, 0.0, 5.0, 0.0, -1.0, 6.0))
    made = write_cog(tmp_path / "c.tif", georef, CONFIDENCE, lambda *_: np.zeros((1, 1), np.uint8), scratch=tmp_path)
    assert make_sidecars(CONFIDENCE, made) == {".qml": make_qml(CONFIDENCE)}
