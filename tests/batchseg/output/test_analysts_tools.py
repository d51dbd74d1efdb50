"""The programs of analysts read the output of a run: QGIS, GDAL, rio-cogeo, rioxarray, rio-tiler."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
import rasterio
from pyproj import Transformer
from rio_cogeo.cogeo import cog_validate

from tests.placed_scenes import PATCH_PX, PLACES, expected_labels
from tests.runs import CLASSES

pytestmark = pytest.mark.real

PROBE = Path(__file__).parents[2] / "qgis_probe.py"
QGIS_PYTHON = "/usr/bin/python3"
LAYERS = ("labels", "confidence", "tier")
AFFINE_OF_OTHERS = pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")
"""Warning of affine, as rasterio and rioxarray call it."""
FRESH_ENV = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "GDAL_DATA", "PROJ_LIB")}


@pytest.fixture(scope="module")
def outputs(tmp_path_factory) -> dict[str, Path]:
    """Output of whole runs over all places: with one sheet per scene, and cut into sheets."""
    from tests.batchseg.output.test_mosaic import SHEET, make_recipe, run_recipe

    folder = tmp_path_factory.mktemp("places")
    for name, sheet_px in (("one", 32768), ("many", SHEET)):
        run_recipe(make_recipe(folder, *PLACES, output=name, sheet=sheet_px))
    return {"one": folder / "one", "many": folder / "many", "scenes": folder}


def compute_centres(name: str, crs: str) -> list[tuple[float, float]]:
    """Compute the centre of each patch in the coordinates of `crs`, from the place alone."""
    place = PLACES[name]
    rows, cols = np.meshgrid(np.arange(5) * PATCH_PX + 8, np.arange(6) * PATCH_PX + 8, indexing="ij")
    x, y = place.transform @ (cols.ravel().astype(float), rows.ravel().astype(float))
    if crs != place.crs:
        x, y = Transformer.from_crs(place.crs, crs, always_xy=True).transform(x, y)
    return list(zip(np.asarray(x).tolist(), np.asarray(y).tolist(), strict=True))


def to_hex(rgb: tuple[int, int, int]) -> str:
    return "#{:02x}{:02x}{:02x}".format(*rgb)


def list_expected_colours() -> list[str | None]:
    labels = expected_labels()[8::PATCH_PX, 8::PATCH_PX].ravel()
    rgb = {one.id: to_hex(one.rgb) for one in CLASSES}
    return [None, *(rgb[int(code)] for code in labels[1:])]  # the first patch is nodata


def list_files(outputs: dict[str, Path], name: str) -> dict[str, str]:
    """List the files of one scene, by the names that QGIS opens them under."""
    one, many = outputs["one"] / name, outputs["many"] / name
    files = {f"{layer}.tif": str(one / f"{layer}.tif") for layer in LAYERS}
    files |= {f"{layer}.vrt": str(many / f"{layer}.vrt") for layer in LAYERS}
    files |= {f"mask_{layer}.vrt": str(one / f"mask_{layer}.vrt") for layer in LAYERS}
    return files | {f"{layer}.zarr": f'ZARR:"{one / "mask.zarr"}":/{layer}' for layer in LAYERS}


@pytest.fixture(scope="module")
def seen(outputs) -> dict[tuple[str, str, str], dict]:
    """What QGIS reports, by scene, file and coordinate system of the map."""
    keys, tasks = [], []
    for name, place in PLACES.items():
        systems = {place.crs} | ({"EPSG:3857"} if name in ("utm", "rotated", "south_up", "geographic") else set())
        for file, url in {**list_files(outputs, name), "scene": str(outputs["scenes"] / f"{name}.tif")}.items():
            for crs in sorted(systems):
                keys.append((name, file, crs))
                shot = outputs["one"].parent / f"{name}_{file}_{crs.replace(':', '')}.png"
                tasks.append({"file": url, "crs": crs, "points": compute_centres(name, crs), "shot": str(shot)})
    job = outputs["one"].parent / "job.json"
    job.write_text(json.dumps(tasks))
    ran = subprocess.run(
        [QGIS_PYTHON, str(PROBE), str(job)],
        capture_output=True,
        text=True,
        timeout=240,
        env=FRESH_ENV | {"QT_QPA_PLATFORM": "offscreen", "HOME": str(job.parent)},
        check=False,
    )
    assert ran.returncode == 0, f"make test-real installs python3-qgis; {ran.stderr}"
    return dict(zip(keys, json.loads(ran.stdout.splitlines()[-1]), strict=True))


@pytest.mark.parametrize("name", PLACES)
def test_qgis_shows_every_output_in_the_place_of_its_scene(seen, name):
    for (scene, file, _), found in seen.items():
        if scene != name or file == "scene":
            continue
        if name == "rotated" and file.endswith(".zarr"):
            assert found["crs"] == "", "GDAL cannot rotate a Zarr: it must not show it in a wrong place"
            continue
        original = next(v for (s, f, _), v in seen.items() if (s, f) == (name, "scene"))
        assert found["valid"], file
        assert found["crs"] == original["crs"] == PLACES[name].crs, file
        assert found["extent"] == pytest.approx(original["extent"], rel=1e-12), file


@pytest.mark.parametrize("name", PLACES)
def test_labels_come_up_paletted_with_class_names_and_rendered_in_their_colours(seen, name):
    legend = [[one.id, one.name, to_hex(one.rgb)] for one in CLASSES]
    checked = 0
    for (scene, file, _crs), found in seen.items():
        if scene == name and file in ("labels.tif", "labels.vrt", "mask_labels.vrt"):
            assert found["renderer"] == "paletted", file
            assert found["legend"] == legend, file
            for (colour, alpha), expected in zip(found["colours"], list_expected_colours(), strict=True):
                assert (alpha == 0) if expected is None else (colour, alpha) == (expected, 255), (file, _crs)
            checked += 1
    assert checked >= 3


@pytest.mark.parametrize("name", [name for name in PLACES if name != "rotated"])
def test_the_zarr_shows_each_class_where_it_is(seen, name):
    """GDAL reads no colours from a Zarr. QGIS shows one grey per class, and each patch must have its own."""
    labels = expected_labels()[8::PATCH_PX, 8::PATCH_PX].ravel().tolist()
    (found,) = (v for (s, f, c), v in seen.items() if (s, f, c) == (name, "labels.zarr", PLACES[name].crs))
    greys = {}
    for label, (colour, alpha) in list(zip(labels, found["colours"], strict=True))[1:]:
        assert alpha == 255
        greys.setdefault(label, set()).add(colour)
    assert all(len(found) == 1 for found in greys.values())
    assert len(set.union(*greys.values())) == len(CLASSES)
    assert found["colours"][0][1] == 0


def test_confidence_and_tiers_have_legends_too(seen):
    for file in ("confidence.tif", "confidence.vrt", "mask_confidence.vrt"):
        confidence = seen["utm", file, "EPSG:32633"]
        assert confidence["renderer"] == "singlebandpseudocolor"
        assert [label for label, _ in confidence["legend"]] == ["20 %", "40 %", "60 %", "80 %", "100 %"]
    for file in ("tier.tif", "tier.vrt", "mask_tier.vrt"):
        tier = seen["utm", file, "EPSG:32633"]
        assert tier["renderer"] == "paletted"
        assert tier["legend"][0][1] == "bulk"


@pytest.mark.parametrize("file", ["one/utm/labels.tif", "many/utm/labels.vrt"])
def test_gdalinfo_tells_names_colours_and_areas(outputs, file):
    path = outputs["scenes"] / file
    told = subprocess.run(
        ["gdalinfo", "-json", str(path)], capture_output=True, text=True, check=True, env=FRESH_ENV
    ).stdout
    facts = json.loads(told)
    (band,) = facts["bands"]
    assert band["description"] == "labels"
    assert band["noDataValue"] == 255
    assert band["colorInterpretation"] == "Palette"
    assert facts["rat"]["tableType"] == "thematic"
    fields = [field["name"] for field in facts["rat"]["fieldDefn"]]
    rows = [dict(zip(fields, row["f"], strict=True)) for row in facts["rat"]["row"]]
    assert [row["Class"] for row in rows] == [one.name for one in CLASSES]
    num_px = np.bincount(expected_labels()[expected_labels() != 255], minlength=5)
    num_px[expected_labels()[0, 0]] -= PATCH_PX**2
    assert [row["Count"] for row in rows] == num_px.tolist()
    assert [row["Area_km2"] for row in rows] == pytest.approx(num_px * 1e-4, rel=2e-3)


@pytest.mark.parametrize("layer", LAYERS)
def test_gdalinfo_finds_statistics_and_writes_nothing(outputs, layer):
    """Without statistics a program reads all pixels, and writes the statistics into our sidecar."""
    path = outputs["one"] / "utm" / f"{layer}.tif"
    before = {one: one.read_bytes() for one in path.parent.glob("*.xml")}
    told = subprocess.run(
        ["gdalinfo", "-stats", "-json", str(path)], capture_output=True, text=True, check=True, env=FRESH_ENV
    ).stdout
    facts = json.loads(told)
    assert facts["metadata"]["IMAGE_STRUCTURE"]["LAYOUT"] == "COG"
    (band,) = facts["bands"]
    with rasterio.open(path) as file:
        valid = file.read(1, masked=True).compressed()
    assert (band["minimum"], band["maximum"]) == (valid.min(), valid.max())
    assert band["mean"] == pytest.approx(valid.mean(), abs=1e-3)
    assert {one: one.read_bytes() for one in path.parent.glob("*.xml")} == before


def test_every_geotiff_is_a_valid_cog(outputs):
    files = sorted(outputs["scenes"].glob("*/*/**/*.tif"))
    assert len(files) == 3 * len(PLACES) * (1 + 4)
    for file in files:
        assert cog_validate(file, strict=True) == (True, [], []), file


@AFFINE_OF_OTHERS
@pytest.mark.parametrize("name", PLACES)
def test_rioxarray_has_the_place_from_the_zarr(outputs, name):
    import rioxarray  # noqa: F401
    import xarray

    place = PLACES[name]
    data = xarray.open_zarr(outputs["one"] / name / "mask.zarr")
    for variable in (data, data.labels):
        assert variable.rio.crs == rasterio.crs.CRS.from_string(place.crs)
    assert data.labels.rio.transform().almost_equals(place.transform, 1e-6)
    assert data.labels.dims == ("y", "x")
    assert data.labels.attrs["flag_values"] == [one.id for one in CLASSES]
    assert data.labels.attrs["flag_meanings"].split() == [one.name.replace(" ", "_") for one in CLASSES]
    codes = data.labels.fillna(255).astype("uint8").values
    assert np.array_equal(codes[PATCH_PX:], expected_labels()[PATCH_PX:])
    assert (codes[:PATCH_PX, :PATCH_PX] == 255).all()


@AFFINE_OF_OTHERS
@pytest.mark.parametrize("name", ["utm", "geographic", "web_mercator", "polar", "antimeridian"])
def test_rio_tiler_reads_points(outputs, name):
    from rio_tiler.io import Reader

    for path in (outputs["one"] / name / "labels.tif", outputs["many"] / name / "labels.vrt"):
        with Reader(str(path)) as reader:
            points = compute_centres(name, "EPSG:4326")
            labels = expected_labels()[8::PATCH_PX, 8::PATCH_PX].ravel()
            for (lon, lat), label in list(zip(points, labels, strict=True))[1::7]:
                assert int(reader.point(lon, lat).data[0]) == label
