"""The table of layers; and a new layer is one definition and one line of that table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import zarr

from batchseg.classes import ClassInfo
from batchseg.errors import InputError, RecipeError
from batchseg.layers import LAYERS, list_default_layers, make_layers
from batchseg.layers.layer import Layer, LayerDefinition, Predicted
from batchseg.recipe import Tiling
from tests.batchseg.output.test_overview import average, halve_by_cells
from tests.runs import Workplace, noise
from tests.stac import problems_of

CERTAIN, NODATA = 254, 255


def take_doubt(prediction: Predicted) -> np.ndarray:
    confidence_HW = prediction.confidence_HW
    return np.where(confidence_HW == NODATA, NODATA, CERTAIN - confidence_HW).astype(np.uint8)


DOUBT = LayerDefinition(
    name="doubt",
    make=lambda _: Layer(
        name="doubt",
        title="doubt",
        dtype="uint8",
        nodata=NODATA,
        kind="measure",
        tags={"scale": "254 = no idea"},
    ),
    take=take_doubt,
)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workplace:
    """A run that writes a layer which is defined here and nowhere else."""
    monkeypatch.setitem(LAYERS, "doubt", DOUBT)
    place = Workplace.of(tmp_path, noise(1030, 600), tiling=Tiling(core=128, chunk=256))
    place.run(outputs=("labels", "confidence", "doubt"))
    return place


def read(path: Path) -> np.ndarray:
    with rasterio.open(path) as file:
        pixels_HW: np.ndarray = file.read(1)
    return pixels_HW


def make_report(place: Workplace) -> dict[str, Any]:
    text = (place.output / "report.html").read_text("utf-8")
    facts: dict[str, Any] = json.loads(text.partition('id="data">')[2].partition("</script>")[0])
    return facts


def test_a_new_layer_is_one_definition_and_one_line_of_the_table(place: Workplace) -> None:
    folder = place.output / "scene0"
    expected_HW = CERTAIN - read(folder / "confidence.tif")
    assert len(np.unique(expected_HW)) > 1

    array = zarr.open_group(folder / "mask.zarr", mode="r")["doubt"]
    np.testing.assert_array_equal(array[:], expected_HW)
    assert array.fill_value == NODATA
    assert array.attrs["long_name"] == "doubt"
    assert array.attrs["scale_factor"] == 1 / CERTAIN

    np.testing.assert_array_equal(read(folder / "doubt.tif"), expected_HW)
    with rasterio.open(folder / "doubt.tif") as file:
        assert (file.nodata, file.descriptions, file.tags()["scale"]) == (NODATA, ("doubt",), "254 = no idea")
        assert file.overviews(1) == [2, 4]
    with rasterio.open(folder / "doubt.tif", overview_level=0) as overview:
        np.testing.assert_array_equal(overview.read(1), halve_by_cells(expected_HW, NODATA, average))
    assert 'label="25 %"' in (folder / "doubt.qml").read_text("utf-8")

    item = json.loads((folder / "item.json").read_text("utf-8"))
    assert problems_of(item) == []
    (band,) = item["assets"]["doubt"]["bands"]
    assert (band["name"], band["data_type"], band["nodata"]) == ("doubt", "uint8", NODATA)
    assert band["raster:scale"] == 1 / CERTAIN
    assert [one["name"] for one in item["assets"]["mask"]["bands"]] == ["labels", "confidence", "doubt"]
    assert item["assets"]["doubt_qml"]["roles"] == ["style"]

    page = make_report(place)
    assert page["layers"]["doubt"] == {"title": "doubt", "kind": "measure", "classes": []}
    assert page["maps"]["scene0"]["layers"]["doubt"].startswith("data:image/png;base64,")


def test_a_new_layer_is_not_written_by_default(place: Workplace) -> None:
    place.run(output=str(place.folder / "default"))
    assert sorted(path.name for path in (place.folder / "default" / "scene0").glob("*.tif")) == [
        "confidence.tif",
        "labels.tif",
        "tier.tif",
    ]


def test_a_layer_that_the_table_does_not_hold_is_refused(tmp_path: Path) -> None:
    place = Workplace.of(tmp_path, noise(40, 40))
    with pytest.raises(RecipeError, match=r"outputs\[1\]: wrong value; expected labels or confidence or tier"):
        place.recipe(outputs=("labels", "doubt"))
    with pytest.raises(InputError, match="unknown layer; expected labels or confidence or tier, got doubt"):
        make_layers(("labels", "doubt"), ())


def test_every_definition_makes_the_layer_of_its_name() -> None:
    classes = (ClassInfo(id=3, name="rock", rgb=(1, 2, 3)),)
    assert [layer.name for layer in make_layers(LAYERS, classes)] == list(LAYERS)
    assert list_default_layers() == ("labels", "confidence", "tier")


@pytest.mark.parametrize(("highest_id", "dtype", "nodata"), [(254, "uint8", 255), (256, "uint16", 65_535)])
def test_labels_take_sixteen_bits_where_ids_do_not_fit_into_eight(highest_id: int, dtype: str, nodata: int) -> None:
    (labels,) = make_layers(("labels",), (ClassInfo(id=highest_id, name="rock", rgb=(1, 2, 3)),))
    assert (labels.dtype, labels.nodata) == (dtype, nodata)
    assert labels.palette == ({highest_id: (1, 2, 3)} if dtype == "uint8" else {})


@pytest.mark.parametrize("name", ["", "my_layer", "Labels", "x/y"])
def test_names_that_files_cannot_bear_are_refused(name: str) -> None:
    with pytest.raises(InputError, match="must be lower-case letters"):
        LayerDefinition(name=name, make=DOUBT.make, take=DOUBT.take)
