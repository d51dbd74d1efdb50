"""The VRTs beside a Zarr show its layers with place, names, colours and coarser levels."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import rasterio

from batchseg.classes import ClassInfo
from batchseg.layers import make_layers
from batchseg.output.stored import ZarrLayout
from batchseg.output.zarr_view import make_zarr_views
from batchseg.recipe import Tiling
from batchseg.resolve.output_keys import list_output_keys
from batchseg.resolve.resolve import resolve
from batchseg.scene.georef import Georef
from tests.batchseg.output.test_mosaic import make_recipe, run_recipe
from tests.placed_scenes import PLACES
from tests.runs import Workplace, noise, product_bytes

LAYERS = ("labels", "confidence", "tier")


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs over all places, moved away after they ended."""
    folder = tmp_path_factory.mktemp("views")
    run_recipe(make_recipe(folder, *PLACES, output="made", sheet=32768))
    shutil.move(folder / "made", folder / "moved")
    return folder / "moved"


@pytest.mark.parametrize("name", PLACES)
def test_a_view_shows_what_the_geotiff_shows(output: Path, name: str) -> None:
    for layer in LAYERS:
        with (
            rasterio.open(output / name / f"{layer}.tif") as tif,
            rasterio.open(output / name / f"mask_{layer}.vrt") as vrt,
        ):
            assert np.array_equal(vrt.read(1), tif.read(1)), layer
            assert vrt.transform.almost_equals(tif.transform, 1e-9)
            assert (vrt.crs, vrt.nodata, vrt.gcps[0]) == (tif.crs, tif.nodata, tif.gcps[0])
            assert vrt.descriptions == (layer,)
            if layer == "labels":
                assert vrt.colormap(1) == tif.colormap(1)
        assert (output / name / f"mask_{layer}.qml").read_bytes() == (output / name / f"{layer}.qml").read_bytes()


@pytest.mark.parametrize(("sheet", "factors"), [(32768, [2, 4]), (1024, [2])])
def test_coarser_levels_are_those_of_the_zarr(tmp_path: Path, sheet: int, factors: list[int]) -> None:
    place = Workplace.of(tmp_path, noise(70, 90).repeat(20, 1).repeat(20, 2))
    place.run(tiling=Tiling(core=256, chunk=512, sheet=sheet))
    scene = place.output / "scene0"
    with rasterio.open(scene / "mask_labels.vrt") as file:
        assert file.overviews(1) == factors
    for level in range(1, len(factors) + 1):
        with (
            rasterio.open(scene / "mask_labels.vrt", overview_level=level - 1) as vrt,
            rasterio.open(scene / "mask.zarr" / str(level) / "labels") as array,
        ):
            assert np.array_equal(vrt.read(1), array.read(1))


def test_class_ids_of_16_bits_have_names_and_colours_in_the_style() -> None:
    classes = (ClassInfo(id=3, name="low & wet", rgb=(1, 2, 3)), ClassInfo(id=700, name="high", rgb=(4, 5, 6)))
    (labels,) = make_layers(("labels",), classes)
    georef = Georef(width_px=10, height_px=10, crs_wkt=None, transform=None)
    layout = ZarrLayout(scene="scene", georef=georef, chunk_px=32, sheet_px=32, layers=(labels,))
    views = make_zarr_views(layout)
    assert 'dataType="UInt16"' in views["scene/mask_labels.vrt"].decode()
    assert "<ColorTable>" not in views["scene/mask_labels.vrt"].decode()
    assert "<Category>low &amp; wet</Category>" in views["scene/mask_labels.vrt"].decode()
    assert 'value="700" color="#040506" alpha="255" label="high"' in views["scene/mask_labels.qml"].decode()


def test_views_are_of_the_output_and_of_its_bytes(tmp_path: Path) -> None:
    place = Workplace.of(tmp_path, noise(40, 40))
    place.run()
    names = [f"scene0/mask_{layer}{suffix}" for layer in LAYERS for suffix in (".vrt", ".qml")]
    assert set(names) <= product_bytes(place.output).keys()
    keys = list_output_keys(scene.zarr for scene in resolve(place.recipe()).job.scenes.values())
    assert all(keys.owns(name) for name in names)
    place.run(outputs=("labels",), output=str(tmp_path / "labels_only"))
    assert sorted(path.name for path in (tmp_path / "labels_only" / "scene0").glob("mask_*")) == [
        "mask_labels.qml",
        "mask_labels.vrt",
    ]
