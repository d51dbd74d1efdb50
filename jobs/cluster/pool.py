"""The pool of Ray actors. Ray carries tasks and records; it is never asked to remember, retry or place work.

Theory of operation
-------------------
A task is not bound to an actor. When an actor or its node dies, the run state hears of a lost worker and gives the
tasks to other workers. The life of an actor:

    asked -> placed (it is on a node) -> ready -> [draining] -> lost, retired or closed

The pool asks Ray for as many actors as there is work, within the least and the most of each pool of the fleet, and for
those of cheap pools first. An actor that waits for a place tells an autoscaler to start a node, and it takes its place
within seconds of the node's start. Nothing waits for the actor. If it waits for long, a happening says what it needs
and what is free. Actors that have nothing to do are ended, so that their nodes can be released. Actors on a node that
will be taken away are *draining*: they get no more tasks, are replaced on other nodes, and end when they hold nothing.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from batchseg.tiers import DeviceKind

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

import ray
from ray.exceptions import RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from batchseg.errors import FleetError
from batchseg.recipe import Fleet, PoolSpec
from batchseg.resolve.job import Job
from batchseg.store import Store
from batchseg.workers.events import (
    Assign,
    TaskFailed,
    WorkerDraining,
    WorkerLost,
    WorkerReady,
    WorkerRetired,
)
from batchseg.workers.happenings import Happening, WorkerPlaced
from batchseg.workers.models import choose_pool_device
from batchseg.workers.models import open_models as open_bundles
from batchseg.workers.pool import DEPTH, PoolEvent, make_attempt_event
from batchseg.workers.worker import OpenModels, WorkerSpec
from jobs.cluster.actor import WorkerActor, WorkerInputs, make_worker_inputs
from jobs.cluster.actor_state import ActorState, classify_loss, describe_loss, make_notice_reader
from jobs.cluster.connection import enter_cluster, find_draining_nodes, start_ray
from jobs.cluster.notice import NoticeWatcher
from jobs.cluster.placement_watch import PlacementWatch

LOOK_EVERY_S = 1.0
"""The time between two looks at the cluster's nodes."""
MAX_LOSSES = 20
"""The number of workers lost in a row, none of them ready, after which the run ends: such a fleet never works."""
CLOSE_S = 10.0


def open_ray_pool(job: Job, store: Store, fleet: Fleet, *, open_models: OpenModels = open_bundles) -> RayPool:
    """Open a pool on the Ray of this process, or on the cluster of RAY_ADDRESS, or on a Ray that ends with the run."""
    owns = not ray.is_initialized()
    if not enter_cluster():
        start_ray(fleet)
    return RayPool(
        inputs=make_worker_inputs(job, store, open_models),
        devices={pool.name: choose_pool_device(pool, job, in_process=False) for pool in fleet.pools},
        fleet=fleet,
        owns_ray=owns,
    )


