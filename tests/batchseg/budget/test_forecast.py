"""Budgets in dollars: what a pilot times, what the money buys, and whether the run then costs what was forecast."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from hypothesis import given
from hypothesis import strategies as st

from batchseg import plan
from batchseg.budget.curve import make_curve
from batchseg.budget.forecast import Forecast, Prices, Workload, expect_batches
from batchseg.budget.placement import Placement
from batchseg.budget.preview import preview_pilot
from batchseg.budget.rehearsal import Pace
from batchseg.budget.sample import PilotTile, share_at_threshold
from batchseg.engine.route import NEVER
from batchseg.engine.segment import Model
from batchseg.errors import ForeignRunError, RecipeError
from batchseg.ledger.ledger import Ledger
from batchseg.model.cache import open_entry
from batchseg.paths import PILOT_KEY
from batchseg.recipe import Budget, Fleet, Models, PoolSpec, Route
from batchseg.recipe.heavy_tiles import ByUncertainty, Uncertain
from batchseg.resolve.job import Job
from batchseg.resolve.plan_file import read_plan
from batchseg.resolve.resolve import resolve
from batchseg.runs.session import Options, Outcome, run
from batchseg.schema import plain
from batchseg.store import LocalStore
from batchseg.tiers import Tier
from batchseg.workers.pool import DEPTH, LocalPool
from batchseg.workers.worker import Worker, WorkerSpec
from tests.batchseg.engine.test_route import polygons
from tests.runs import Workplace, fake_models, noise, product_bytes, write_fake_bundle, write_scene
from tests.strategies import quick

UNCERTAIN = Route(priority=("uncertain",))
SECONDS: dict[Tier, float] = {"bulk": 0.01, "heavy": 0.05}
"""Seconds per batch: much longer than everything else that a chunk of these scenes needs."""
FLEET = Fleet(pools=(PoolSpec(usd_per_hour=3600.0),))
"""One dollar per second."""


@dataclass
class Slow:
    """A segmenter whose batches take a given time."""

    inner: Any
    seconds: float

    @property
    def batch(self) -> int:
        return int(self.inner.batch)

    def __call__(self, x_NBHW: Any, /) -> Any:
        time.sleep(self.seconds)
        return self.inner(x_NBHW)


def slow_models(job: Job, spec: WorkerSpec) -> tuple[dict[Tier, Model], dict[str, str]]:
    models, environment = fake_models(job, spec)
    return {tier: replace(m, segmenter=Slow(m.segmenter, SECONDS[tier])) for tier, m in models.items()}, environment


def slow_pool(job: Job, store: Any, fleet: Fleet) -> LocalPool:
    spec = WorkerSpec.new(pool="local", device="cpu", usd_per_hour=fleet.pools[0].usd_per_hour)
    return LocalPool(lambda: Worker(spec, job, store, slow_models).open(), depth=DEPTH)


@pytest.fixture
def place(tmp_path: Path) -> Workplace:
    workplace = Workplace.of(tmp_path, noise(160, 208), noise(64, 64, seed=5))
    bundles = [write_fake_bundle(tmp_path / tier, halo_px=halo) for tier, halo in (("bulk", 8), ("heavy", 13))]
    workplace.changes["models"] = Models(bulk=bundles[0], heavy=bundles[1])
    return workplace


def run_slowly(place: Workplace, *, models: Any = slow_models, **changes: Any) -> Outcome:
    store = LocalStore(Path(place.recipe(**changes).output), durable=False)
    options = Options(open_models=models)
    return run(place.recipe(**changes), FLEET, open_pool=slow_pool, options=options, store=store)


def read_pilot_json(output: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((output / PILOT_KEY).read_text())
    return content


def find_least_usd(place: Workplace, sample_tiles: int, **changes: Any) -> float:
    with pytest.raises(RecipeError, match=r"the budget must pay for the bulk .* ground; expected at least") as refused:
        run_slowly(place, budget=Budget(usd=1e-6, sample_tiles=sample_tiles), **changes)
    assert refused.value.expected is not None
    assert not place.output.exists(), "a refused run writes nothing"
    return float(refused.value.expected.split()[2].rstrip(","))


@pytest.mark.timeout(120)
def test_a_run_costs_what_its_pilot_said(place: Workplace) -> None:
    least = find_least_usd(place, 512, route=UNCERTAIN)
    # 41 chunks of four tiles: two batches of the bulk model each take 0.8 s, and all of them heavy 4.1 s more.
    outcome = run_slowly(place, route=UNCERTAIN, budget=Budget(usd=least + 2.0))
    expected = read_pilot_json(place.output)["expected"]
    spent = expected["pilot_usd"]
    assert least <= expected["usd"] <= least + 2.2
    assert 0.2 < expected["heavy_share"] < 0.7
    assert outcome.metrics.cost_usd - spent == pytest.approx(expected["usd"] - spent, rel=0.15)
    assert outcome.metrics.heavy_share == pytest.approx(expected["heavy_share"], abs=0.03)
    assert outcome.metrics.cost.start >= spent
    assert outcome.metrics.cost_usd == pytest.approx(outcome.metrics.paid_usd, rel=0.02)


@pytest.mark.timeout(120)
def test_dollars_per_km2_are_dollars_over_the_ground(place: Workplace) -> None:
    area_km2 = (160 * 208 + 64 * 64) / 1e6
    route = Route(priority=("uncertain", polygons(place.folder)))
    amount = (find_least_usd(place, 40, route=route) + 2.0) / area_km2
    run_slowly(place, route=route, budget=Budget(usd_per_km2=amount, sample_tiles=40))
    before, found = product_bytes(place.output), read_pilot_json(place.output)
    assert found["expected"]["usd_per_km2"] == pytest.approx(amount, rel=0.1)
    assert found["expected"]["usd_per_km2"] * area_km2 == pytest.approx(found["expected"]["usd"], rel=0.01)
    assert found["expected_heavy_share"] > found["priority_share"] > 0
    store = LocalStore(place.output, durable=False)
    plan = read_plan(store)
    assert plan.doubt is not None
    assert plan.doubt.threshold == found["threshold"]
    # A resume asks no clock, even where everything has become dearer.
    (place.output / "run/records/scene0/0_0.json").unlink()
    pilots = [stint for stint in Ledger(store).read_stints() if stint.pool == "pilot"]
    run_slowly(place, route=route, budget=Budget(usd_per_km2=amount, sample_tiles=40), models=no_models)
    assert product_bytes(place.output) == before
    assert [stint for stint in Ledger(store).read_stints() if stint.pool == "pilot"] == pilots
    assert len(pilots) == 1
    with pytest.raises(ForeignRunError, match=r"route\.budget\.usd_per_km2"):
        run_slowly(place, route=route, budget=Budget(usd_per_km2=2 * amount, sample_tiles=40), models=no_models)


def no_models(*_: Any) -> Any:
    raise AssertionError("a resume runs no pilot")


def test_ground_without_a_place_has_no_km2(place: Workplace) -> None:
    scene = write_scene(place.folder / "nowhere.tif", noise(64, 64), crs=None)
    with pytest.raises(RecipeError, match="budget: usd_per_km2: the scenes have no known place on the Earth"):
        run_slowly(place, scenes=(scene,), route=UNCERTAIN, budget=Budget(usd_per_km2=1e9, sample_tiles=8))
    outcome = run_slowly(place, scenes=(scene,), route=UNCERTAIN, budget=Budget(usd=1e9, sample_tiles=8))
    assert outcome.metrics.heavy_share == 1


def test_workers_on_another_device_cannot_be_timed_here(place: Workplace) -> None:
    from batchseg.model.contract import Numerics
    from jobs.cluster.pool import open_ray_pool

    on = Numerics(backend="torch", precision="float32", batch=3, threads=1)
    models = [write_fake_bundle(place.folder / f"{t}2", numerics={"cpu": on, "cuda": on}) for t in ("bulk", "heavy")]
    fleet = Fleet(pools=(PoolSpec(gpus=1.0),))
    recipe = place.recipe(route=UNCERTAIN, budget=Budget(usd=5), models=Models(bulk=models[0], heavy=models[1]))
    store = LocalStore(place.output, durable=False)
    with pytest.raises(RecipeError, match="the device must be that of the workers; expected cuda, got cpu"):
        run(recipe, fleet, open_pool=open_ray_pool, options=Options(open_models=no_models), store=store)


@quick
@given(st.integers(1, 40), st.floats(0, 1), st.integers(1, 9))
def test_expected_batches_are_those_of_many_random_draws(tiles: int, share: float, batch: int) -> None:
    drawn = np.random.default_rng(0).binomial(tiles, share, 4000)
    expected = (-(-drawn // batch)).mean()
    assert expect_batches(tiles, share, batch) == pytest.approx(expected, abs=0.05 + 0.03 * expected)


def make_forecast(**changes: Any) -> Forecast:
    pace = Pace(
        start_s=2, tile_s=0.03, bulk_tile_s=0.02, heavy_batch_s=0.4, heavy_batch=2, sheet_s=1, sheet_s_per_mpx=0.1
    )
    workload = Workload(
        num_tiles=1000, tiles_per_chunk=64, priority_share=0.1, bulk_share=0.9, mpx=262, num_sheets=1, area_km2=65
    )
    prices = Prices(num_workers=4, workers_usd_per_hour=4, head_usd_per_hour=1, spent_usd=0.01)
    parts = {"pace": pace, "workload": workload, "prices": prices}
    for key, value in changes.items():
        name = next(name for name, part in parts.items() if hasattr(part, key))
        parts[name] = replace(parts[name], **{key: value})
    return Forecast(**parts)


@quick
@given(st.floats(0.0, 3.0), st.integers(1, 16), st.floats(0, 0.9))
def test_a_share_is_the_largest_that_the_money_buys(usd: float, batch: int, priority_share: float) -> None:
    forecast = make_forecast(heavy_batch=batch, priority_share=priority_share)
    share = forecast.find_share(usd)
    if share is None:
        assert usd < forecast.least_usd
        return
    assert priority_share <= share <= 1
    assert forecast.expect_usd(share) <= usd + 1e-9
    assert share == 1 or forecast.expect_usd(min(1.0, share + 1e-3)) > usd


def test_the_parts_of_a_forecast() -> None:
    """900 bulk tiles, all heavy: 500 batches; four workers share them, and wait for the one that makes the GeoTIFFs."""
    found = make_forecast(tiles_per_chunk=1000)
    assert plain(found.expect_seconds(1.0)) == pytest.approx(
        {"start": 2, "compute_bulk": 18, "compute_heavy": 200, "read_write": 10, "sheets": 27.2}
    )
    assert found.expect_wall_s(1.0) == pytest.approx(2 + (18 + 200 + 10) / 4 + 27.2)
    assert found.expect_usd(1.0) == pytest.approx(0.01 + found.expect_wall_s(1.0) * 5 / 3600)
    assert make_forecast(num_sheets=5).expect_seconds(0).sheets == pytest.approx(2 * (1 + 26.2 / 5))
    crowded = plain(make_forecast(crowding=2.0).expect_seconds(0.5))
    assert all(
        crowded[part] == pytest.approx(2 * s)
        for part, s in plain(make_forecast().expect_seconds(0.5)).items()
        if part != "sheets"
    )


def test_the_curve_goes_from_the_bulk_model_to_the_heavy_one() -> None:
    tiles = [
        PilotTile(
            scene="s",
            row=0,
            col=i,
            is_priority=i == 0,
            runs_bulk=i > 0,
            num_px=10,
            score=i,
            agreeing_px={"bulk": 10 - i, "heavy": 10},
            confusion={"bulk": np.array([[10 - i, i], [0, 0]]), "heavy": np.array([[10, 0], [0, 0]])},
        )
        for i in range(10)
    ]
    points = make_curve(tiles, make_forecast(), also=(5,))
    shares = [point.heavy_share for point in points]
    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (0.1, 1.0)
    assert points[0].threshold == NEVER
    for point in points:
        bulk = [tile for tile in tiles if not (tile.is_priority or tile.score >= point.threshold)]
        assert point.agreement == pytest.approx(1 - sum(t.score for t in bulk) / 100)
        assert point.heavy_share == share_at_threshold(point.threshold, tiles)
    assert points[-1].miou == 1.0
    costs = [point.usd for point in points]
    assert costs == sorted(costs)
    assert any(point.threshold == 5 for point in points)


def test_a_preview_shows_what_a_run_then_gives(place: Workplace) -> None:
    """The sample is all tiles, so the curve at the recipe's own threshold is the run's score."""
    values = np.random.default_rng(3).integers(0, 5, (160, 208))
    labels = (write_scene(place.folder / "labels.tif", values[None].astype("uint8")), None)
    route = Route(priority=("uncertain", polygons(place.folder)))
    recipe = place.recipe(route=route, budget=Budget(heavy_share=0.4), labels=labels)
    store = LocalStore(place.output, durable=False)
    found = preview_pilot(resolve(recipe), Fleet(), store, Placement(), models=fake_models)
    assert not place.output.exists()
    assert found.measure == "miou"
    outcome = place.run(route=route, budget=Budget(heavy_share=0.4), labels=labels)
    (point,) = [point for point in found.curve if point.threshold == found.threshold]
    assert point.miou == outcome.metrics.scores.miou
    assert point.heavy_share == outcome.metrics.heavy_share
    place.run(models=Models(heavy=place.changes["models"].heavy), output=str(place.folder / "alone"))
    same = []
    for scene in ("scene0", "scene1"):
        maps = []
        for output in (place.output, place.folder / "alone"):
            with rasterio.open(output / scene / "labels.tif") as file:
                maps.append(file.read(1))
        same.append((maps[0] == maps[1])[maps[1] != 255])
    assert point.agreement == pytest.approx(np.concatenate(same).mean(), abs=1e-5)
    again = preview_pilot(resolve(recipe), Fleet(), store, Placement(), models=partial(fake_models))
    assert again.threshold == found.threshold


def test_a_plan_with_a_pilot_knows_the_time_that_it_has_measured(
    place: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bundles have no seconds per tile, and the recipe has no budget."""
    monkeypatch.setattr("batchseg.runs.estimate.preview_pilot", partial(preview_pilot, models=fake_models))
    assert plan(place.recipe()).seconds is None
    found = plan(place.recipe(), pilot=True)
    assert found.pilot is not None
    expected = found.pilot.expected
    assert expected.heavy_share == found.pilot.priority_share, "without uncertainty, priority ground alone is heavy"
    assert found.seconds == expected.wall_s
    assert found.usd == pytest.approx(expected.usd - expected.pilot_usd, abs=2e-7), "files keep eight digits"
    assert found.assumptions[0].startswith("time: as the pilot measured on ")
    assert not any("unknown" in text for text in found.assumptions)


