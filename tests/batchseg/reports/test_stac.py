"""The STAC item of a scene, read as catalogs read it."""

from __future__ import annotations

import json
from hashlib import blake2b
from pathlib import Path

import pystac
import pytest
import shapely
from pystac.extensions.classification import Classification

from batchseg.reports.stac import make_machine_name
from tests.batchseg.output.test_mosaic import SHEET, make_recipe, run_recipe
from tests.placed_scenes import PLACES
from tests.runs import CLASSES
from tests.stac import problems_of


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("stac")
    run_recipe(make_recipe(folder, *PLACES, output="one", sheet=32768))
    run_recipe(make_recipe(folder, "utm", output="many", sheet=SHEET))
    return folder


@pytest.mark.parametrize("scene", [*(f"one/{name}" for name in PLACES), "many/utm"])
def test_items_are_valid_and_lie_where_the_scene_lies(folder, scene):
    path = folder / scene / "item.json"
    content = json.loads(path.read_text())
    assert problems_of(content) == []
    item = pystac.Item.from_file(str(path))
    place = PLACES[item.id]
    assert item.properties["proj:code"] == place.crs
    assert item.properties["proj:shape"] == [80, 96]
    assert item.properties["proj:transform"] == pytest.approx(list(place.transform)[:6])
    ground = shapely.geometry.shape(item.geometry)
    assert ground.is_valid
    west, south, east, north = item.bbox
    assert max(abs(west), abs(east)) <= 180
    if item.id.startswith("antimeridian"):
        assert west > east
        assert ground.geom_type == "MultiPolygon"
        assert all(part.bounds[2] - part.bounds[0] < 1 for part in ground.geoms)
    else:
        assert ground.bounds == pytest.approx((west, south, east, north))


@pytest.mark.parametrize("scene", ["one/utm", "many/utm"])
def test_assets_are_the_files_that_are_there(folder, scene):
    item = pystac.Item.from_file(str(folder / scene / "item.json"))
    for name, asset in item.assets.items():
        path = folder / scene / asset.href
        assert path.exists(), name
        if "file:size" in asset.extra_fields:
            assert asset.extra_fields["file:size"] == path.stat().st_size
            digest = blake2b(path.read_bytes(), digest_size=16).hexdigest()
            assert asset.extra_fields["file:checksum"] == f"90e40210{digest}"
    (band,) = item.assets["labels"].to_dict()["bands"]
    classes = [Classification(one) for one in band["classification:classes"]]
    shown = [(one.id, one.name, "{:02X}{:02X}{:02X}".format(*one.rgb)) for one in CLASSES]
    assert [(one.value, one.title, one.color_hint) for one in classes] == shown


@pytest.mark.parametrize(
    "hurt",
    [
        lambda item: item["assets"]["labels"]["bands"][0]["classification:classes"][0].update(name="class 0"),
        lambda item: item["assets"]["labels"].update({"file:size": "many"}),
        lambda item: item["assets"]["confidence"]["bands"][0].update({"raster:sampling": "here and there"}),
        lambda item: item["properties"].update({"proj:shape": [80]}),
        lambda item: item["properties"].update({"proj:projjson": {"type": "no CRS"}}),
        lambda item: item["properties"].update({"processing:software": 1}),
    ],
)
def test_the_schemas_would_say_so(folder, hurt):
    content = json.loads((folder / "one" / "utm" / "item.json").read_text())
    hurt(content)
    assert problems_of(content) != []


@pytest.mark.parametrize(
    ("name", "slug"), [("class 0", "class_0"), ("Wald & Forst", "Wald_Forst"), ("forêt", "foret"), ("森林", "class_7")]
)
def test_names_of_any_language_get_one_for_machines(name, slug):
    assert make_machine_name(name, 7) == slug


def test_figures_are_those_of_the_metrics(folder):
    item = json.loads((folder / "one" / "utm" / "item.json").read_text())
    metrics = json.loads((folder / "one" / "metrics.json").read_text())["scenes"]["utm"]
    properties = item["properties"]
    for name in ("iou", "miou", "cost_usd", "cost_usd_per_km2", "area_km2", "class_area_km2"):
        assert properties[f"batchseg:{name}"] == metrics[name]
    assert properties["batchseg:coverage"]["chunks"] == metrics["chunks"]
    assert properties["batchseg:coverage"]["valid_share"] == pytest.approx(1 - 256 / (80 * 96), abs=1e-6)
    models = [link["href"] for link in item["links"] if link["rel"] == "mlm:model"]
    assert [json.loads(Path(href).read_text())["properties"]["mlm:name"] for href in models] == ["wide"]
