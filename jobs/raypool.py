"""The pool of Ray actors. Ray carries tasks and records; it is never asked to remember, retry or place work.

An actor is a thin shell around the same Worker that the in-process pool uses. A task is not bound to an actor: when an
actor or its node dies its chunks come back to the run state as a lost worker, and are given to whoever is there. Lost
actors are replaced up to the size of their pool; nobody waits for one that cannot be placed.
"""

from __future__ import annotations

import math
import os
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Literal

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

import ray
from ray.exceptions import RayActorError, RayError

from batchseg.errors import InputError
from batchseg.ledger.keys import TaskKey
from batchseg.ledger.records import Record, SheetRecord
from batchseg.recipe import Fleet, PoolSpec
from batchseg.runs.job import Job
from batchseg.runs.models import device_of
from batchseg.runs.models import open_models as open_bundles
from batchseg.runs.pool import Report, report_of
from batchseg.runs.runstate import Assign, TaskFailed, WorkerLost, WorkerReady
from batchseg.runs.session import DEPTH
from batchseg.runs.worker import Failure, OpenModels, Worker, WorkerSpec
from batchseg.store import LocalStore


class ChunkWorker:
    """The actor. Its thread pool is one wider than the tasks it holds, so that `close` is heard while it works."""

    def __init__(self, spec: WorkerSpec, job: Job, store: LocalStore, open_models: OpenModels) -> None:
        self._worker = Worker(spec, job, store, open_models)

    def open(self) -> str:
        return self._worker.open().spec.name

    def attempt(self, task: TaskKey, number: int) -> Record | SheetRecord | Failure:
        return self._worker.attempt(task, number)

    def close(self) -> None:
        self._worker.close()


def open_ray_pool(job: Job, store: LocalStore, fleet: Fleet, *, open_models: OpenModels = open_bundles) -> RayPool:
    """On the Ray that this process is in, or the cluster of RAY_ADDRESS, or one that lives as long as this run."""
    owns = not ray.is_initialized()
    if owns:
        address = os.environ.get("RAY_ADDRESS")
        start_ray(fleet) if address is None else join_ray(address)
    store = LocalStore(store.root.resolve())
    return RayPool(
        job=ray.put(job),
        devices={pool.name: device_of(pool.device, job) for pool in fleet.pools},
        store=store,
        fleet=fleet,
        open_models=open_models,
        owns_ray=owns,
    ).start()


def start_ray(fleet: Fleet) -> None:
    """A Ray of our own, just wide enough for the fleet, whatever other Ray runs on this machine."""
    cpus = sum(pool.workers * pool.cpus for pool in fleet.pools)
    gpus = sum(pool.workers * pool.gpus for pool in fleet.pools)
    resources: Counter[str] = Counter()
    for pool in fleet.pools:
        resources.update({name: amount * pool.workers for name, amount in pool.resources.items()})
    ray.init(
        address="local",
        num_cpus=max(1, math.ceil(cpus)),
        num_gpus=math.ceil(gpus),
        resources=dict(resources) or None,
        include_dashboard=False,
        configure_logging=False,
        log_to_driver=False,
    )


def join_ray(address: str) -> bool:
    """The cluster at an address, `auto` for the one that runs on this machine; False where there is none."""
    try:
        ray.init(address=address, configure_logging=False, log_to_driver=False)
    except ConnectionError as error:
        if address == "auto":
            return False
        raise InputError("there is no Ray cluster", where=f"RAY_ADDRESS={address}", got=str(error)) from error
    return True


@dataclass(slots=True)
class _Actor:
    handle: Any
    spec: WorkerSpec
    pool: PoolSpec


