"""The pool of Ray actors. Ray carries tasks and records; it is never asked to remember, retry or place work.

An actor is a thin shell around the same Worker that the in-process pool uses. A task is not bound to an actor: when an
actor or its node dies its chunks come back to the run state as a lost worker, and are given to whoever is there. Lost
actors are replaced up to the size of their pool; nobody waits for one that cannot be placed.
"""

from __future__ import annotations

import math
import os
import signal
import threading
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Literal

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

import ray
from ray.exceptions import RayError, RayTaskError

from batchseg.errors import FleetError, InputError
from batchseg.ledger.keys import TaskKey
from batchseg.ledger.ledger import Ledger
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
        found = Ledger(self._worker.store).resolved()
        if found is None or found["fingerprint"] != self._worker.job.fingerprint:
            raise FleetError(
                "a worker does not see the output folder of the driver",
                where="output",
                todo="give an output on a disk that all nodes share",
            )
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
        if address is None:
            start_ray(fleet)
        elif not join_ray(address):
            raise InputError("there is no Ray cluster", where=f"RAY_ADDRESS={address}", todo="unset it, or start one")
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
    _init(
        address="local",
        num_cpus=max(1, math.ceil(cpus)),
        num_gpus=math.ceil(gpus),
        resources=dict(resources) or None,
        include_dashboard=False,
    )


def _init(**options: Any) -> None:
    """Ray takes SIGTERM for itself and would end the driver where it stands; a run ends its chunks in hand first."""
    main = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(configure_logging=False, log_to_driver=False, **options)
    finally:
        if main:
            signal.signal(signal.SIGTERM, before)


def join_ray(address: str) -> bool:
    """The cluster at an address, `auto` for the one that runs on this machine; False where there is none."""
    try:
        _init(address=address)
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
    max_losses: int = 20
    """Workers that may be lost one after the other without any becoming ready: a fleet that dies at birth must end."""
    _actors: dict[str, _Actor] = field(default_factory=dict)
    _opening: dict[Any, str] = field(default_factory=dict)
    _running: dict[Any, Assign] = field(default_factory=dict)
    _num_lost: int = 0

    def start(self) -> RayPool:
        for pool in self.fleet.pools:
            for _ in range(pool.workers):
                self._start_actor(pool)
        return self

    def send(self, assign: Assign) -> None:
        actor = self._actors.get(assign.worker)
        if actor is None:
            return  # it was lost in the very turn that made room for this task; its loss gives the task back
        self._running[actor.handle.attempt.remote(assign.task, assign.attempt)] = assign

    def poll(self, timeout_s: float) -> list[Report]:
        refs = [*self._opening, *self._running]
        done, _ = ray.wait(refs, num_returns=1, timeout=timeout_s, fetch_local=True) if refs else ([], [])
        if done:
            # Whatever else has ended by now is taken along.
            done, _ = ray.wait(refs, num_returns=len(refs), timeout=0)
        return [report for ref in done for report in self._take(ref)]

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
        except RayTaskError as error:
            text = f"{type(error).__name__}: {str(error).splitlines()[-1]}"
            return [Report(TaskFailed(assign.worker, assign.task, text, retryable=True))]
        except RayError as error:
            # Dead, killed by the memory monitor, or out of reach: in every case it does no more work.
            return self._lose(assign.worker, error)

    def _take_opened(self, ref: Any, name: str) -> list[Report]:
        try:
            ray.get(ref)
        except RayError as error:
            return self._lose(name, error)
        self._num_lost = 0
        return [Report(WorkerReady(name))]

    def _lose(self, name: str, error: RayError) -> list[Report]:
        actor = self._actors.pop(name, None)
        if actor is None:
            return []
        # It may only be out of reach: whoever gets its chunks must be the only one to have them.
        ray.kill(actor.handle)
        self._running = {ref: assign for ref, assign in self._running.items() if assign.worker != name}
        self._num_lost += 1
        why = str(getattr(error, "cause", None) or error).splitlines()[0]
        if self._num_lost > self.max_losses or isinstance(getattr(error, "cause", None), FleetError):
            raise FleetError(
                f"{self._num_lost} workers were lost one after the other, and none became ready",
                where=f"pools: {actor.pool.name}",
                got=why,
                todo="look at `ray logs`; the same command goes on",
            )
        self._start_actor(actor.pool)
        return [Report(WorkerLost(name, why))]

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
