"""What a night says of itself: why it computed, what it cost, why it failed, and `status` on a folder of nights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from batchseg.json_values import put_value
from batchseg.runs.night_files import Batch
from batchseg.runs.night_reasons import describe_change, digest_parts
from batchseg.store import LocalStore
from jobs.cli import main
from jobs.terminal.formats import format_usd
from tests.jobs.test_nightly import forget_summaries, place, read, run_night, write_night
from tests.runs import noise, write_fake_bundle, write_scene

__all__ = ["place"]


def newest(place: Path) -> dict[str, Any]:
    summary: dict[str, Any] = json.loads(max((place / "out" / "nights").iterdir()).read_text())
    return summary


def change_recipe(place: Path, **changes: Any) -> None:
    path = place / "recipe.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | changes))


def change_scene(place: Path) -> None:
    write_scene(place / "incoming" / "s1.tif", noise(40, 40, seed=77))


REASONS = [
    (lambda _: None, {}),
    (change_scene, {"s1": "the scene changed"}),
    (
        lambda place: change_recipe(place, models={"bulk": write_fake_bundle(place / "other", halo_px=9)}),
        dict.fromkeys(("s1", "s2"), "the recipe changed: models.bulk"),
    ),
    (
        lambda place: change_recipe(place, tiling={"core": 16, "chunk": 48}),
        dict.fromkeys(("s1", "s2"), "the recipe changed: tiling.chunk"),
    ),
    (
        lambda place: change_recipe(place, nodata={"from": "value", "value": 3}),
        dict.fromkeys(("s1", "s2"), "the recipe changed: nodata.from, nodata.value"),
    ),
    (lambda place: write_scene(place / "incoming" / "s3.tif", noise(40, 40, seed=3)), {"s3": "new"}),
]


@pytest.mark.parametrize(("change", "expected"), REASONS)
def test_a_night_says_why_it_computes_a_scene(
    change: Any, expected: dict[str, str], place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_night(place) == 0
    assert {scene["name"]: scene["reason"] for scene in newest(place)["scenes"]} == {"s1": "new", "s2": "new"}
    forget_summaries(place)
    capsys.readouterr()
    change(place)
    assert run_night(place) == 0
    summary, text = newest(place), capsys.readouterr().out
    assert {scene["name"]: scene["reason"] for scene in summary["scenes"] if scene["reason"]} == expected
    for name, reason in expected.items():
        assert f"done  {name} ({reason}, $" in text
    costs = [scene["cost_usd"] for scene in summary["scenes"] if scene["name"] in expected]
    assert all(cost > 0 for cost in costs)
    if expected:
        assert summary["cost_usd"] >= sum(costs)
        assert f", {format_usd(summary['cost_usd'])}" in text
    else:
        assert (summary["cost_usd"], summary["run"]) == (None, None)


def test_an_index_that_was_written_before_it_had_parts_still_works(place: Path) -> None:
    assert run_night(place) == 0
    index = read(place, "index.json")
    for entry in index.values():
        del entry["parts"]
    (place / "out" / "index.json").write_text(json.dumps(index))
    forget_summaries(place)
    change_scene(place)
    assert run_night(place) == 0
    assert {scene["reason"] for scene in newest(place)["scenes"]} == {"the scene or the recipe changed", None}


def test_the_parts_of_a_key_name_what_differs() -> None:
    content = {
        "engine_revision": 5,
        "models": {"bulk": {"digest": "a", "halo": 8}},
        "outputs": ["labels"],
        "scenes": {"s1": {"identity": {"size": 1}, "georef": {}, "priority": ["x"], "aoi": None, "bands": [1]}},
    }
    before = digest_parts(content)
    assert describe_change(before, before) == "nothing changed"
    newer = content | {"engine_revision": 6, "scenes": {"renamed": {**content["scenes"]["s1"], "priority": ["y"]}}}
    assert describe_change(before, digest_parts(newer)) == (
        "the recipe changed: priority polygons; this version of batchseg computes in another way"
    )
    both = {"scenes": {"s1": {**content["scenes"]["s1"], "identity": {"size": 2}}}, "route": {"fade": 16}}
    assert describe_change(before, digest_parts(content | both)) == (
        "the scene changed; the recipe changed: route.fade"
    )


def test_a_night_that_never_was_good_has_no_latest_and_says_so(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "incoming" / "s1.tif").write_bytes(b"no raster")
    assert run_night(place) == 3
    text = capsys.readouterr().out
    assert "there is no latest.json yet: coverage 0.5000 is below 1.0" in text
    assert "stays as it is" not in text
    assert "unreadable  s1: " in text
    (place / "incoming" / "s1.tif").unlink()
    assert run_night(place) == 0
    (place / "incoming" / "s1.tif").write_bytes(b"no raster")
    capsys.readouterr()
    assert run_night(place) == 3
    assert "latest.json stays as it is: " in capsys.readouterr().out


def test_status_of_a_folder_of_nights(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_night(place) == 0
    capsys.readouterr()
    assert main(["status", str(place / "out")]) == 0
    text = capsys.readouterr().out
    assert "last night: " in text
    assert "exit status 0: coverage 1.0000, 0 scenes failed" in text
    assert "2 done, $" in text
    assert "done  s1 (new, $" in text
    run = newest(place)["run"]
    assert f", in {run}" in text
    store = LocalStore(place / "out")
    put_value(store, "batch.json", Batch(folder=run, keys={}))
    assert main(["status", str(place / "out")]) == 0
    text = capsys.readouterr().out
    assert f"not finished: the run in {run}" in text
    assert "  s1: 4 of 4 chunks committed" in text
    put_value(store, "batch.json", Batch(folder="2099-01-01", keys={}))
    assert main(["status", str(place / "out")]) == 0
    assert "it has not begun" in capsys.readouterr().out
    assert main(["status", str(place / "out" / run)]) == 0
    assert main(["status", str(place)]) == 2


def test_the_cause_of_missing_chunks_is_in_the_summary(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from batchseg.errors import ReadError
    from batchseg.scene.source import RasterSource

    real = RasterSource.read

    def fail_in_s1(self: RasterSource, window: Any) -> Any:
        if "s1" in self.raster.url and window.rows.start == 0:
            raise ReadError("the disk has a scratch", where=self.raster.url)
        return real(self, window)

    monkeypatch.setattr(RasterSource, "read", fail_in_s1)
    write_night(place, latest={"coverage": 0.1, "failed_scenes": 1})
    run_night(place)
    (failed,) = (scene for scene in newest(place)["scenes"] if scene["state"] == "incomplete")
    assert failed["name"] == "s1"
    assert "chunks are missing: " in failed["error"]
    assert "the disk has a scratch" in failed["error"]
