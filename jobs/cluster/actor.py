"""The Ray actor: a thin shell around the Worker that the in-process pool uses too."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ray

from batchseg.atomic import LEAST_UMASK
from batchseg.egress import redact_errors
from batchseg.errors import FleetError
from batchseg.ledger.keys import TaskKey
from batchseg.ledger.ledger import Ledger
from batchseg.ledger.records import TaskRecord
from batchseg.model.cache import open_entry
from batchseg.resolve.job import Job
from batchseg.store import LocalStore, Store
from batchseg.tiers import Tier
from batchseg.workers.failure import Failure
from batchseg.workers.worker import OpenModels, Worker, WorkerSpec
from jobs.terminal.redacted_output import redact_streams

BundleFiles = dict[str, bytes]
"""The files of a bundle, by their paths inside the bundle."""
BundleRefs = Mapping[str, list[Any]]
"""By the digest of a bundle, Ray's reference to its files. It is in a list so that Ray does not fetch it at once."""


@dataclass(frozen=True, slots=True)
class WorkerInputs:
    """Data that every worker of a run needs. They are small: Ray brings what the references hold to each node once."""

    job: Any
    """Ray's reference to the job."""
    bundles: BundleRefs
    store: Store
    open_models: OpenModels


def make_worker_inputs(job: Job, store: Store, open_models: OpenModels) -> WorkerInputs:
    if isinstance(store, LocalStore):
        store = LocalStore(store.root.resolve())
    return WorkerInputs(ray.put(job), pack_bundles(job), store, open_models)


def pack_bundles(job: Job) -> BundleRefs:
    return {model.digest: [ray.put(_read_bundle_files(Path(model.ref)))] for model in job.models.values()}


def _read_bundle_files(folder: Path) -> BundleFiles:
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and "checkpoint" not in path.parts]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


class WorkerActor:
    """A worker in a process of its own. It has two threads more than tasks, to answer `place` and `close` meanwhile."""

    def __init__(self, spec: WorkerSpec, inputs: WorkerInputs) -> None:
        os.umask(os.umask(0o077) | LEAST_UMASK)
        redact_streams()  # they end in the log files of Ray
        self._spec, self._inputs = spec, inputs
        self._worker: Worker | None = None

    @redact_errors
    def place(self) -> str:
        """The node of this actor. Any answer means that Ray has placed it."""
        return str(ray.get_runtime_context().get_node_id())

    @redact_errors
    def open(self) -> str:
        """Open the models; returns the worker's name. Raises FleetError where this node does not see the output."""
        inputs = self._inputs
        job: Job = ray.get(inputs.job)
        recipe = Ledger(inputs.store).read_recipe()
        if recipe is None or recipe.fingerprint != job.fingerprint:
            raise FleetError(
                "a worker does not see the output folder of the driver",
                where="output",
                todo="give an output folder that all nodes share, or a URL",
            )
        job = unpack_bundles(job, inputs.bundles)
        self._worker = Worker(self._spec, job, inputs.store, inputs.open_models).open()
        return self._spec.name

    @redact_errors
    def attempt(self, task: TaskKey, number: int) -> TaskRecord | Failure:
        assert self._worker is not None, "a worker is ready before it is given a task"
        return self._worker.attempt(task, number)

    @redact_errors
    def close(self) -> None:
        if self._worker is not None:
            self._worker.close()


def unpack_bundles(job: Job, bundles: BundleRefs) -> Job:
    """The job with its bundles in folders of this node."""
    models: dict[Tier, Any] = {
        tier: replace(model, ref=str(unpack_bundle(model.digest, bundles[model.digest][0])))
        for tier, model in job.models.items()
    }
    return replace(job, models=models)


def unpack_bundle(digest: str, files: Any) -> Path:
    """A bundle's folder on this node; the first worker that needs it makes it."""

    def fill(folder: Path) -> None:
        for name, content in ray.get(files).items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)

    return open_entry("copies", digest, fill)
