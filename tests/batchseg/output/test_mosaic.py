"""The mosaic of a scene that is cut into sheets equals, at any moment, the raster that one sheet would be."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
import zarr
from hypothesis import given
from hypothesis import strategies as st

from batchseg.layers.layer import Layer
from batchseg.ledger.keys import SheetKey
from batchseg.ledger.ledger import Ledger
from batchseg.output.levels import choose_sheet_side_px, choose_zarr_levels
from batchseg.output.sheet import choose_stripe_px
from batchseg.recipe import Models, Tiling
from batchseg.runs.session import run
from batchseg.store import LocalStore
from tests.fakes import Crash, CrashingStore
from tests.placed_scenes import PLACES, patch_pool, write_placed
from tests.runs import Workplace, noise, product_bytes, write_fake_bundle
from tiling.span import Window

SHEET = 64


def make_recipe(folder: Path, *names: str, output: str, sheet: int):
    scenes = tuple(write_placed(folder, name) for name in names)
    models = Models(bulk=write_fake_bundle(folder / "wide", gsd_m=(0.001, 1000.0)))
    return Workplace(folder, scenes).recipe(
        output=str(folder / output), models=models, tiling=Tiling(core=16, chunk=32, sheet=sheet)
    )


def run_recipe(recipe, store=None):
    outcome = run(recipe, open_pool=patch_pool, store=store or LocalStore(Path(recipe.output), durable=False))
    assert outcome.exit_status == 0, outcome.why
    return outcome


@pytest.fixture(scope="module")
def outputs(tmp_path_factory) -> tuple[Path, Path]:
    """Output over all places: with one sheet per scene, and cut into sheets."""
    folder = tmp_path_factory.mktemp("places")
    recipes = [make_recipe(folder, *PLACES, output=name, sheet=px) for name, px in (("one", 32768), ("many", SHEET))]
    for recipe in recipes:
        run_recipe(recipe)
    return folder / "one", folder / "many"


@pytest.mark.parametrize("name", PLACES)
def test_a_mosaic_is_the_raster_that_one_sheet_is(outputs, name):
    one, many = outputs
    files = ["labels.vrt", "confidence.vrt", "tier.vrt"]
    place = PLACES[name].transform
    if place.b == 0 and place.e < 0:
        files += [file.replace(".vrt", ".gti.gpkg") for file in files]
    for file in files:
        layer = file.partition(".")[0]
        with rasterio.open(one / name / f"{layer}.tif") as expected, rasterio.open(many / name / file) as found:
            assert np.array_equal(found.read(1), expected.read(1)), file
            assert found.transform.almost_equals(expected.transform, 1e-9)
            assert (found.crs, found.nodata) == (expected.crs, expected.nodata)
            if layer == "labels" and file.endswith(".vrt"):
                assert found.colormap(1) == expected.colormap(1)
    assert len(list((many / name / "sheets").glob("labels_*.tif"))) == 4


def test_chunks_committed_do_not_depend_on_sheets(outputs):
    one, many = (
        {key: content for key, content in product_bytes(output).items() if "/mask.zarr/labels/" in key}
        for output in outputs
    )
    assert one == many


def test_seams_between_sheets_are_part_of_the_report(outputs):
    one, many = (json.loads((output / "metrics.json").read_text()) for output in outputs)
    assert one["seam"]["chunk"] is not None
    assert many["seam"] == one["seam"]
    assert {name: scene["seam"] for name, scene in many["scenes"].items()} == {
        name: scene["seam"] for name, scene in one["scenes"].items()
    }


@pytest.mark.parametrize("torn", [False, True])
def test_a_run_that_dies_anywhere_leaves_a_mosaic_that_is_whole(tmp_path, torn):
    recipe = make_recipe(tmp_path, "utm", output="clean", sheet=SHEET)
    clean = tmp_path / "clean"
    counting = CrashingStore(LocalStore(clean, durable=False), at=-1)
    run_recipe(recipe, counting)
    expected = product_bytes(clean)
    with rasterio.open(clean / "utm" / "labels.vrt") as file:
        labels = file.read(1)
    publishing = [i for i, what in enumerate(counting.operations) if "sheets" in what or ".vrt" in what]
    for at in publishing[:: max(1, len(publishing) // 4)]:
        again = replace(recipe, output=str(tmp_path / f"died_{at}_{torn}"))
        output = Path(again.output)
        with pytest.raises(Crash):
            run_recipe(again, CrashingStore(LocalStore(output, durable=False), at=at, torn=torn))
        if (output / "utm" / "labels.vrt").exists():
            with rasterio.open(output / "utm" / "labels.vrt") as file:
                assert np.array_equal(file.read(1), labels)
        run_recipe(again)
        assert product_bytes(output) == expected


def test_a_sheet_made_again_gets_a_new_name_and_the_old_one_goes(tmp_path):
    recipe = make_recipe(tmp_path, "utm", output="out", sheet=SHEET)
    run_recipe(recipe)
    output = tmp_path / "out"
    before = {path.name for path in (output / "utm" / "sheets").iterdir()}
    ledger = Ledger(LocalStore(output))
    sheet = next(found for found in ledger.read_sheets() if found.key == SheetKey("utm", 0, 1))
    # As if it had been made while a chunk was missing.
    ledger.commit(replace(sheet, inputs_digest="0" * 32))
    stale = output / "utm" / "sheets" / "labels_0_1-000000000000.tif"
    stale.write_bytes(b"of an earlier generation")
    run_recipe(recipe)
    assert {path.name for path in (output / "utm" / "sheets").iterdir()} == before


@given(st.integers(1, 3_000), st.integers(1, 3_000), st.integers(1, 400), st.integers(8, 2_000))
def test_no_stored_object_of_any_level_has_two_writers(height, width, chunk, limit):
    limit = max(limit, chunk)
    shape = (height, width)
    side = choose_sheet_side_px(shape, chunk, limit_px=limit)
    if max(shape) <= limit:
        assert side == max(shape)
    else:
        assert side % chunk == 0
        assert side <= limit
    for level in choose_zarr_levels(shape, side):
        assert level.shape_px == tuple(-(-size // 2**level.number) for size in shape)
        if max(shape) > side:
            assert side % 2**level.number == 0
            assert (side >> level.number) % level.stored_px == 0


@pytest.mark.parametrize("sheet", [32768, 1024])
def test_levels_of_the_zarr_are_the_overviews_of_the_geotiff(tmp_path, sheet):
    from tests.runs import noise, write_scene

    smooth = noise(150, 190, seed=3).repeat(12, 1).repeat(12, 2)[:, :1790, :2200]
    smooth[:, :700, :650] = 0
    scene = write_scene(tmp_path / "big.tif", smooth, nodata=0)
    place = Workplace(tmp_path, (scene,))
    recipe = place.recipe(tiling=Tiling(core=256, chunk=512, sheet=sheet))
    run_recipe(recipe)
    folder = tmp_path / "out" / "big"
    whole = zarr.open_group(folder / "mask.zarr", mode="r")
    numbers = sorted(int(name) for name in whole.group_keys())
    assert numbers == ([1, 2, 3] if sheet > 2200 else [1])
    for layer in ("labels", "confidence", "tier"):
        finer = whole[layer][:]
        for number in numbers:
            found = whole[str(number)][layer][:]
            assert found.shape == (-(-finer.shape[0] // 2), -(-finer.shape[1] // 2))
            if sheet > 2200:
                with rasterio.open(folder / f"{layer}.tif", overview_level=number - 1) as overview:
                    assert np.array_equal(found, overview.read(1))
            else:
                check_halved(finer, found, layer)
            finer = found


def check_halved(finer, found, layer):
    from tests.batchseg.output.test_overview import average, halve_by_cells, vote

    even = np.pad(finer, ((0, finer.shape[0] % 2), (0, finer.shape[1] % 2)), constant_values=255)
    even, found = even[600:800, 500:900], found[300:400, 250:450]
    assert np.array_equal(halve_by_cells(even, 255, average if layer == "confidence" else vote), found)


def test_a_sheet_of_narrow_stripes_is_the_same(tmp_path, monkeypatch):
    place = Workplace.of(tmp_path, noise(1100, 70))
    tiling = Tiling(core=256, chunk=1024)
    place.run(tiling=tiling)
    monkeypatch.setattr("batchseg.output.sheet.STRIPE_BYTES", 1)
    place.run(tiling=tiling, output=str(tmp_path / "narrow"))
    assert product_bytes(tmp_path / "narrow") == product_bytes(place.output)


@pytest.mark.parametrize(
    ("width_px", "rows"), [(70, 2048), (12_288, 2048), (16_384, 2048), (24_576, 1024), (32_768, 1024)]
)
def test_stripes_fit_into_memory(width_px, rows):
    layer = Layer(name="labels", dtype="uint8", nodata=255, kind="classes")
    assert choose_stripe_px(Window.of(0, 4096, 0, width_px), layer) == rows
