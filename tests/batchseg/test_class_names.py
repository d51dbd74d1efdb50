"""Names of classes: refused before any work where an output could not hold them, and held by every output otherwise."""

from __future__ import annotations

import csv
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
import rasterio
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from batchseg.classes import MAX_NAME_LENGTH, ClassInfo, make_distinct, problems_of_classes
from batchseg.errors import InputError
from batchseg.layers import make_layers
from batchseg.layers.layer import Layer
from batchseg.model.bundle import open_bundle
from batchseg.model.card import make_card
from batchseg.model.quality import TrainedQuality
from batchseg.output.gdal_tags import make_template
from batchseg.output.sidecars import make_pam, make_qml
from batchseg.output.zarr_metadata import make_layer_attributes
from batchseg.reports.stac import describe_band
from batchseg.scene.georef import Georef
from batchseg.training.curves import open_curves
from jobs.cli import main
from tests.batchseg.model.model_bundles import contract, write_random

BAD_NAMES = [
    "",
    " ",
    " water",
    "water ",
    "wa\nter",
    "wa\rter",
    "water\0",
    "\x1b[31mwater",
    "wa\u202eter",
    "wa\u2028ter",
    "\u200bwater",
    "\ud800",
    "wa\u00a0ter",
    "\ufffe",
    "x" * (MAX_NAME_LENGTH + 1),
]
ALIKE = [("Water", "water"), ("a  b", "a b"), ("straße", "STRASSE"), ("ﬁeld", "field"), ("x", "x"), ("Å", "Å")]


def make_classes(names: list[str]) -> tuple[ClassInfo, ...]:
    return tuple(ClassInfo(id=3 * i, name=name, rgb=(i, 2, 200)) for i, name in enumerate(names))


@pytest.mark.parametrize("name", BAD_NAMES)
def test_names_that_an_output_cannot_hold_are_refused(name: str) -> None:
    with pytest.raises(InputError, match=r"cannot be shown.*1 to 200 printable characters") as caught:
        ClassInfo(id=0, name=name, rgb=(0, 0, 0))
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("pair", ALIKE)
def test_names_that_people_or_vector_files_cannot_tell_apart_are_refused(pair: tuple[str, str]) -> None:
    assert any("must differ" in problem for problem in problems_of_classes(make_classes([*pair, "other"])))


def test_a_number_as_a_name_is_the_id() -> None:
    """Features of a vector file name a class by its id or its name."""
    assert any("must be the id" in problem for problem in problems_of_classes(make_classes(["3", "0"])))
    assert not list(problems_of_classes(make_classes(["0", "3"])))


def rename(item: dict[str, Any], *names: str) -> None:
    for one, name in zip(item["properties"]["mlm:output"][0]["classification:classes"], names, strict=False):
        one["name"] = name


@pytest.mark.parametrize("names", [*([name] for name in BAD_NAMES), *map(list, ALIKE)])
def test_a_bundle_with_such_names_is_not_opened(names: list[str], tmp_path: Path) -> None:
    folder = write_random(tmp_path / "net").folder
    item = json.loads((folder / "item.json").read_text())
    rename(item, *names)
    (folder / "item.json").write_text(json.dumps(item))
    with pytest.raises(InputError) as caught:
        open_bundle(str(folder))
    assert caught.value.exit_status == 2


@pytest.mark.parametrize("field", ["name", "band"])
@pytest.mark.parametrize("name", BAD_NAMES)
def test_bundles_and_bands_have_such_names_neither(field: str, name: str, tmp_path: Path) -> None:
    bands = contract().bands
    with pytest.raises(InputError, match=r"contradicts itself.*1 to 200 printable characters"):
        contract(**({"name": name} if field == "name" else {"bands": (*bands[:2], replace(bands[2], name=name))}))


