"""Nights over a folder of scenes: what is new, what is left alone, what becomes the latest."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from batchseg.ledger.lease import Lease
from batchseg.runs import night as nights
from batchseg.runs.night import check_thresholds
from batchseg.runs.night_files import SceneResult
from batchseg.runs.night_settings import Thresholds
from batchseg.store import LocalStore
from batchseg.workers.heartbeat import Heartbeat
from jobs.verbs.nightly import run_main
from tests.jobs.command_line import use
from tests.jobs.damage import DAMAGES
from tests.runs import fake_pool, noise, product_bytes, write_fake_bundle, write_scene


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two scenes, a recipe, a night; runs in this process with quick models, and nobody to wait for."""
    use(monkeypatch, fake_pool)
    monkeypatch.setattr("batchseg.ledger.lease.SETTLE_S", 0.0)
    (tmp_path / "incoming").mkdir()
    for number in (1, 2):
        write_scene(tmp_path / "incoming" / f"s{number}.tif", noise(40, 40, seed=number))
    recipe = {
        "scenes": ["never used"],
        "output": "never used",
        "models": {"bulk": write_fake_bundle(tmp_path / "bulk")},
        "tiling": {"core": 16, "chunk": 32},
    }
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    write_night(tmp_path)
    return tmp_path


def write_night(place: Path, **changes: Any) -> None:
    values = {
        "recipe": str(place / "recipe.yaml"),
        "output": str(place / "out"),
        "scenes": [str(place / "incoming" / "*.tif")],
    }
    (place / "night.yaml").write_text(yaml.safe_dump(values | changes))


def run_night(place: Path) -> int:
    return run_main([str(place / "night.yaml"), "--quiet"])


