"""Workers on one machine share its cores, so more of them are not always faster."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from batchseg import plan
from batchseg.budget.crew import Crew
from batchseg.budget.placement import Placement
from batchseg.model.contract import Numerics
from batchseg.recipe import Fleet, Models, PoolSpec
from tests.runs import Workplace, noise, write_fake_bundle


@pytest.fixture
def place(tmp_path: Path) -> Workplace:
    return Workplace.of(tmp_path, noise(160, 208))


@pytest.mark.parametrize(
    ("num_workers", "threads", "num_cores", "speed", "advice"),
    [
        (1, 2, 2, 1, None),
        (1, 8, 2, 1, None),  # the pace of one worker was measured with as few cores
        (2, 2, 2, 1, "workers: 1"),
        (4, 2, 8, 4, None),
        (8, 2, 8, 4, "workers: 4"),
        (3, 8, 2, 0.25, "workers: 1"),
        (5, 0, 2, 5, None),  # cores of their own, or GPUs
    ],
)
def test_workers_are_as_fast_as_their_cores_allow(
    num_workers: int, threads: int, num_cores: int, speed: float, advice: str | None
) -> None:
    crew = Crew(num_workers=num_workers, usd_per_hour=1.0, shared_threads=threads, num_cores=num_cores)
    assert crew.speed == pytest.approx(speed)
    assert (crew.warning is None) == (advice is None)
    assert advice is None or f"set `{advice}`" in str(crew.warning)


def measured_bundle(place: Workplace, threads: int) -> str:
    on = Numerics(backend="torch", precision="float32", batch=3, threads=threads, seconds_per_tile=10.0)
    return write_fake_bundle(place.folder / f"threads{threads}", numerics={"cpu": on})


def test_a_second_worker_on_the_same_cores_takes_no_time_off_and_adds_its_price(
    place: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(4)))
    recipe = place.recipe(models=Models(bulk=measured_bundle(place, 4)))
    two = Fleet(pools=(PoolSpec(workers=2, usd_per_hour=3.0),))
    alone, crowded = plan(recipe), plan(recipe, two)
    cluster = plan(recipe, two, placement=Placement(in_process=False, one_machine=False))
    assert alone.seconds is not None
    assert alone.warnings == cluster.warnings
    (advice,) = set(crowded.warnings) - set(alone.warnings)
    assert "2 workers share the 4 cores of this machine, and the models of one worker use 4" in advice
    assert crowded.seconds == pytest.approx(alone.seconds)
    assert crowded.usd == pytest.approx(alone.seconds * 6 / 3600)
    assert cluster.seconds == pytest.approx(alone.seconds / 2)


def test_a_run_asks_for_no_more_workers_than_it_has_chunks(place: Workplace) -> None:
    recipe = place.recipe(models=Models(bulk=measured_bundle(place, 1)))
    cluster = Placement(in_process=False, one_machine=False)
    few, many = (plan(recipe, Fleet(pools=(PoolSpec(workers=n),)), placement=cluster) for n in (35, 1000))
    assert few.scenes[0].num_chunks == 35
    assert (few.seconds, few.usd) == (many.seconds, many.usd)
