"""`plan` from Python: a value with every figure, its assumptions and, if asked for, the curve of a pilot."""

from __future__ import annotations

import json
from pathlib import Path

import psutil
import pytest

from batchseg import plan
from batchseg.errors import ForeignRunError, RecipeError
from batchseg.model.contract import Numerics
from batchseg.recipe import Fleet, Models, PoolSpec
from batchseg.runs import estimate
from batchseg.schema import plain
from tests.runs import Workplace, noise, write_fake_bundle, write_scene

KEYS = """recipe scenes num_to_do worker_bytes output_bytes num_objects num_reads num_writes requests_usd seconds usd
assumptions warnings pilot"""
SCENE_KEYS = "name shape_px num_chunks num_committed num_empty num_tiles num_priority_tiles num_heavy_alone area_km2"


@pytest.fixture
def place(tmp_path: Path) -> Workplace:
    return Workplace.of(tmp_path, noise(160, 208), noise(64, 64, seed=5))


def test_a_plan_writes_nothing_and_its_json_keeps_its_keys(place: Workplace) -> None:
    recipe = place.recipe()
    before = sorted(place.folder.rglob("*"))
    found = plan(recipe)
    assert sorted(place.folder.rglob("*")) == before
    content = json.loads(json.dumps(plain(found)))
    assert list(content) == KEYS.split()
    assert list(content["scenes"][0]) == SCENE_KEYS.split()
    assert content["pilot"] is None
    assert found.num_to_do == sum(scene.num_chunks for scene in found.scenes)


def test_a_plan_of_a_run_that_has_begun_counts_what_is_left(place: Workplace) -> None:
    whole = plan(place.recipe())
    place.run()
    (place.output / "run/records/scene0/0_0.json").unlink()
    rest = plan(place.recipe())
    assert (rest.num_to_do, rest.fingerprint) == (1, whole.fingerprint)
    assert 0 < rest.num_reads < whole.num_reads
    with pytest.raises(ForeignRunError):
        plan(place.recipe(scenes=(write_scene(place.folder / "other.tif", noise(32, 32)),)))


def test_time_and_cost_are_those_of_the_fleet(place: Workplace) -> None:
    numerics = {"cpu": Numerics(backend="torch", precision="float32", batch=3, threads=1, seconds_per_tile=10.0)}
    bundle = write_fake_bundle(place.folder / "measured", numerics=numerics)
    recipe = place.recipe(models=Models(bulk=bundle))
    one = plan(recipe)
    two = plan(recipe, Fleet(pools=(PoolSpec(name="spot", workers=2, usd_per_hour=3.0),), head_usd_per_hour=1.0))
    assert one.seconds is not None
    assert two.seconds == pytest.approx(one.seconds / 2)
    assert two.usd == pytest.approx(two.seconds * 7 / 3600)
    assert "prices: 2 x spot at $3.0 per hour" in two.assumptions


def test_an_unknown_time_says_how_it_becomes_known(place: Workplace) -> None:
    found = plan(place.recipe())
    assert (found.seconds, found.usd) == (None, None)
    assert found.assumptions[0].startswith("time and cost are unknown: the bundle ")
    assert "has no measured seconds per tile on cpu; run `batchseg model tune /" in found.assumptions[0]


def test_what_cannot_fit_is_refused(place: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    memory = type("Memory", (), {"total": 100 << 20})
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)
    with pytest.raises(RecipeError, match=r"must fit into the memory of this machine; expected at most 0\.1 GiB"):
        plan(place.recipe())
    monkeypatch.undo()
    monkeypatch.setattr(estimate, "estimate_output_bytes", lambda _: 1 << 60)
    with pytest.raises(RecipeError, match=r"must fit on the disk of its folder; expected at most .* GB, got .* GB"):
        plan(place.recipe())
