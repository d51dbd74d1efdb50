"""Open the models of a job on a worker's device."""

from __future__ import annotations

import platform
from importlib.metadata import version
from pathlib import Path

import numpy as np

from batchseg.engine.segment import Model
from batchseg.errors import BundleError, RecipeError
from batchseg.model.bundle import open_bundle
from batchseg.model.contract import Backend
from batchseg.model.segmenter import open_segmenter
from batchseg.recipe import PoolSpec
from batchseg.resolve.job import Job
from batchseg.tiers import DeviceKind, Tier
from batchseg.workers.worker import WorkerSpec

LIBRARIES: dict[Backend, tuple[str, ...]] = {
    "torch": ("torch",),
    "compiled": ("torch",),
    "openvino": ("openvino",),
    "onnxruntime": ("onnxruntime", "torch"),
}
"""The libraries whose rounding the answers of a backend depend on."""


def open_models(job: Job, spec: WorkerSpec) -> tuple[dict[Tier, Model], dict[str, str]]:
    """Open the model of every tier, and name the numeric environment that the output bytes depend on.

    Raises:
        BundleError: A bundle has changed since the run was planned, or does not fit this device.
    """
    models: dict[Tier, Model] = {}
    environment = {"device": spec.device, "processor": _read_processor_name(), "python": platform.python_version()}
    if spec.device == "cuda":
        environment["gpu"] = _read_gpu_name()
    scene = next(iter(job.scenes.values()))
    for tier, wanted in job.models.items():
        bundle = open_bundle(wanted.ref, check_weights=False)  # the driver has checked them
        if bundle.digest != wanted.digest:
            raise BundleError(
                "this bundle is not the one that the run was planned with",
                where=wanted.ref,
                expected=wanted.digest,
                got=bundle.digest,
                todo="put the bundle back that the run was planned with, or give another output folder",
            )
        tile_px = job.core_px + 2 * wanted.halo_px
        segmenter = open_segmenter(bundle, device=spec.device, tile_px=tile_px, halo_px=wanted.halo_px)
        numerics = bundle.contract.find_numerics(spec.device)
        environment[tier] = str(numerics)
        environment |= {name: version(name) for name in LIBRARIES[numerics.backend]}
        ids = np.array([c.id for c in job.classes], scene.zarr.layer("labels").dtype)
        models[tier] = Model(segmenter, wanted.halo_px, ids, pads=numerics.streams == 1)
    return models, environment


def choose_pool_device(pool: PoolSpec, job: Job, *, in_process: bool) -> DeviceKind:
    """The device of a pool's workers. `auto` is CUDA where a worker gets a GPU and all models are tuned for it.

    On Ray a worker gets the GPUs that its pool asks for and sees no others, wherever it runs. In this process a worker
    sees the GPUs of this machine; importing torch to find them takes seconds, so a file of the GPU's driver is looked
    for instead.
    """
    has_gpu = Path("/dev/nvidia0").exists() if in_process else pool.gpus > 0
    device = pool.device if pool.device != "auto" else "cuda" if has_gpu and _all_have_cuda(job) else "cpu"
    for model in job.models.values():
        if device not in model.devices:
            raise BundleError(
                f"this bundle was never tuned for {device}",
                where=model.ref,
                expected=f"numerics for {device}",
                got=", ".join(model.devices),
                todo="tune the bundle with `batchseg model tune`, or give the pool a device that it was tuned for",
            )
    if device == "cuda" and not in_process and not pool.gpus:
        raise RecipeError(
            "on Ray a worker sees only the GPUs that its pool asks for",
            where=f"pools: {pool.name}",
            expected="`gpus` above 0 with `device: cuda`",
            got="gpus: 0",
        )
    return device


def _all_have_cuda(job: Job) -> bool:
    return all("cuda" in model.devices for model in job.models.values())


def _read_gpu_name() -> str:
    """The name of the GPU, since another kind of GPU may round differently."""
    import torch

    return torch.cuda.get_device_name()


def _read_processor_name() -> str:
    """The model name of the processor, since other vector units may round differently."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())
