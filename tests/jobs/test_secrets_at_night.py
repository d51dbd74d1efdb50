"""Nights know a scene by its public address: no file of theirs has a signature, and a new signature is no new scene."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from jobs.verbs.nightly import run_main
from tests.jobs.command_line import alone
from tests.jobs.planted_secrets import QUERY, WORD, check, host, list_addresses, place, plant, write_recipe

__all__ = ["alone", "host", "place", "plant"]
pytestmark = pytest.mark.timeout(120)


def write_night(place: Path, **changes: Any) -> str:
    night = {
        "recipe": str(place / "recipe.yaml"),
        "output": str(place / "nights"),
        "latest": {"coverage": 0.1, "failed_scenes": 9},
    }
    (place / "night.yaml").write_text(yaml.safe_dump(night | changes))
    return str(place / "night.yaml")


def test_nights_know_a_scene_by_its_public_address(place: Path, host: str, capfd: pytest.CaptureFixture[str]) -> None:
    write_recipe(place, ["never used"])
    scenes = list_addresses(host)
    bad = [f"http://{host}/none.tif?{QUERY}", f"http://u:{WORD}/x@{host}/a.tif", f"http://{host}?sig={WORD}/a/b"]
    assert run_main([write_night(place, scenes=[*scenes[:1], *bad])]) == 0
    (place.parent / "list.txt").write_text("\n".join(scene.replace("Signature0123", "Another9876") for scene in scenes))
    assert run_main([write_night(place, scenes=bad, listing=str(place.parent / "list.txt")), "--quiet"]) == 0
    told = check(place, capfd)
    assert "night: 2 done, 1 unchanged, 3 unreadable" in told
    index = json.loads((place / "nights" / "index.json").read_text())
    latest = json.loads((place / "nights" / "latest.json").read_text())
    public = {
        "scene0": f"http://{host}/scene0.tif",
        "scene1": f"/vsicurl/http://{host}/scene1.tif",
        "scene2": f"/vsicurl/http://{host}/scene2.tif",
    }
    assert {scene["name"]: url for url, scene in index.items()} == public
    assert {name: scene["url"] for name, scene in latest["scenes"].items()} == public


def test_an_interrupted_night_goes_on_with_new_signatures(
    place: Path, host: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    class Killed(BaseException): ...

    def die(*_: object) -> None:
        raise Killed

    write_recipe(place, ["never used"])
    scenes = list_addresses(host)
    with monkeypatch.context() as patch:
        patch.setattr("batchseg.runs.night.record_results", die)
        with pytest.raises(Killed):
            run_main([write_night(place, scenes=scenes), "--quiet"])
    assert (place / "nights" / "batch.json").exists()
    check(place, capfd)
    records = {path: path.stat().st_mtime_ns for path in (place / "nights").rglob("run/records/*/*.json")}
    again = [scene.replace("Signature0123", "Another9876") for scene in scenes]
    assert run_main([write_night(place, scenes=again), "--quiet"]) == 0
    assert {path: path.stat().st_mtime_ns for path in records} == records, "nothing was computed again"
    check(place, capfd)


def test_an_index_of_an_earlier_version_loses_its_signatures(
    place: Path, host: str, capfd: pytest.CaptureFixture[str]
) -> None:
    write_recipe(place, ["never used"])
    scene = f"http://{host}/scene0.tif?{QUERY}"
    assert run_main([write_night(place, scenes=[scene]), "--quiet"]) == 0
    index = place / "nights" / "index.json"
    (finished,) = json.loads(index.read_text()).values()
    index.write_text(json.dumps({scene: finished}))
    for summary in (place / "nights" / "nights").iterdir():
        summary.unlink()
    assert run_main([write_night(place, scenes=[scene]), "--quiet"]) == 0
    assert "1 unchanged" in check(place, capfd)