@dataclass(slots=True)
class RayPool:
    """The workers of a fleet as actors on Ray."""

    inputs: WorkerInputs
    devices: dict[str, DeviceKind]
    """The device of the workers of each pool."""
    fleet: Fleet
    owns_ray: bool
    now: Callable[[], float] = time.monotonic
    idle_s: float = 30.0
    """The time without work after which a worker is ended."""
    _actors: dict[str, ActorState] = field(default_factory=dict)
    _awaited: dict[Any, Callable[[Any], list[PoolEvent | Happening]]] = field(default_factory=dict)
    """Ray's references to answers that are due, each with the function that takes the answer."""
    _owner: dict[Any, str] = field(default_factory=dict)
    """The worker that each answer comes from. The answers of a lost worker are dropped."""
    _closing: dict[Any, Any] = field(default_factory=dict)
    _watchers: dict[str, Any] = field(default_factory=dict)
    _news: list[PoolEvent | Happening] = field(default_factory=list)
    """Events that are not answers of Ray; the next poll returns them."""
    _num_lost: int = 0
    _looked_s: float = float("-inf")
    _placement: PlacementWatch = field(default_factory=PlacementWatch)

    # The calls of the driver: the Pool of batchseg/workers/pool.py.

    def resize(self, num_open: int) -> None:
        uncovered = num_open
        for pool in sorted(self.fleet.pools, key=lambda pool: pool.usd_per_hour):
            mine = [a for a in self._actors.values() if a.pool is pool and not a.is_draining]
            wanted = min(max(uncovered, pool.min_workers, 0), pool.workers)
            for _ in range(wanted - len(mine)):
                self._request_actor(pool)
            self._end_idle(mine, len(mine) - wanted)
            uncovered -= sum(actor.is_ready for actor in mine)

    def _end_idle(self, actors: list[ActorState], num: int) -> None:
        nowhere = [a for a in actors if a.node is None]  # those without a place are ended first
        idle = [a for a in actors if a.is_ready and not a.num_held and self.now() - a.idle_since_s >= self.idle_s]
        for actor in [*nowhere, *idle][: max(0, num)]:
            self._retire(actor, "there is not enough work for it")

    def send(self, assign: Assign) -> None:
        actor = self._actors.get(assign.worker)
        if actor is None:
            return  # the worker was lost in the turn that assigned this task; its loss gives the task back
        actor.num_held += 1
        ref = actor.handle.attempt.remote(assign.task, assign.attempt)
        self._await(ref, actor, lambda ref: self._take_attempt(ref, assign))

    def poll(self, timeout_s: float) -> list[PoolEvent | Happening]:
        self._look_around()
        refs = [*self._awaited, *self._closing]
        wait_s = 0.0 if self._news else timeout_s
        if not refs:
            time.sleep(wait_s)  # nothing to do until an absent scene is due
        done, _ = ray.wait(refs, num_returns=1, timeout=wait_s, fetch_local=True) if refs else ([], [])
        if done:
            # Take everything else that has ended by now too.
            done, _ = ray.wait(refs, num_returns=len(refs), timeout=0)
        news, self._news = self._news, []
        return news + [event for ref in done for event in self._take(ref)]

    def dismiss(self, loss: WorkerLost) -> None:
        actor = self._actors.get(loss.worker)
        if actor is not None:
            self._forget(actor)
            self._news.append(PoolEvent(loss))

    def close(self) -> None:
        for actor in list(self._actors.values()):
            self._retire(actor, "the run has ended")
        ray.wait([*self._closing], num_returns=len(self._closing), timeout=CLOSE_S) if self._closing else None
        for handle in [*self._closing.values(), *self._watchers.values()]:
            ray.kill(handle)
        if self.owns_ray:
            ray.shutdown()

    # The life of an actor.

    def _request_actor(self, pool: PoolSpec) -> None:
        spec = WorkerSpec.new(
            pool=pool.name,
            device=self.devices[pool.name],
            usd_per_hour=pool.usd_per_hour,
            read_s=self.fleet.patience.read_s,
        )
        actor_class: Any = ray.remote(WorkerActor)  # Ray's types do not know that it makes an actor class
        handle = actor_class.options(
            num_cpus=pool.cpus,
            num_gpus=pool.gpus,
            resources=pool.resources or None,
            max_concurrency=DEPTH + 2,
            max_restarts=0,
            max_task_retries=0,
        ).remote(spec, self.inputs)
        actor = ActorState(handle, spec, pool, asked_s=self.now())
        self._actors[spec.name] = actor
        self._await(handle.place.remote(), actor, lambda ref: self._take_placed(ref, actor))

    def _await(self, ref: Any, actor: ActorState, take: Callable[[Any], list[PoolEvent | Happening]]) -> None:
        self._awaited[ref], self._owner[ref] = take, actor.name

    def _take(self, ref: Any) -> list[PoolEvent | Happening]:
        if ref in self._closing:
            ray.kill(self._closing.pop(ref))
            return []
        take, owner = self._awaited.pop(ref, None), self._owner.pop(ref, None)
        if take is None:
            return []  # its worker was lost a moment ago
        try:
            return take(ref)
        except RayError as error:
            # Dead, killed by the memory monitor, or out of reach: in every case the worker does no more work.
            return self._lose_worker(str(owner), error)

    def _take_placed(self, ref: Any, actor: ActorState) -> list[PoolEvent | Happening]:
        actor.node, actor.placed_s = ray.get(ref), self.now()
        self._await(actor.handle.open.remote(), actor, lambda ref: self._take_opened(ref, actor))
        return [WorkerPlaced(worker=actor.name, node=actor.node, usd_per_hour=actor.pool.usd_per_hour)]

    def _take_opened(self, ref: Any, actor: ActorState) -> list[PoolEvent | Happening]:
        ray.get(ref)
        self._num_lost = 0
        actor.is_ready, actor.idle_since_s = True, self.now()
        return [PoolEvent(WorkerReady(actor.name, actor.pool.usd_per_hour, actor.pool.only))]

    def _take_attempt(self, ref: Any, assign: Assign) -> list[PoolEvent | Happening]:
        actor = self._actors[assign.worker]
        actor.num_held -= 1
        actor.idle_since_s = self.now()
        try:
            return [make_attempt_event(assign, ray.get(ref))]
        except RayTaskError as error:
            text = f"{type(error).__name__}: {str(error).splitlines()[-1]}"
            return [PoolEvent(TaskFailed(assign.worker, assign.task, text, retryable=True))]

    def _forget(self, actor: ActorState) -> None:
        """Kill an actor that may only be out of reach: the workers that get its tasks must be the only ones."""
        ray.kill(actor.handle)
        del self._actors[actor.name]
        gone = [ref for ref, owner in self._owner.items() if owner == actor.name]
        for ref in gone:
            del self._awaited[ref], self._owner[ref]

    def _retire(self, actor: ActorState, why: str) -> None:
        """End an actor, with a last heartbeat; an actor that is not ready has nothing to write."""
        handle, was_ready = actor.handle, actor.is_ready
        if not was_ready:
            self._forget(actor)
            return
        del self._actors[actor.name]
        self._closing[handle.close.remote()] = handle
        self._news.append(PoolEvent(WorkerRetired(actor.name, why)))

    def _lose_worker(self, name: str, error: RayError) -> list[PoolEvent | Happening]:
        actor = self._actors.get(name)
        if actor is None:
            return []
        self._forget(actor)
        why = describe_loss(error)
        self._num_lost += not actor.is_draining
        if self._num_lost > MAX_LOSSES or isinstance(getattr(error, "cause", None), FleetError):
            raise FleetError(
                f"{self._num_lost} workers were lost one after the other, and none became ready",
                where=f"pools: {actor.pool.name}",
                got=why,
                todo="look at `ray logs` for the reason; the same command resumes the run",
            )
        return [PoolEvent(WorkerLost(name, why, classify_loss(error)))]

    # Looking at the cluster.

    def _look_around(self) -> None:
        if self.now() - self._looked_s < LOOK_EVERY_S:
            return
        self._looked_s = self.now()
        if self.fleet.ec2_notice is not None:
            self._watch_nodes(self.fleet.ec2_notice)
        self._find_drained_actors()
        report = self._placement.check(list(self._actors.values()), self.now(), self.fleet.patience.start_s)
        if report is not None:
            self._news.append(report)
        for actor in list(self._actors.values()):
            if actor.node and not actor.is_ready and self.now() - actor.placed_s > self.fleet.patience.start_s:
                self._num_lost += 1
                self.dismiss(WorkerLost(actor.name, f"not ready {self.fleet.patience.start_s:g} s after its start"))

    def _find_drained_actors(self) -> None:
        draining = find_draining_nodes()
        for actor in list(self._actors.values()):
            if actor.node in draining and not actor.is_draining:
                actor.is_draining = True
                until = draining[actor.node]
                left = "" if until is None else f", in {max(0.0, until - time.time()):.0f} s"
                self._news.append(PoolEvent(WorkerDraining(actor.name, f"node {actor.node[:8]} is going away{left}")))
            elif actor.is_draining and actor.is_ready and not actor.num_held:
                self._retire(actor, "its node is going away, and it holds nothing")

    def _watch_nodes(self, endpoint: str) -> None:
        watcher_class: Any = ray.remote(NoticeWatcher)
        for node in {actor.node for actor in self._actors.values() if actor.node} - self._watchers.keys():
            here = NodeAffinitySchedulingStrategy(node, soft=False)
            handle = watcher_class.options(num_cpus=0, scheduling_strategy=here).remote(endpoint)
            self._watchers[node] = handle
            self._awaited[handle.watch.remote()] = make_notice_reader(node)
