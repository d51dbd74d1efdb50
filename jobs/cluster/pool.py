"""The pool of Ray actors. Ray carries tasks and records; it is never asked to remember, retry or place work.

Theory of operation
-------------------
A task is not bound to an actor: when an actor or its node dies, its chunks come back to the run state as a lost worker,
and are given to whoever is there. The life of an actor:

    asked -> placed (it is on a node) -> ready -> [draining] -> lost, retired or closed

As many actors are asked for as there is work, within each pool's least and most, those of cheap pools first: an actor
that waits for a place is what tells an autoscaler to start a node, and it takes that place within seconds of the node's
arrival. Nobody waits for it; if it waits for long, a note says what it asks for and what is free. Actors that have
nothing to do are sent home, so that their nodes can go. Actors on a node that is going away are *draining*: they get
nothing more, are replaced elsewhere, and go home when their hands are empty.
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
from batchseg.workers.happenings import Happening, WorkerPlaced, WorkersUnplaced
from batchseg.workers.models import choose_pool_device
from batchseg.workers.models import open_models as open_bundles
from batchseg.workers.pool import DEPTH, PoolEvent, make_attempt_event
from batchseg.workers.worker import OpenModels, WorkerSpec
from jobs.cluster.actor import ChunkWorker, Parcel, make_parcel
from jobs.cluster.connection import describe_free_resources, enter_cluster, find_draining_nodes, start_ray
from jobs.cluster.member import Member, classify_loss, describe_loss, describe_unplaced, make_notice_reader
from jobs.cluster.notice import NoticeWatcher

LOOK_EVERY_S = 1.0
"""How often the cluster is asked what is new."""
TELL_EVERY_S = 60.0
UNPLACED_S = 10.0
"""An actor that is nowhere for so long is told of."""
MAX_LOSSES = 20
"""Workers lost one after the other without any becoming ready: a fleet that dies at birth must end."""
CLOSE_S = 10.0


def open_ray_pool(job: Job, store: Store, fleet: Fleet, *, open_models: OpenModels = open_bundles) -> RayPool:
    """On the Ray that this process is in, or the cluster of RAY_ADDRESS, or one that lives as long as this run."""
    owns = not ray.is_initialized()
    if not enter_cluster():
        start_ray(fleet)
    return RayPool(
        parcel=make_parcel(job, store, open_models),
        devices={pool.name: choose_pool_device(pool, job, in_process=False) for pool in fleet.pools},
        fleet=fleet,
        owns_ray=owns,
    )


@dataclass(slots=True)
class RayPool:
    parcel: Parcel
    devices: dict[str, DeviceKind]
    """Of each pool."""
    fleet: Fleet
    owns_ray: bool
    now: Callable[[], float] = time.monotonic
    idle_s: float = 30.0
    """A worker without work for so long is sent home."""
    _actors: dict[str, Member] = field(default_factory=dict)
    _awaited: dict[Any, Callable[[Any], list[PoolEvent | Happening]]] = field(default_factory=dict)
    """What Ray was asked for, and who takes the answer."""
    _owner: dict[Any, str] = field(default_factory=dict)
    """Whose answer it is; what a lost worker leaves is taken by nobody."""
    _closing: dict[Any, Any] = field(default_factory=dict)
    _watchers: dict[str, Any] = field(default_factory=dict)
    _told: list[PoolEvent | Happening] = field(default_factory=list)
    """Events that did not come from Ray; the next poll gives them."""
    _num_lost: int = 0
    _nobody_since_s: float | None = None
    _looked_s: float = float("-inf")
    _complained_s: float = float("-inf")

    # What the driver asks for

    def resize(self, num_open: int) -> None:
        uncovered = num_open
        for pool in sorted(self.fleet.pools, key=lambda pool: pool.usd_per_hour):
            mine = [a for a in self._actors.values() if a.pool is pool and not a.is_draining]
            wanted = min(max(uncovered, pool.min_workers, 0), pool.workers)
            for _ in range(wanted - len(mine)):
                self._ask_for(pool)
            self._send_home(mine, len(mine) - wanted)
            uncovered -= sum(actor.is_ready for actor in mine)

    def _send_home(self, actors: list[Member], num: int) -> None:
        nowhere = [a for a in actors if a.node is None]  # first those that are nowhere yet
        idle = [a for a in actors if a.is_ready and not a.num_held and self.now() - a.idle_since_s >= self.idle_s]
        for actor in [*nowhere, *idle][: max(0, num)]:
            self._retire(actor, "there is not enough work for it")

    def send(self, assign: Assign) -> None:
        actor = self._actors.get(assign.worker)
        if actor is None:
            return  # it was lost in the very turn that made room for this task; its loss gives the task back
        actor.num_held += 1
        ref = actor.handle.attempt.remote(assign.task, assign.attempt)
        self._await(ref, actor, lambda ref: self._take_attempt(ref, assign))

    def poll(self, timeout_s: float) -> list[PoolEvent | Happening]:
        self._look_around()
        refs = [*self._awaited, *self._closing]
        wait_s = 0.0 if self._told else timeout_s
        done, _ = ray.wait(refs, num_returns=1, timeout=wait_s, fetch_local=True) if refs else ([], [])
        if done:
            # Whatever else has ended by now is taken along.
            done, _ = ray.wait(refs, num_returns=len(refs), timeout=0)
        reports, self._told = self._told, []
        return reports + [report for ref in done for report in self._take(ref)]

    def dismiss(self, loss: WorkerLost) -> None:
        actor = self._actors.get(loss.worker)
        if actor is not None:
            self._forget(actor)
            self._told.append(PoolEvent(loss))

    def close(self) -> None:
        for actor in list(self._actors.values()):
            self._retire(actor, "the run has ended")
        ray.wait([*self._closing], num_returns=len(self._closing), timeout=CLOSE_S) if self._closing else None
        for handle in [*self._closing.values(), *self._watchers.values()]:
            ray.kill(handle)
        if self.owns_ray:
            ray.shutdown()

    # An actor's life

    def _ask_for(self, pool: PoolSpec) -> None:
        spec = WorkerSpec.new(pool=pool.name, device=self.devices[pool.name], usd_per_hour=pool.usd_per_hour)
        actor_class: Any = ray.remote(ChunkWorker)  # Ray's types do not know that it makes an actor of a class
        handle = actor_class.options(
            num_cpus=pool.cpus,
            num_gpus=pool.gpus,
            resources=pool.resources or None,
            max_concurrency=DEPTH + 2,
            max_restarts=0,
            max_task_retries=0,
        ).remote(spec, self.parcel)
        actor = Member(handle, spec, pool, asked_s=self.now())
        self._actors[spec.name] = actor
        self._await(handle.place.remote(), actor, lambda ref: self._take_placed(ref, actor))

    def _await(self, ref: Any, actor: Member, take: Callable[[Any], list[PoolEvent | Happening]]) -> None:
        self._awaited[ref], self._owner[ref] = take, actor.name

    def _take(self, ref: Any) -> list[PoolEvent | Happening]:
        if ref in self._closing:
            ray.kill(self._closing.pop(ref))
            return []
        take, owner = self._awaited.pop(ref, None), self._owner.pop(ref, None)
        if take is None:
            return []  # its worker was found lost a moment ago
        try:
            return take(ref)
        except RayError as error:
            # Dead, killed by the memory monitor, or out of reach: in every case it does no more work.
            return self._lose(str(owner), error)

    def _take_placed(self, ref: Any, actor: Member) -> list[PoolEvent | Happening]:
        actor.node, actor.placed_s = ray.get(ref), self.now()
        self._await(actor.handle.open.remote(), actor, lambda ref: self._take_opened(ref, actor))
        return [WorkerPlaced(worker=actor.name, node=actor.node, usd_per_hour=actor.pool.usd_per_hour)]

    def _take_opened(self, ref: Any, actor: Member) -> list[PoolEvent | Happening]:
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

    def _forget(self, actor: Member) -> None:
        """It may only be out of reach: whoever gets its chunks must be the only one to have them."""
        ray.kill(actor.handle)
        del self._actors[actor.name]
        gone = [ref for ref, owner in self._owner.items() if owner == actor.name]
        for ref in gone:
            del self._awaited[ref], self._owner[ref]

    def _retire(self, actor: Member, why: str) -> None:
        """Let it write its last beat; where it is nowhere yet there is nothing to write."""
        handle, was_ready = actor.handle, actor.is_ready
        if not was_ready:
            self._forget(actor)
            return
        del self._actors[actor.name]
        self._closing[handle.close.remote()] = handle
        self._told.append(PoolEvent(WorkerRetired(actor.name, why)))

    def _lose(self, name: str, error: RayError) -> list[PoolEvent | Happening]:
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
                todo="look at `ray logs`; the same command goes on",
            )
        return [PoolEvent(WorkerLost(name, why, classify_loss(error)))]

    # What is new on the cluster

    def _look_around(self) -> None:
        if self.now() - self._looked_s < LOOK_EVERY_S:
            return
        self._looked_s = self.now()
        if self.fleet.ec2_notice is not None:
            self._watch_nodes(self.fleet.ec2_notice)
        self._hear_drains()
        self._complain()
        for actor in list(self._actors.values()):
            if actor.node and not actor.is_ready and self.now() - actor.placed_s > self.fleet.patience.start_s:
                self._num_lost += 1
                self.dismiss(WorkerLost(actor.name, f"not ready {self.fleet.patience.start_s:g} s after its start"))

    def _hear_drains(self) -> None:
        draining = find_draining_nodes()
        for actor in list(self._actors.values()):
            if actor.node in draining and not actor.is_draining:
                actor.is_draining = True
                until = draining[actor.node]
                left = "" if until is None else f", in {max(0.0, until - time.time()):.0f} s"
                self._told.append(PoolEvent(WorkerDraining(actor.name, f"node {actor.node[:8]} is going away{left}")))
            elif actor.is_draining and actor.is_ready and not actor.num_held:
                self._retire(actor, "its node is going away, and it holds nothing")

    def _watch_nodes(self, endpoint: str) -> None:
        watcher_class: Any = ray.remote(NoticeWatcher)
        for node in {actor.node for actor in self._actors.values() if actor.node} - self._watchers.keys():
            here = NodeAffinitySchedulingStrategy(node, soft=False)
            handle = watcher_class.options(num_cpus=0, scheduling_strategy=here).remote(endpoint)
            self._watchers[node] = handle
            self._awaited[handle.watch.remote()] = make_notice_reader(node)

    def _complain(self) -> None:
        """Of workers that are nowhere; and end a run that has nobody for too long."""
        now_s = self.now()
        nowhere = [a for a in self._actors.values() if a.node is None and now_s - a.asked_s > UNPLACED_S]
        placed = any(a.node is not None for a in self._actors.values())
        if placed or not self._actors:
            self._nobody_since_s = None
        elif self._nobody_since_s is None:
            self._nobody_since_s = now_s
        if not nowhere:
            return
        text = "; ".join(describe_unplaced(nowhere))
        if self._nobody_since_s is not None and now_s - self._nobody_since_s > self.fleet.patience.start_s:
            raise FleetError(
                f"no worker found a place in {self.fleet.patience.start_s:g} s",
                where="pools",
                got=f"{text}; free: {describe_free_resources()}",
                todo="look at `ray status`; the same command goes on",
            )
        if now_s - self._complained_s > TELL_EVERY_S:
            self._complained_s = now_s
            self._told.append(WorkersUnplaced(why=f"{text}; free: {describe_free_resources()}"))
