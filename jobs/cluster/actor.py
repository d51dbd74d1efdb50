"""The Ray actor: a thin shell around the Worker that the in-process pool uses too."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ray

from batchseg.atomic import create_folder
from batchseg.errors import FleetError
from batchseg.ledger.keys import TaskKey
from batchseg.ledger.ledger import Ledger
from batchseg.ledger.records import TaskRecord
from batchseg.resolve.job import Job
from batchseg.store import LocalStore, Store
from batchseg.tiers import Tier
from batchseg.workers.failure import Failure
from batchseg.workers.worker import OpenModels, Worker, WorkerSpec

Box = dict[str, bytes]
"""The files of a bundle, by their paths inside it."""
Boxes = Mapping[str, list[Any]]
"""Bundle digest -> a reference to its files, in a list so that Ray does not fetch it unasked."""


@dataclass(frozen=True, slots=True)
class Parcel:
    """What all workers of a run need: small, but for the references, whose content Ray brings to a node once."""

    job: Any
    """A reference to the job."""
    boxes: Boxes
    store: Store
    open_models: OpenModels


def make_parcel(job: Job, store: Store, open_models: OpenModels) -> Parcel:
    if isinstance(store, LocalStore):
        store = LocalStore(store.root.resolve())
    return Parcel(ray.put(job), pack_bundles(job), store, open_models)


def pack_bundles(job: Job) -> Boxes:
    return {model.digest: [ray.put(_box(Path(model.ref)))] for model in job.models.values()}


def _box(folder: Path) -> Box:
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and "checkpoint" not in path.parts]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


class ChunkWorker:
    """Its thread pool is two wider than the tasks it holds, so that `place` and `close` are heard while it works."""

    def __init__(self, spec: WorkerSpec, parcel: Parcel) -> None:
        self._spec, self._parcel = spec, parcel
        self._worker: Worker | None = None

    def place(self) -> str:
        """The node that it is on; the answer says that it is on one."""
        return str(ray.get_runtime_context().get_node_id())

    def open(self) -> str:
        parcel = self._parcel
        job: Job = ray.get(parcel.job)
        recipe = Ledger(parcel.store).read_recipe()
        if recipe is None or recipe.fingerprint != job.fingerprint:
            raise FleetError(
                "a worker does not see the output folder of the driver",
                where="output",
                todo="give an output that all nodes share",
            )
        job = unpack_bundles(job, parcel.boxes)
        self._worker = Worker(self._spec, job, parcel.store, parcel.open_models).open()
        return self._spec.name

    def attempt(self, task: TaskKey, number: int) -> TaskRecord | Failure:
        assert self._worker is not None, "a worker is ready before it is given a task"
        return self._worker.attempt(task, number)

    def close(self) -> None:
        if self._worker is not None:
            self._worker.close()


def unpack_bundles(job: Job, boxes: Boxes) -> Job:
    """The job with its bundles in folders of this node."""
    models: dict[Tier, Any] = {
        tier: replace(model, ref=str(unpack_bundle(model.digest, boxes[model.digest][0])))
        for tier, model in job.models.items()
    }
    return replace(job, models=models)


def unpack_bundle(digest: str, box: Any, *, root: Path | None = None) -> Path:
    """A bundle's folder on this node, made by the first worker here that needs it."""
    root = root or Path(tempfile.gettempdir()) / f"batchseg-bundles-{os.getuid()}"
    folder = root / digest
    if folder.is_dir():
        return folder
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    # A neighbour may be quicker; its folder is the same by the bundle's digest, which opening it checks.
    with create_folder(folder) as unfinished:
        for name, content in ray.get(box).items():
            path = unfinished / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    return folder