@dataclass(slots=True)
class RayPool:
    job: Any
    """A reference to the job: workers fetch it once a node."""
    devices: dict[str, Literal["cpu", "cuda"]]
    """Of each pool."""
    store: LocalStore
    fleet: Fleet
    open_models: OpenModels
    owns_ray: bool
    max_starts: int = 100
    """Actors started in a run beyond the first ones: a pool whose workers all die at birth must end."""
    _actors: dict[str, _Actor] = field(default_factory=dict)
    _opening: dict[Any, str] = field(default_factory=dict)
    _running: dict[Any, Assign] = field(default_factory=dict)
    _lost: list[Report] = field(default_factory=list)
    _num_restarts: int = 0

    def start(self) -> RayPool:
        for pool in self.fleet.pools:
            for _ in range(pool.workers):
                self._start_actor(pool)
        return self

    def send(self, assign: Assign) -> None:
        actor = self._actors[assign.worker]
        self._running[actor.handle.attempt.remote(assign.task, assign.attempt)] = assign

    def poll(self, timeout_s: float) -> list[Report]:
        refs = [*self._opening, *self._running]
        done, _ = ray.wait(refs, num_returns=1, timeout=timeout_s, fetch_local=True) if refs else ([], [])
        if done:
            # Whatever else has ended by now is taken along.
            done, _ = ray.wait(refs, num_returns=len(refs), timeout=0)
        reports = [report for ref in done for report in self._take(ref)]
        reports, self._lost = [*self._lost, *reports], []
        return reports

    def close(self) -> None:
        closing = [actor.handle.close.remote() for actor in self._actors.values()]
        ray.wait(closing, num_returns=len(closing), timeout=10.0) if closing else None
        for actor in self._actors.values():
            ray.kill(actor.handle)
        if self.owns_ray:
            ray.shutdown()

    def _take(self, ref: Any) -> list[Report]:
        if ref in self._opening:
            return self._take_opened(ref, self._opening.pop(ref))
        assign = self._running.pop(ref, None)
        if assign is None:
            return []  # its worker was found lost a moment ago
        try:
            return [report_of(assign, ray.get(ref))]
        except RayActorError as error:
            return self._lose(assign.worker, error)
        except RayError as error:
            text = f"{type(error).__name__}: {str(error).splitlines()[0]}"
            return [Report(TaskFailed(assign.worker, assign.task, text, retryable=True))]

    def _take_opened(self, ref: Any, name: str) -> list[Report]:
        try:
            ray.get(ref)
        except RayActorError as error:
            return self._lose(name, error)
        except RayError as error:
            cause = getattr(error, "cause", None)
            raise InputError(
                "a worker cannot open its models", where=self._actors[name].pool.name, got=str(cause or error)
            ) from error
        return [Report(WorkerReady(name))]

    def _lose(self, name: str, error: RayActorError) -> list[Report]:
        actor = self._actors.pop(name, None)
        if actor is None:
            return []
        # It may only be out of reach: whoever gets its chunks must be the only one to have them.
        ray.kill(actor.handle)
        self._running = {ref: assign for ref, assign in self._running.items() if assign.worker != name}
        self._num_restarts += 1
        if self._num_restarts > self.max_starts:
            raise InputError(
                f"{self._num_restarts} workers were lost in this run",
                where=actor.pool.name,
                got=str(error).splitlines()[0],
                todo="look at `ray logs`, and give workers more memory or fewer of them a node",
            )
        self._start_actor(actor.pool)
        return [Report(WorkerLost(name, str(error).splitlines()[0]))]

    def _start_actor(self, pool: PoolSpec) -> None:
        spec = WorkerSpec.new(pool=pool.name, device=self.devices[pool.name], usd_per_hour=pool.usd_per_hour)
        actor_class: Any = ray.remote(ChunkWorker)  # Ray's types do not know that it makes an actor of a class
        handle = actor_class.options(
            num_cpus=pool.cpus,
            num_gpus=pool.gpus,
            resources=pool.resources or None,
            max_concurrency=DEPTH + 1,
            max_restarts=0,
            max_task_retries=0,
        ).remote(spec, self.job, self.store, self.open_models)
        self._actors[spec.name] = _Actor(handle, spec, pool)
        self._opening[handle.open.remote()] = spec.name
