"""Every file of a run, damaged in every way: each command ends in time, with a documented status and without a
traceback; a run makes again what it can make again and says so, and one line says what to do about the rest.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import rasterio
import yaml
from rasterio.warp import transform_bounds

from batchseg.ledger.keys import ChunkKey
from batchseg.ledger.ledger import Ledger
from batchseg.runs import session
from batchseg.runs.session import Outcome
from batchseg.store import LocalStore
from jobs.cli import main
from tests.jobs.damage import DAMAGES, IRREGULAR, edit_number
from tests.runs import fake_models, fake_pool, noise, product_bytes, write_fake_bundle, write_scene
from tests.sealed_files import read_sealed, write_sealed

DOCUMENTED = {0, 2, 3, 4, 5, 130, 143}
GIVEN_UP = ChunkKey("scene", 1, 1)


def run_with_fakes(recipe: Any, fleet: Any, *, options: session.Options, resolved: Any = None) -> Outcome:
    options = replace(options, open_models=fake_models)
    return session.run(recipe, fleet, open_pool=fake_pool, options=options, resolved=resolved)


@dataclass(frozen=True, slots=True)
class Place:
    """A finished run with every kind of file, and a copy of it to restore it from."""

    folder: Path

    @property
    def output(self) -> Path:
        return self.folder / "out"

    @property
    def copy(self) -> Path:
        return self.folder / "copy"

    @property
    def recipe(self) -> str:
        return str(self.folder / "recipe.yaml")

    def restore(self) -> None:
        shutil.rmtree(self.output)
        shutil.copytree(self.copy, self.output)

    def commands(self) -> dict[str, list[str]]:
        """Those that only look come first."""
        output, labels = str(self.output), str(self.folder / "labels.tif")
        return {
            "plan": ["plan", self.recipe],
            "status": ["status", output],
            "inspect": ["inspect", output, "scene/0_0"],
            "report": ["report", output],
            "evaluate": ["evaluate", output, "--labels", labels],
            "compare": ["compare", output, str(self.copy), "--to", str(self.folder / "compared")],
            "run": ["run", self.recipe, "--quiet"],
        }


def write_recipe(folder: Path) -> None:
    write_scene(folder / "scene.tif", noise(60, 60))
    write_scene(folder / "labels.tif", noise(60, 60, bands=1) % 5)
    for tier in ("bulk", "heavy"):
        write_fake_bundle(folder / tier, tier=tier)
    with rasterio.open(folder / "scene.tif") as scene:
        west, south, east, north = transform_bounds(scene.crs, "EPSG:4326", *scene.bounds)
    middle = [(west + east) / 2, (south + north) / 2]
    ring = [[west, south], [middle[0], south], middle, [west, middle[1]], [west, south]]
    geometry = {"type": "Polygon", "coordinates": [ring]}
    feature = {"type": "Feature", "properties": {}, "geometry": geometry}
    (folder / "town.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": [feature]}))
    recipe = {
        "scenes": [str(folder / "scene.tif")],
        "output": str(folder / "out"),
        "models": {"bulk": str(folder / "bulk"), "heavy": str(folder / "heavy")},
        "tiling": {"core": 16, "chunk": 32},
        "route": {"priority": [{"polygons": str(folder / "town.geojson")}, "uncertain"]},
        "budget": {"heavy_share": 0.6},
        "labels": [str(folder / "labels.tif")],
    }
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))


@pytest.fixture(scope="module", autouse=True)
def fakes() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("batchseg.ledger.lease.SETTLE_S", 0.0)
        patch.setattr("jobs.runner.choose_runner", lambda *_, **__: run_with_fakes)
        yield


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    place = Place(tmp_path_factory.mktemp("damaged"))
    write_recipe(place.folder)
    assert main(["run", place.recipe, "--quiet"]) == 0
    assert main(["evaluate", str(place.output), "--labels", str(place.folder / "labels.tif")]) == 0
    ledger = Ledger(LocalStore(place.output))
    # One chunk is in quarantine, and one is in a segment.
    ledger.forget(GIVEN_UP)
    ledger.quarantine(GIVEN_UP, ("the first attempt failed",))
    record = ledger.read_record(ChunkKey("scene", 0, 1))
    assert record is not None
    ledger.compact([record])
    assert main(["run", place.recipe, "--quiet"]) == 3
    shutil.copytree(place.output, place.copy)
    return place


SAID = (
    "run/plan.json",
    "run/exit.json",
    "metrics.json",
    "run/driver.json",
    "run/records/scene/*.json",
    "run/segments/*.jsonl",
    "run/sheets/scene/*.json",
    "run/quarantine/scene/*.json",
)
"""Files that a run makes again, or whose tasks it does again, which it says."""
REFUSED = ("run/recipe.json", "run/sessions/*.json", "run/stints/local-*.json", "run/stints/pilot-*.json")
"""Files that no computation brings back."""
UNREAD = (
    "run/claims/*.json",
    "run/log.jsonl",
    "run/pilot.json",
    "run/priority/scene.wkb",
    "ledger.parquet",
    "report.html",
    "evaluation.json",
    "scene/item.json",
)
"""Files that a run does not read: it writes some of them anew, and needs none of the others."""
LOOKS = ("plan", "status", "inspect", "report", "evaluate", "compare")


def damage_one(place: Place, pattern: str, damage: str) -> str:
    """A fresh copy of the run with one damaged file; its key."""
    place.restore()
    path = min(place.output.glob(pattern))
    DAMAGES[damage](path)
    return path.relative_to(place.output).as_posix()


def log_of(place: Place) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (place.output / "run" / "log.jsonl").read_text().splitlines()]


def test_every_file_of_a_run_is_known_here(place: Place) -> None:
    files = {path for path in place.copy.rglob("*") if path.is_file()}
    own = {
        path
        for path in files
        if path.relative_to(place.copy).parts[0] in ("run", path.name) or path.name == "item.json"
    }
    assert own == {path for pattern in (*SAID, *REFUSED, *UNREAD) for path in place.copy.glob(pattern)}


def check_remade(place: Place, pattern: str, damage: str, capsys: pytest.CaptureFixture[str]) -> None:
    key = damage_one(place, pattern, damage)
    capsys.readouterr()
    status = main(place.commands()["run"])
    assert status == (0 if "quarantine" in key else 3), "the task that was given up gets another chance"
    assert f"batchseg: {key} was damaged (" in capsys.readouterr().err
    assert [event["file"] for event in log_of(place) if event["event"] == "file_remade"] == [key]
    if status == 3:
        assert product_bytes(place.output) == product_bytes(place.copy)
    assert main(place.commands()["run"]) == status
    assert "was damaged" not in capsys.readouterr().err


def check_refused(place: Place, pattern: str, damage: str, capsys: pytest.CaptureFixture[str]) -> None:
    key = damage_one(place, pattern, damage)
    before = product_bytes(place.output)
    capsys.readouterr()
    assert main(place.commands()["run"]) == 2
    told = capsys.readouterr()
    assert told.err.startswith(f"batchseg: {key}: ")
    assert told.err.count("\n") == 1
    assert ". " in told.err, "what to do about it"
    assert product_bytes(place.output) == before


def check_unread(place: Place, pattern: str, damage: str, capsys: pytest.CaptureFixture[str]) -> None:
    key = damage_one(place, pattern, damage)
    assert main(place.commands()["run"]) == 3
    assert product_bytes(place.output) == product_bytes(place.copy)
    if key in ("run/priority/scene.wkb", "scene/item.json"):
        assert (place.output / key).read_bytes() == (place.copy / key).read_bytes(), "written anew"
    if key in ("ledger.parquet", "report.html"):
        assert (place.output / key).stat().st_size >= (place.copy / key).stat().st_size // 2 + 1, "written anew"


def check_looks(place: Place, pattern: str, damage: str, capsys: pytest.CaptureFixture[str]) -> None:
    for verb in LOOKS:
        damage_one(place, pattern, damage)
        capsys.readouterr()
        status = main(place.commands()[verb])
        told = capsys.readouterr()
        assert status in (0, 2, 5), verb
        assert status == 0 or (told.err.startswith("batchseg: ") and told.err.count("\n") == 1), verb


def check_left(place: Place, pattern: str, damage: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder may hold anything, so a run leaves it there, and says so where it needs the place."""
    key = damage_one(place, pattern, damage)
    capsys.readouterr()
    status = main(place.commands()["run"])
    told = capsys.readouterr().err
    assert status in (2, 3, 5)
    assert status == 3 or (told.startswith("batchseg: ") and key in told and told.count("\n") == 1), told
    assert not (place.output / key).is_file()


