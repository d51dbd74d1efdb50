"""The ways to run a bundle on a kind of device: every installed backend in every precision, measured one by one."""

from __future__ import annotations

import importlib.util
import platform
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batchseg.adapt.trial import Trial, run_trial
from batchseg.errors import BrokenModelError, BundleError
from batchseg.model.bundle import Bundle
from batchseg.model.contract import Backend, Numerics, Precision
from batchseg.tiers import DeviceKind

BATCHES: dict[DeviceKind, tuple[int, ...]] = {"cpu": (1, 2, 4), "cuda": (4, 16, 64)}
STREAMED_TILES = 16
"""Tiles per call with one stream per core. The last tiles of a call leave some cores without work."""
PRECISIONS: dict[Backend, tuple[Precision, ...]] = {
    "torch": ("float32", "bfloat16", "float16"),
    "compiled": ("float32", "bfloat16", "float16"),
    "openvino": ("float32", "bfloat16"),
    "onnxruntime": ("float32",),
}
MODULES: dict[Backend, tuple[str, ...]] = {
    "torch": ("torch",),
    "compiled": ("torch",),
    "openvino": ("openvino",),
    "onnxruntime": ("onnxruntime", "onnx"),
}
"""Modules that each backend needs."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One way to run a bundle, measured."""

    numerics: Numerics
    problem: str | None
    """The reason why it cannot be run here, if there is one."""
    start_s: float = 0.0


def list_numerics(bundle: Bundle, device: DeviceKind, threads: int) -> Iterator[Numerics]:
    """The reference comes first. float16 is for GPUs: on a CPU it is slower than the other two."""
    for backend in _list_backends(bundle, device):
        if not is_installed(backend):
            continue
        for precision in PRECISIONS[backend]:
            if precision == "float16" and device == "cpu":
                continue
            for batch in BATCHES[device]:
                yield Numerics(backend=backend, precision=precision, batch=batch, threads=threads)
            if backend == "openvino" and threads > 1:
                yield Numerics(
                    backend=backend, precision=precision, batch=STREAMED_TILES, threads=threads, streams=threads
                )


def is_installed(backend: Backend) -> bool:
    return all(importlib.util.find_spec(name) is not None for name in MODULES[backend])


def _list_backends(bundle: Bundle, device: DeviceKind) -> tuple[Backend, ...]:
    """The backends that can run the bundle, installed or not."""
    torch: tuple[Backend, ...] = () if bundle.contract.is_onnx else ("torch", "compiled")
    return (*torch, "openvino", "onnxruntime") if device == "cpu" else (*torch, "onnxruntime")


def measure_candidates(
    bundle: Bundle,
    device: DeviceKind,
    x_NBHW: NDArray[Any],
    *,
    threads: int,
    show: Callable[[Candidate], None] | None = None,
) -> list[Candidate]:
    """Measure every candidate, and compare its labels with those of the first, which is float32.

    Raises:
        BundleError: No backend is installed that can run the bundle, the reference cannot be run, or the model computes
            NaN or infinity in float32.
    """
    reference: Trial | None = None
    candidates: list[Candidate] = []
    for numerics in list_numerics(bundle, device, threads):
        try:
            trial = run_trial(bundle, numerics, device, x_NBHW)
        except BundleError as error:
            if isinstance(error, BrokenModelError) and numerics.precision == "float32":
                raise  # other backends only hide it; a lower precision may overflow where float32 does not
            candidate = Candidate(numerics, str(error))
        else:
            reference = reference or trial
            candidate = Candidate(_add_measurements(trial, reference, device), None, trial.start_s)
        if reference is None:
            raise BundleError(
                "the reference cannot be run",
                where=bundle.contract.name,
                got=candidate.problem,
                todo="see `batchseg model check`",
            )
        candidates.append(candidate)
        if show is not None:
            show(candidate)
    if not candidates:
        raise BundleError(
            f"no installed backend can run this bundle on {device}",
            where=bundle.contract.name,
            expected=" or ".join(_list_backends(bundle, device)),
            todo="install one (`pip install batchseg[onnx]` brings onnxruntime for CPUs), or give another --device",
        )
    return candidates


def _add_measurements(trial: Trial, reference: Trial, device: DeviceKind) -> Numerics:
    return replace(
        trial.numerics,
        seconds_per_tile=round(trial.seconds_per_tile, 5),
        measured_on=describe_machine(device),
        memory_bytes=trial.memory_bytes,
        agreement=round(float(np.mean(trial.index_NHW == reference.index_NHW)), 6),
    )


def choose_fastest(candidates: Sequence[Candidate], *, min_agreement: float) -> Numerics:
    """The fastest candidate whose labels agree with float32.

    Raises:
        BundleError: No candidate agrees well enough.
    """
    runnable = [candidate.numerics for candidate in candidates if candidate.problem is None]
    agreeing = [numerics for numerics in runnable if (numerics.agreement or 0.0) >= min_agreement]
    if not agreeing:
        raise BundleError(
            "no way to run this bundle agrees well enough with float32",
            where="--min-agreement",
            expected=f"{min_agreement:g} of labels",
            got=f"{max((numerics.agreement or 0.0 for numerics in runnable), default=0.0):g} at most",
            todo="accept less agreement, or compare on real tiles with --on",
        )
    return min(agreeing, key=lambda numerics: numerics.seconds_per_tile or float("inf"))


def describe_machine(device: DeviceKind) -> str:
    """The GPU, or the CPU with its vector units, that measurements hold for."""
    if device == "cuda":
        import torch

        return str(torch.cuda.get_device_name())
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = (text.partition(":")[2].strip() for text in lines if text.startswith("model name"))
    units = "avx512_bf16", "amx_bf16", "amx_int8", "avx512_vnni"
    flags = {flag for text in lines if text.startswith("flags") for flag in text.split()}
    return " ".join((next(names, platform.machine()), *(unit for unit in units if unit in flags)))
