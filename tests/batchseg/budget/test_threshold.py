"""A budget is a threshold: found once by a sample, written down, and read by every resume."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchseg.budget.pilot_file import read_pilot
from batchseg.budget.sample import PilotTile, share_at_threshold, threshold_for_share
from batchseg.engine.route import NEVER
from batchseg.errors import DamagedError, ForeignRunError
from batchseg.paths import PILOT_KEY
from batchseg.recipe import Budget, Fleet, Models, Route
from batchseg.resolve.plan_file import read_plan
from batchseg.resolve.resolve import resolve
from batchseg.runs.session import Options, run
from batchseg.schema import plain
from batchseg.store import LocalStore
from tests.batchseg.engine.test_route import polygons
from tests.runs import Workplace, fake_pool, noise, product_bytes, write_fake_bundle
from tests.strategies import quick

UNCERTAIN = Route(priority=("uncertain",))


@pytest.fixture
def place(tmp_path: Path) -> Workplace:
    workplace = Workplace.of(tmp_path, noise(160, 208), noise(64, 64, seed=5))
    bundles = [write_fake_bundle(tmp_path / tier, halo_px=halo) for tier, halo in (("bulk", 8), ("heavy", 13))]
    workplace.changes["models"] = Models(bulk=bundles[0], heavy=bundles[1])
    return workplace


@st.composite
def samples(draw: st.DrawFn) -> list[PilotTile]:
    scores = draw(st.lists(st.tuples(st.integers(0, 40), st.booleans()), min_size=1, max_size=60))
    return [
        PilotTile(scene="s", row=0, col=i, is_priority=is_priority, runs_bulk=not is_priority, num_px=1, score=score)
        for i, (score, is_priority) in enumerate(scores)
    ]


@quick
@given(samples(), st.floats(0, 1))
def test_the_threshold_is_the_lowest_that_the_share_allows(tiles: list[PilotTile], share: float) -> None:
    threshold = threshold_for_share(share, tiles)
    allowed = max(round(share * len(tiles)), sum(tile.is_priority for tile in tiles))
    assert share_at_threshold(threshold, tiles) * len(tiles) <= allowed + 1e-9
    if threshold not in (0, NEVER):
        assert share_at_threshold(threshold - 1, tiles) * len(tiles) > allowed


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_a_sample_of_all_tiles_keeps_the_share(place: Workplace, share: float) -> None:
    outcome = place.run(route=UNCERTAIN, budget=Budget(heavy_share=share))
    tiles = outcome.metrics.tiles
    assert tiles.bulk + tiles.heavy + tiles.skipped == 130 + 16
    # Tiles of one score go one way together.
    assert tiles.heavy <= round(share * 146)
    assert tiles.heavy >= round(share * 146) - 3


def test_priority_ground_is_part_of_the_share(place: Workplace) -> None:
    route = Route(priority=("uncertain", polygons(place.folder)))
    tiles = place.run(route=route, budget=Budget(heavy_share=0.3)).metrics.tiles
    assert round(0.3 * 146) - 3 <= tiles.heavy <= round(0.3 * 146)
    few = place.run(route=route, budget=Budget(heavy_share=0.01), output=str(place.folder / "few"))
    assert few.metrics.tiles.heavy == 3 * 4 * 2  # what the polygons touch in both scenes


def test_a_small_sample_comes_near(place: Workplace) -> None:
    outcome = place.run(route=UNCERTAIN, budget=Budget(heavy_share=0.4, sample_tiles=60))
    assert abs(outcome.metrics.heavy_share - 0.4) < 0.15
    assert json.loads((place.output / PILOT_KEY).read_text())["num_tiles"] == 60


def test_the_threshold_is_in_plan_and_fingerprint_and_a_resume_reads_it(place: Workplace) -> None:
    recipe = place.recipe(route=UNCERTAIN, budget=Budget(heavy_share=0.3))
    place.run(route=UNCERTAIN, budget=Budget(heavy_share=0.3))
    before = product_bytes(place.output)
    store = LocalStore(place.output, durable=False)
    threshold = json.loads((place.output / PILOT_KEY).read_text())["threshold"]
    plan = read_plan(store)
    assert plan.doubt is not None
    assert plan.doubt.threshold == threshold
    assert plan.fingerprint != resolve(recipe).fingerprint  # which knows no threshold yet
    (place.output / "run/records/scene0/0_0.json").unlink()

    def no_pilot(*_: Any) -> Any:
        raise AssertionError("a resume runs no pilot")

    outcome = run(recipe, Fleet(), open_pool=fake_pool, options=Options(open_models=no_pilot), store=store)
    assert outcome.exit_status == 0
    assert product_bytes(place.output) == before


def test_another_budget_is_another_recipe(place: Workplace) -> None:
    place.run(route=UNCERTAIN, budget=Budget(heavy_share=0.3))
    with pytest.raises(ForeignRunError, match=r"different: route\.budget\.heavy_share \(0\.3 -> 0\.4\)\. Give"):
        place.run(route=UNCERTAIN, budget=Budget(heavy_share=0.4))


def test_the_same_threshold_whatever_the_chunks(place: Workplace) -> None:
    found = set()
    for chunk in (16, 48):
        out = place.folder / f"out{chunk}"
        tiling = type(place.recipe().tiling)(core=16, chunk=chunk)
        place.run(route=UNCERTAIN, budget=Budget(heavy_share=0.2, sample_tiles=50), tiling=tiling, output=str(out))
        found.add(json.loads((out / PILOT_KEY).read_text())["threshold"])
    assert len(found) == 1


def test_the_pilots_file_is_read_back_and_a_damaged_one_says_what_to_do(place: Workplace) -> None:
    place.run(route=UNCERTAIN, budget=Budget(heavy_share=0.3, sample_tiles=40))
    store, path = LocalStore(place.output, durable=False), place.output / PILOT_KEY
    pilot = read_pilot(store)
    assert pilot is not None
    content = json.loads(path.read_text())
    assert content.pop("digest")
    assert plain(pilot) == content
    for damage in ("{", '{"threshold": 3}', "[]", path.read_text().replace('"scores"', '"score"')):
        path.write_text(damage)
        with pytest.raises(
            DamagedError,
            match=r"run/pilot\.json: this file does not hold what batchseg writes there; got .*\. Remove it",
        ):
            read_pilot(store)
    path.unlink()
    assert read_pilot(store) is None
