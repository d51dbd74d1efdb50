"""`--fleet` and `--workers`: who works, and at which price."""

from __future__ import annotations

from pathlib import Path

import pytest

from batchseg.errors import RecipeError
from batchseg.recipe import Fleet
from jobs.terminal.fleet_arguments import load_limited_fleet


@pytest.fixture(autouse=True)
def without_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)


def test_local_workers_share_the_price_of_this_machine() -> None:
    price = Fleet().pools[0].usd_per_hour
    pool = load_limited_fleet(None, 4).pools[0]
    assert (pool.workers, pool.usd_per_hour) == (4, price / 4)
    assert load_limited_fleet(None, None) == Fleet()


def test_workers_of_a_cluster_or_of_a_fleet_file_keep_their_price(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet = tmp_path / "fleet.yaml"
    fleet.write_text("pools: [{name: spot, workers: 9, usd_per_hour: 2.0}]")
    pool = load_limited_fleet(str(fleet), 3).pools[0]
    assert (pool.workers, pool.usd_per_hour) == (3, 2.0)
    monkeypatch.setenv("RAY_ADDRESS", "ray://head:10001")
    assert load_limited_fleet(None, 4).pools[0].usd_per_hour == Fleet().pools[0].usd_per_hour


def test_a_number_of_workers_that_no_fleet_can_have_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="--workers: the number of workers must be positive"):
        load_limited_fleet(None, 0)
    fleet = tmp_path / "fleet.yaml"
    fleet.write_text("pools: [{name: a}, {name: b}]")
    with pytest.raises(RecipeError, match="--workers needs a fleet of one pool"):
        load_limited_fleet(str(fleet), 2)