def check(place: Place, pattern: str, damage: str, capsys: pytest.CaptureFixture[str]) -> None:
    checks = {SAID: check_remade, REFUSED: check_refused, UNREAD: check_unread}
    needs_place = damage == "folder" or (damage in IRREGULAR and pattern == "run/log.jsonl")
    check = next(check for patterns, check in checks.items() if pattern in patterns)
    (check_left if needs_place else check)(place, pattern, damage, capsys)


@pytest.mark.parametrize("damage", ["cut", "field", "pipe", "folder"])
@pytest.mark.parametrize("pattern", [*SAID, *REFUSED, *UNREAD])
def test_a_run_over_a_damaged_file(place: Place, pattern: str, damage: str, capsys: pytest.CaptureFixture[str]) -> None:
    check(place, pattern, damage, capsys)


@pytest.mark.parametrize("pattern", [*SAID, *REFUSED, *UNREAD])
def test_a_look_at_a_damaged_file(place: Place, pattern: str, capsys: pytest.CaptureFixture[str]) -> None:
    check_looks(place, pattern, "noise", capsys)


@pytest.mark.real
@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("pattern", [*SAID, *REFUSED, *UNREAD])
def test_every_command_with_every_damage(
    place: Place, pattern: str, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    check(place, pattern, damage, capsys)
    check_looks(place, pattern, damage, capsys)


@pytest.mark.parametrize("damage", ["noise", "pipe", "device"])
def test_a_damaged_pixel_file_is_made_again(place: Place, damage: str, capsys: pytest.CaptureFixture[str]) -> None:
    damage_one(place, "scene/mask.zarr/labels/0.0", damage)
    (place.output / "run" / "sheets" / "scene" / "0_0.json").unlink()
    assert main(place.commands()["report"]) in (0, 2)
    assert main(place.commands()["run"]) == 3
    assert product_bytes(place.output) == product_bytes(place.copy)


@pytest.mark.parametrize(
    "pattern", ["run/plan.json", "run/exit.json", "run/records/scene/*.json", "run/sheets/scene/*.json"]
)
def test_a_figure_that_was_edited_by_hand_is_noticed(
    place: Place, pattern: str, capsys: pytest.CaptureFixture[str]
) -> None:
    place.restore()
    path = min(place.output.glob(pattern))
    edit_number(path)
    capsys.readouterr()
    assert main(place.commands()["run"]) == 3
    key = path.relative_to(place.output).as_posix()
    expected = f"batchseg: {key} was damaged (its digest is not that of its content); it"
    assert expected in capsys.readouterr().err
    assert product_bytes(place.output) == product_bytes(place.copy)


@pytest.mark.parametrize("pattern", ["run/recipe.json", "run/sessions/*.json", "run/stints/local-*.json"])
def test_a_price_or_a_recipe_that_was_edited_by_hand_is_refused(
    place: Place, pattern: str, capsys: pytest.CaptureFixture[str]
) -> None:
    place.restore()
    edit_number(min(place.output.glob(pattern)))
    capsys.readouterr()
    assert main(place.commands()["run"]) == 2
    assert "its digest is not that of its content" in capsys.readouterr().err


def test_two_files_that_were_swapped_are_noticed(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    place.restore()
    first, second = sorted((place.output / "run" / "records" / "scene").glob("*.json"))
    content = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(content)
    capsys.readouterr()
    assert main(place.commands()["run"]) == 3
    assert capsys.readouterr().err.count("was damaged (its digest is not that of its content)") == 2
    assert product_bytes(place.output) == product_bytes(place.copy)


def test_a_record_of_another_version_is_not_dropped(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    place.restore()
    path = place.output / "run" / "records" / "scene" / "0_0.json"
    record = read_sealed(place.output, "run/records/scene/0_0.json")
    record["measured"]["mood"] = "good"
    write_sealed(place.output, "run/records/scene/0_0.json", record)
    capsys.readouterr()
    assert main(place.commands()["run"]) == 2
    assert "another version of batchseg wrote this file; got measured: unknown key `mood`" in capsys.readouterr().err
    assert path.exists()


def test_a_driver_that_may_be_alive_is_not_replaced(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    """Its process lives, and it has not said how it ended."""
    damage_one(place, "run/driver.json", "cut")
    (place.output / "run" / "exit.json").unlink()
    capsys.readouterr()
    assert main(place.commands()["run"]) == 2
    assert "Make sure that no run uses this folder" in capsys.readouterr().err
