"""What is refused is refused in one line, which shows no credential of the recipe, the fleet or the environment."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from jobs.cli import main
from jobs.verbs.nightly import run_main
from tests.jobs.command_line import alone
from tests.jobs.planted_secrets import ENVIRONMENT, QUERY, SIGNATURE, WORD, check, host, place, plant, write_recipe
from tests.runs import noise, write_scene

__all__ = ["alone", "host", "place", "plant"]
pytestmark = pytest.mark.timeout(120)

BROKEN = {
    "an address that is none": {"scenes": [f"ftp://user:{WORD}@host/x.tif"]},
    "a missing object": {"scenes": ["http://{host}/none.tif?" + QUERY]},
    "a wrong signature": {"scenes": ["http://{host}/scene0.tif?sig=c4n4ry"], "aoi": f"https://u:{WORD}@localhost:1/a"},
    "a broken server": {"scenes": ["http://{host}/broken.tif?" + QUERY]},
    "two of one name": {"scenes": ["http://{host}/scene0.tif?" + QUERY, "http://{host}/scene0.tif?a=1&" + QUERY]},
    "a password with a slash": {"scenes": [f"s3://KEY:{WORD}/a+b@bucket/x.tif"]},
    "another one": {"scenes": [f"http://user:a/{WORD}@localhost:1/x.tif"]},
    "polygons with a password": {"aoi": f"gs://KEY:a/{WORD}@bucket/x.geojson"},
    "a password with a hash": {"scenes": [f"http://user:{WORD}#a@" + "{host}/x.tif"]},
    "a password with a space": {"scenes": [f"http://user:a {WORD} b'c@" + "{host}/x.tif"]},
    "an option of GDAL": {"scenes": [f"/vsicurl?header.Authorization=Bearer%20{WORD}&url=http://" + "{host}/none.tif"]},
    "a database": {"scenes": [f"PG:host=localhost password='{WORD} x' dbname=y"]},
    "a description of a service": {"scenes": [f"<GDAL_WMS><UserPwd>u:{WORD}</UserPwd></GDAL_WMS>"]},
    "labels": {"labels": ["http://{host}/none.tif?" + QUERY]},
    "polygons": {"aoi": "http://{host}/none.geojson?" + QUERY},
    "a layer of polygons": {"aoi": "http://{host}/town.geojson?" + QUERY + "|layername=none"},
    "a filter": {
        "route": {"priority": [{"polygons": "http://{host}/town.geojson?" + QUERY, "where": f"token = '{WORD}'"}]}
    },
    "an output": {"output": f"s3://KEY:{WORD}/x@bucket/out"},
    "an output with a query": {"output": f"s3://bucket/out?secret={WORD}"},
    "a bundle": {"models": {"bulk": "http://{host}/none?" + QUERY}},
    "a bundle with a password": {"models": {"bulk": f"http://u:{WORD}/x@" + "{host}/none"}},
    "an unknown key": {f"https://u:{WORD}@host": 1},
    "a wrong type": {"tiling": f"https://u:{WORD}@host"},
    "a wrong value": {"nodata": {"from": f"https://h/x?sig={WORD}"}},
    "a name with a credential": {"scenes": ["{inputs}/" + ENVIRONMENT["MY_API_KEY"] + ".tif"]},
}


@pytest.mark.parametrize("kind", BROKEN)
def test_refusals(kind: str, place: Path, host: str, capfd: pytest.CaptureFixture[str]) -> None:
    inputs = place.parent / "inputs"
    write_scene(inputs / f"{ENVIRONMENT['MY_API_KEY']}.tif", noise(40, 40))
    text = json.dumps(BROKEN[kind]).replace("{host}", host).replace("{inputs}", str(inputs))
    recipe = write_recipe(place, [str(inputs / "scene0.tif")], **json.loads(text))
    for verb in ("plan", "run"):
        status = main([verb, recipe])
        told = capfd.readouterr()
        assert status == 2
        assert told.err.startswith("batchseg: ")
        assert told.err.count("\n") == 1
        assert WORD not in told.out + told.err
    check(place, capfd)


def test_the_credential_is_not_cut_out_of_a_line_of_yaml(place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (place / "recipe.yaml").write_text(f"scenes: [https://h/x.tif?{'a' * 60}&sig={SIGNATURE}, b: c: d]\n")
    assert main(["plan", str(place / "recipe.yaml")]) == 2
    assert "in line 1, column " in check(place, capfd)


@pytest.mark.parametrize(
    ("file", "text"), [("fleet", f"ec2_notice: ftp://u:{WORD}@h"), ("night", f"x: [https://u:{WORD}@h]")]
)
def test_other_files(file: str, text: str, place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (place / "other.yaml").write_text(text)
    recipe = write_recipe(place, [str(place.parent / "inputs" / "scene0.tif")])
    other = str(place / "other.yaml")
    assert (run_main([other]) if file == "night" else main(["plan", recipe, "--fleet", other])) == 2
    check(place, capfd)
