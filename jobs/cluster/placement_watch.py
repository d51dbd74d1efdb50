"""Watches for actors that Ray finds no place for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from batchseg.errors import FleetError
from batchseg.workers.happenings import WorkersUnplaced
from jobs.cluster.actor_state import ActorState
from jobs.cluster.connection import describe_free_resources, describe_resources, fits_on_a_node, list_demand

UNPLACED_S = 10.0
"""The time without a place after which an actor is reported."""
REPORT_EVERY_S = 60.0


@dataclass(slots=True)
class PlacementWatch:
    """Reports actors without a place, and ends a run that has had no worker for too long."""

    _without_worker_since_s: float | None = None
    _reported_s: float = float("-inf")

    def check(self, actors: Sequence[ActorState], now_s: float, start_s: float) -> WorkersUnplaced | None:
        """Look at the actors of a pool.

        Args:
            actors: All actors that are not closed.
            now_s: The time on the pool's clock.
            start_s: How long a run may be without any worker that has a place.

        Returns:
            What the actors without a place wait for, once per minute at most.

        Raises:
            FleetError: No actor has had a place for longer than `start_s`.
        """
        if any(actor.node is not None for actor in actors) or not actors:
            self._without_worker_since_s = None
        elif self._without_worker_since_s is None:
            self._without_worker_since_s = now_s
        unplaced = [actor for actor in actors if actor.node is None and now_s - actor.asked_s > UNPLACED_S]
        if not unplaced:
            return None
        why = f"{'; '.join(_describe_unplaced(unplaced))}; free: {describe_free_resources()}"
        if self._without_worker_since_s is not None and now_s - self._without_worker_since_s > start_s:
            raise FleetError(
                f"no worker found a place in {start_s:g} s",
                where="pools",
                got=why,
                todo="look at `ray status` for free resources; the same command resumes the run",
            )
        if now_s - self._reported_s <= REPORT_EVERY_S:
            return None
        self._reported_s = now_s
        return WorkersUnplaced(why=why)


def _describe_unplaced(unplaced: Sequence[ActorState]) -> list[str]:
    """Describe what the actors without a place wait for, one text per pool."""
    pools = {actor.pool.name: actor.pool for actor in unplaced}
    names = [actor.pool.name for actor in unplaced]
    texts = []
    for name, pool in pools.items():
        demand = list_demand(pool)
        where = "is full" if fits_on_a_node(demand) else "has no node for it"
        texts.append(
            f"{names.count(name)} of pool {name} wait for {describe_resources(demand)}, and the cluster {where}"
        )
    return texts