@pytest.mark.parametrize("names", [["wa\nter", "land"], ["Water", "water"], ["water ", "land"]])
def test_a_training_and_an_import_refuse_them_first(
    names: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ground = {"rasters": [{"image": "a.tif", "labels": "b.tif"}]}
    classes = [{"id": i, "name": name, "rgb": [0, 0, i]} for i, name in enumerate(names)]
    recipe = {"name": "n", "tier": "bulk", "architecture": {"kind": "bulknet", "width": 8}, "halo_px": 0}
    recipe |= {"classes": classes, "train": ground, "validate": {"rasters": [{"image": "c.tif", "labels": "d.tif"}]}}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    assert main(["train", str(tmp_path / "recipe.yaml"), str(tmp_path / "net")]) == 2
    told = capsys.readouterr().err
    assert "class" in told
    assert told.count("\n") == 1
    assert not (tmp_path / "net").exists()


NAME = st.text(
    st.characters(exclude_categories=["C", "Z"]) | st.sampled_from("|,;\"'<&>]]`=:%\\_ -"), min_size=1, max_size=20
)
GOOD = st.lists(NAME.map(lambda name: name.strip() or "-"), min_size=1, max_size=8).map(
    lambda names: (
        [name for i, name in enumerate(names) if not list(problems_of_classes(make_classes(names[: i + 1])))]
        or ["land"]
    )
)
HOSTILE = ["a,b", '"quoted"', "<b>&amp;", "]]>", "a|b", "a_b", "a b", "loss", "miou", "__proto__", "=1+1", "森林", "é"]


def make_layer(names: list[str]) -> Layer:
    (labels,) = make_layers(("labels",), make_classes(names))
    return labels


@settings(max_examples=60, deadline=None)
@given(names=GOOD)
def test_texts_of_outputs_hold_every_name(names: list[str]) -> None:
    check_texts(names)


def test_texts_of_outputs_hold_hostile_names() -> None:
    check_texts(HOSTILE)


def check_texts(names: list[str]) -> None:
    layer = make_layer(names)
    table = ET.fromstring(make_pam(layer, [0] * 256, None))
    assert [row[1].text for row in table.iter("Row")] == names
    assert [one.text for one in table.iter("Category") if one.text] == names
    assert [entry.get("label") for entry in ET.fromstring(make_qml(layer)).iter("paletteEntry")] == names
    meanings = json.loads(json.dumps(make_layer_attributes(layer)))["flag_meanings"].split(" ")
    assert len(set(meanings)) == len(names)
    stac = describe_band(layer)["classification:classes"]
    assert [one["title"] for one in stac] == names
    assert len({one["name"] for one in stac}) == len(names)
    assert all(re.fullmatch("[0-9A-Za-z_-]+", one["name"]) for one in stac)


@settings(max_examples=25, deadline=None)
@given(names=GOOD)
def test_gdal_gives_every_name_back(names: list[str], tmp_path_factory: pytest.TempPathFactory) -> None:
    folder, layer = tmp_path_factory.mktemp("names"), make_layer(names)
    make_template(
        Georef(width_px=1, height_px=1, crs_wkt=None, transform=(2.0, 0.0, 0.0, 0.0, -2.0, 0.0)), layer, {}, folder
    )
    with rasterio.open(folder / "template.tif") as raster:
        tags = raster.tags()
    assert [tags[f"class_{3 * i}"] for i in range(len(names))] == names


@settings(max_examples=25, deadline=None)
@given(names=GOOD)
def test_tables_hold_every_name(names: list[str], tmp_path_factory: pytest.TempPathFactory) -> None:
    check_tables(names, tmp_path_factory.mktemp("names"))


def test_tables_hold_hostile_names(tmp_path: Path) -> None:
    check_tables(HOSTILE, tmp_path)


def check_tables(names: list[str], folder: Path) -> None:
    with open_curves(folder, 0, ("loss",), names) as (_, watched):
        watched.add(1, [0.5, *(0.25 for _ in names)])
    with (folder / "watched.csv").open(newline="", encoding="utf-8") as file:
        head, line = csv.reader(file)
    assert [text.removeprefix("class ") for text in head[2:]] == [text.removeprefix("class ") for text in names]
    assert len(set(head)) == len(head) == len(line)
    original = open_bundle("zoo:aerial-heavy", check_weights=False).contract
    assert isinstance(original.quality, TrainedQuality)
    scores = dict.fromkeys(names, 0.5)
    card = make_card(replace(original, quality=replace(original.quality, iou=scores, recall=scores, precision=scores)))
    rows = [re.split(r"(?<!\\)(?:\\\\)*\|", text) for text in card.splitlines() if text.startswith("| ")]
    assert {len(cells) for cells in rows} == {6}
    assert len(rows) == len(names) + 2


@given(words=st.lists(st.text("ab_1", min_size=1, max_size=4), max_size=12))
def test_words_with_codes_are_distinct(words: list[str]) -> None:
    distinct = make_distinct(words, range(len(words)))
    assert len(set(distinct)) == len(words)
