"""The arguments of verbs that have workers: a fleet file, or a number of workers on this machine."""

from __future__ import annotations

import argparse
import dataclasses
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from batchseg.recipe import Fleet


def add_fleet_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--fleet", metavar="FLEET", help="fleet file (YAML): workers, prices, retries; needs Ray")
    parser.add_argument(
        "--workers",
        type=int,
        metavar="N",
        help="number of local workers, which share the cores and the price of this machine; above 1 needs Ray",
    )


def load_limited_fleet(path: str | None, num_workers: int | None) -> Fleet:
    """Load a fleet file, or the fleet of this machine, with so many workers in its only pool."""
    from batchseg.errors import RecipeError
    from batchseg.recipe import load_fleet

    fleet = load_fleet(path)
    if num_workers is None:
        return fleet
    if num_workers < 1:
        raise RecipeError(
            "the number of workers must be positive", where="--workers", expected="1 or more", got=str(num_workers)
        )
    if len(fleet.pools) > 1:
        raise RecipeError(
            "--workers needs a fleet of one pool",
            where="--workers",
            got=f"{len(fleet.pools)} pools",
            todo="set `workers` of each pool in the fleet file",
        )
    pool = fleet.pools[0]
    is_this_machine = path is None and "RAY_ADDRESS" not in os.environ
    usd_per_hour = pool.usd_per_hour / num_workers if is_this_machine else pool.usd_per_hour
    return dataclasses.replace(
        fleet, pools=(dataclasses.replace(pool, workers=num_workers, usd_per_hour=usd_per_hour),)
    )
