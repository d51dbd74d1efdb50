"""Place of a run's workers: in this process, or on Ray."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from batchseg.budget.placement import Placement
    from batchseg.recipe import Fleet, Recipe
    from batchseg.resolve.resolve import Resolved
    from batchseg.runs.session import Options, Outcome


class Runner(Protocol):
    """Runs a recipe with the workers of a fleet: `batchseg.run` or `jobs.run`."""

    def __call__(
        self, recipe: Recipe, fleet: Fleet, /, *, options: Options, resolved: Resolved | None = None
    ) -> Outcome: ...


def choose_runner(fleet: Fleet, *, has_fleet_file: bool, join_cluster: bool = False) -> Runner:
    """The runner that these workers need.

    Args:
        fleet: The workers.
        has_fleet_file: Whether the user gave a fleet file; a run without one stays in this process if it can.
        join_cluster: Whether to join a Ray that runs on this machine already, as a submitted job does.
    """
    if (join_cluster and _join_running_ray()) or needs_ray(fleet, has_fleet_file=has_fleet_file):
        from jobs.cluster import on_ray

        return on_ray.run
    from batchseg.runs import session  # noqa: PLC0415 - --help must not wait for it

    return session.run


def needs_ray(fleet: Fleet, *, has_fleet_file: bool) -> bool:
    num_workers = sum(pool.workers for pool in fleet.pools)
    return has_fleet_file or num_workers > 1 or "RAY_ADDRESS" in os.environ


def _join_running_ray() -> bool:
    """Test if this process has joined the Ray of this machine. An address in the environment goes first."""
    if "RAY_ADDRESS" in os.environ:
        return False
    from jobs.cluster.connection import join_ray

    return join_ray("auto")


def find_placement(fleet: Fleet, *, has_fleet_file: bool) -> Placement:
    """Find the place of a run's workers with the same arguments."""
    from batchseg.budget.placement import Placement  # noqa: PLC0415 - --help must not wait for it

    if "RAY_ADDRESS" not in os.environ:
        return Placement(in_process=not needs_ray(fleet, has_fleet_file=has_fleet_file))
    from jobs.cluster.pilot import send_pilot

    return Placement(in_process=False, one_machine=False, send_pilot=send_pilot)