def read(place: Path, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((place / "out" / name).read_text())
    return found


def states(place: Path) -> dict[str, str]:
    last = max((place / "out" / "nights").iterdir())
    return {scene["name"]: scene["state"] for scene in json.loads(last.read_text())["scenes"]}


def dated(place: Path) -> list[Path]:
    return sorted(path for path in (place / "out").iterdir() if path.name[:2] == "20")


def forget_summaries(place: Path) -> None:
    for path in (place / "out" / "nights").iterdir():
        path.unlink()


def test_the_first_night_runs_all_and_the_second_nothing(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_night(place) == 0
    assert states(place) == {"s1": "done", "s2": "done"}
    (folder,) = dated(place)
    assert (folder / "s1" / "labels.tif").exists()
    assert read(place, "latest.json")["scenes"]["s2"]["output"] == f"{folder.name}/s2"
    before = product_bytes(folder)
    forget_summaries(place)
    assert run_night(place) == 0
    assert states(place) == {"s1": "unchanged", "s2": "unchanged"}
    assert dated(place) == [folder]
    assert product_bytes(folder) == before
    assert "2 unchanged" in capsys.readouterr().out


def test_only_new_and_changed_scenes_run_again(place: Path) -> None:
    run_night(place)
    write_scene(place / "incoming" / "s2.tif", noise(40, 40, seed=7))
    write_scene(place / "incoming" / "s3.tif", noise(40, 40, seed=3))
    forget_summaries(place)
    assert run_night(place) == 0
    assert states(place) == {"s1": "unchanged", "s2": "done", "s3": "done"}
    first, second = dated(place)
    outputs = {name: facts["output"] for name, facts in read(place, "latest.json")["scenes"].items()}
    assert outputs == {"s1": f"{first.name}/s1", "s2": f"{second.name}/s2", "s3": f"{second.name}/s3"}


def test_another_recipe_makes_every_scene_new(place: Path) -> None:
    run_night(place)
    recipe = yaml.safe_load((place / "recipe.yaml").read_text())
    (place / "recipe.yaml").write_text(yaml.safe_dump(recipe | {"scale": [0, 100]}))
    forget_summaries(place)
    assert run_night(place) == 0
    assert states(place) == {"s1": "done", "s2": "done"}


def test_one_bad_scene_does_not_stop_the_night_but_the_latest_stays(place: Path) -> None:
    run_night(place)
    latest = read(place, "latest.json")
    (place / "incoming" / "s0.tif").write_bytes(b"no raster")
    write_scene(place / "incoming" / "s3.tif", noise(40, 40, seed=3))
    forget_summaries(place)
    assert run_night(place) == 3
    assert states(place) == {"s0": "unreadable", "s1": "unchanged", "s2": "unchanged", "s3": "done"}
    assert read(place, "latest.json") == latest
    write_night(place, latest={"coverage": 0.7, "failed_scenes": 1})
    assert run_night(place) == 0
    assert sorted(read(place, "latest.json")["scenes"]) == ["s1", "s2", "s3"]


def test_an_interrupted_night_is_taken_up_on_another_date(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Killed(BaseException): ...

    def killed(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(nights, "record_results", killed)
        with pytest.raises(Killed):
            run_night(place)
    (folder,) = dated(place)
    folder.rename(folder.with_name("2020-01-01"))
    batch = read(place, "batch.json")
    (place / "out" / "batch.json").write_text(json.dumps(batch | {"folder": "2020-01-01"}))
    records = {p: p.stat().st_mtime_ns for p in (place / "out" / "2020-01-01" / "run" / "records").rglob("*.json")}
    assert len(records) == 8
    assert run_night(place) == 0
    assert [path.name for path in dated(place)] == ["2020-01-01"]
    assert {p: p.stat().st_mtime_ns for p in records} == records, "nothing was computed again"
    assert not (place / "out" / "batch.json").exists()


def test_two_scenes_of_one_name_are_told_apart_and_the_second_left_out(place: Path) -> None:
    (place / "incoming" / "sub").mkdir()
    write_scene(place / "incoming" / "sub" / "s1.tif", noise(40, 40, seed=9))
    write_night(place, scenes=[str(place / "incoming" / "**" / "*.tif")])
    assert run_night(place) == 3
    last = json.loads(max((place / "out" / "nights").iterdir()).read_text())
    (bad,) = [scene for scene in last["scenes"] if scene["state"] == "unreadable"]
    assert "is called s1 too" in bad["error"]


def test_a_listing_names_scenes_and_no_scene_at_all_misses_the_thresholds(place: Path) -> None:
    (place / "list.txt").write_text(f"# tonight\n{place / 'incoming' / 's1.tif'}\n\n")
    write_night(place, scenes=[], listing=str(place / "list.txt"))
    assert run_night(place) == 0
    assert states(place) == {"s1": "done"}
    (place / "list.txt").write_text("")
    assert run_night(place) == 3


def test_a_second_night_beside_a_living_one_stops_and_touches_nothing(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = LocalStore(place / "out")
    other = Lease(store)
    other.acquire()
    with Heartbeat(other.renew, every_s=0.2):
        assert run_night(place) == 2
    assert "is running" in capsys.readouterr().err
    assert [path.name for path in (place / "out").iterdir()] == ["run"]


@pytest.mark.parametrize(
    ("coverages", "thresholds", "good"),
    [
        ([], Thresholds(), False),
        ([1.0, 1.0], Thresholds(), True),
        ([1.0, 0.5], Thresholds(), False),
        ([1.0, 0.5], Thresholds(coverage=0.75), False),
        ([1.0, 0.5], Thresholds(coverage=0.75, failed_scenes=1), True),
        ([1.0, 0.0], Thresholds(coverage=0.75, failed_scenes=1), False),
    ],
)
def test_thresholds(coverages: list[float], thresholds: Thresholds, good: bool) -> None:
    results = [
        SceneResult(url=str(i), name=str(i), state="done" if np.isclose(c, 1) else "incomplete", coverage=c, output="o")
        for i, c in enumerate(coverages)
    ]
    assert check_thresholds(results, thresholds)[0] is good


def damage_night(place: Path, name: str, damage: str) -> None:
    run_night(place)
    path = place / "out" / name
    if name == "batch.json":
        path.write_text(json.dumps({"folder": "2020-01-01", "keys": {"s1.tif": "another key"}}))
    DAMAGES[damage](path)


@pytest.mark.parametrize("damage", [damage for damage in DAMAGES if damage != "folder"])
@pytest.mark.parametrize("name", ["batch.json", "latest.json"])
def test_a_damaged_file_of_nights_is_made_again(
    place: Path, name: str, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    damage_night(place, name, damage)
    latest = read(place, "latest.json") if name == "batch.json" else None
    capsys.readouterr()
    assert run_night(place) == 0
    assert f"batchseg: {name} was damaged (" in capsys.readouterr().err
    assert not (place / "out" / "batch.json").exists()
    after = read(place, "latest.json")
    assert sorted(after["scenes"]) == ["s1", "s2"]
    assert latest is None or latest["scenes"] == after["scenes"]


@pytest.mark.parametrize("damage", [damage for damage in DAMAGES if damage != "field"])
def test_a_damaged_index_of_nights_is_refused(place: Path, damage: str, capsys: pytest.CaptureFixture[str]) -> None:
    damage_night(place, "index.json", damage)
    capsys.readouterr()
    assert run_night(place) == 2
    told = capsys.readouterr().err
    assert re.fullmatch(r"batchseg: index\.json: .*\. Restore it, or remove it; without it every scene is new\n", told)


@pytest.mark.parametrize(
    "name", ["index.json", "batch.json", "latest.json", "nights/notes.txt", "run/driver.json", "run/sessions/x.json"]
)
def test_a_night_replaces_no_file_of_others(place: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "out" / name).parent.mkdir(parents=True)
    (place / "out" / name).write_text('{"mine": 1}')
    assert run_night(place) == 2
    assert f"no night into this folder made them; got {name}" in capsys.readouterr().err
    assert [path for path in (place / "out").rglob("*") if path.is_file()] == [place / "out" / name]
    assert (place / "out" / name).read_text() == '{"mine": 1}'


@pytest.mark.parametrize("link", ["run", "nights", "run/sessions"])
def test_a_night_follows_no_link(place: Path, link: str, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "elsewhere").mkdir()
    (place / "out" / link).parent.mkdir(parents=True)
    (place / "out" / link).symlink_to(place / "elsewhere")
    assert run_night(place) == 2
    assert "a symbolic link to" in capsys.readouterr().err
    assert not list((place / "elsewhere").iterdir())


@pytest.mark.parametrize("name", ["latest.json", "nights/list.txt"])
def test_a_listing_in_the_place_of_a_night_is_refused(
    place: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "out" / name).parent.mkdir(parents=True)
    (place / "out" / name).write_text(str(place / "incoming" / "s1.tif"))
    write_night(place, scenes=[], listing=str(place / "out" / name))
    assert run_night(place) == 2
    assert "the output must not replace an input" in capsys.readouterr().err


@pytest.mark.parametrize("output", ["s3://bucket/nights", "gs://bucket/nights"])
def test_nights_on_a_server_are_refused(place: Path, output: str, capsys: pytest.CaptureFixture[str]) -> None:
    write_night(place, output=output)
    assert run_night(place) == 2
    assert "the output of nights must be a local folder" in capsys.readouterr().err


def test_the_folder_of_a_night_is_never_that_of_others(place: Path) -> None:
    """Also where the name of the day is taken by a link to nowhere."""
    day = nights.datetime.now(nights.UTC).strftime("%Y-%m-%d")
    (place / "out").mkdir()
    (place / "out" / day).symlink_to(place / "elsewhere")
    assert run_night(place) == 0
    assert not (place / "elsewhere").exists()
    assert (place / "out" / f"{day}-2").is_dir()