@pytest.mark.parametrize("one_machine", [True, False])
def test_a_conversion_that_the_run_will_find_is_no_part_of_its_start(
    place: Workplace, one_machine: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Workers on other machines convert the graphs again; those on this machine find them in the cache."""
    monkeypatch.setenv("BATCHSEG_CACHE", str(place.folder / "cache"))

    def open_slowly(job: Job, spec: WorkerSpec) -> tuple[dict[Tier, Model], dict[str, str]]:
        open_entry("openvino", "graph", lambda _: time.sleep(1.0))
        return fake_models(job, spec)

    starts_s = []
    for _ in range(2):
        found = preview_pilot(
            resolve(place.recipe()),
            Fleet(),
            LocalStore(place.output),
            Placement(one_machine=one_machine),
            models=open_slowly,
        )
        starts_s.append(found.expected.seconds.start)
    assert (starts_s[0] >= 1.0) != one_machine
    assert starts_s[1] < 1.0, "the second pilot finds it too"


def test_a_preview_needs_two_models(place: Workplace) -> None:
    recipe = place.recipe(models=Models(bulk=place.changes["models"].bulk))
    with pytest.raises(RecipeError, match="a pilot compares two models"):
        preview_pilot(resolve(recipe), Fleet(), LocalStore(place.output), Placement(), models=no_models)


def test_a_rehearsal_runs_the_bulk_model_alone_whatever_the_recipes_threshold(place: Workplace) -> None:
    """With this threshold a run sends every tile to the heavy model."""
    route = Route(priority=(ByUncertainty(uncertain=Uncertain(above=0.0)),))
    store = LocalStore(place.output, durable=False)
    found = preview_pilot(resolve(place.recipe(route=route)), Fleet(), store, Placement(), models=fake_models)
    assert found.threshold == 0
    assert found.curve[-1].heavy_share == 1.0
