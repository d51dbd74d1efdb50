"""How to run a bundle on this kind of device: every backend that is installed is tried, the fastest that agrees wins.

A choice agrees when nearly all of its labels are those of float32 in the reference backend. What wins is written into
the bundle as its numerics; from then on runs obey it, since another choice would mean other last bits.
"""

from __future__ import annotations

import importlib.util
import json
import platform
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batchseg.adapt.trial import Trial, try_out
from batchseg.errors import BundleError
from batchseg.model.bundle import ITEM, Bundle
from batchseg.model.contract import Backend, Numerics, Precision
from batchseg.schema import plain
from batchseg.tiers import DeviceKind

BATCHES: dict[DeviceKind, tuple[int, ...]] = {"cpu": (1, 2, 4), "cuda": (4, 16, 64)}
STREAMED_TILES = 16
"""With a stream a core: how many tiles are handed over at once. The last ones leave some cores without work."""
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


@dataclass(frozen=True, slots=True)
class Tried:
    """One choice: what came of it, or why it cannot be run here."""

    numerics: Numerics
    problem: str | None
    start_s: float = 0.0


def choices(bundle: Bundle, device: DeviceKind, threads: int) -> Iterator[Numerics]:
    """The reference first. Half precision is for GPUs: on a CPU it is slower than either of the others."""
    for backend in _backends(bundle, device):
        for precision in PRECISIONS[backend]:
            if precision == "float16" and device == "cpu":
                continue
            for batch in BATCHES[device]:
                yield Numerics(backend=backend, precision=precision, batch=batch, threads=threads)
            if backend == "openvino" and threads > 1:
                yield Numerics(
                    backend=backend, precision=precision, batch=STREAMED_TILES, threads=threads, streams=threads
                )


def _backends(bundle: Bundle, device: DeviceKind) -> Iterator[Backend]:
    for backend in _possible(bundle, device):
        if all(importlib.util.find_spec(name) is not None for name in MODULES[backend]):
            yield backend


def _possible(bundle: Bundle, device: DeviceKind) -> tuple[Backend, ...]:
    """Wherever everything is installed."""
    ours: tuple[Backend, ...] = () if bundle.contract.is_onnx else ("torch", "compiled")
    return (*ours, "openvino", "onnxruntime") if device == "cpu" else (*ours, "onnxruntime")


def try_all(
    bundle: Bundle, device: DeviceKind, x_NBHW: NDArray[Any], *, threads: int, show: Callable[[Tried], None]
) -> list[Tried]:
    """Every choice, compared with the first, which is float32."""
    reference: Trial | None = None
    tried: list[Tried] = []
    for numerics in choices(bundle, device, threads):
        try:
            trial = try_out(bundle, numerics, device, x_NBHW)
        except BundleError as error:
            found = Tried(numerics, str(error))
        else:
            reference = reference or trial
            found = Tried(_measured(trial, reference, device), None, trial.start_s)
        if reference is None:
            raise BundleError(
                "the reference cannot be run", where=bundle.contract.name, got=found.problem, todo="see `model check`"
            )
        tried.append(found)
        show(found)
    if not tried:
        raise BundleError(
            f"no backend that is installed can run this bundle on {device}",
            where=bundle.contract.name,
            expected=" or ".join(_possible(bundle, device)),
            todo="install one (`pip install batchseg[onnx]` brings onnxruntime for CPUs), or take another --device",
        )
    return tried


def _measured(trial: Trial, reference: Trial, device: DeviceKind) -> Numerics:
    return replace(
        trial.numerics,
        seconds_per_tile=round(trial.seconds_per_tile, 5),
        measured_on=machine(device),
        memory_bytes=trial.memory_bytes,
        agreement=round(float(np.mean(trial.index_NHW == reference.index_NHW)), 6),
    )


def best(tried: list[Tried], *, min_agreement: float) -> Numerics:
    """The fastest that agrees."""
    runnable = [one.numerics for one in tried if one.problem is None]
    agreeing = [numerics for numerics in runnable if (numerics.agreement or 0.0) >= min_agreement]
    if not agreeing:
        raise BundleError(
            "nothing that was tried agrees as much as is wanted",
            where="--min-agreement",
            expected=f"{min_agreement:g} of labels",
            got=f"{max((numerics.agreement or 0.0 for numerics in runnable), default=0.0):g} at most",
        )
    return min(agreeing, key=lambda numerics: numerics.seconds_per_tile or float("inf"))


def write_numerics(bundle: Bundle, device: DeviceKind, numerics: Numerics) -> None:
    """Into the item, in one step; all else in it stays as it is."""
    path = bundle.folder / ITEM
    item = json.loads(path.read_text("utf-8"))
    item["properties"]["batchseg:numerics"][device] = plain(numerics)
    if device == "cuda":
        item["properties"]["mlm:accelerator"] = "cuda"
    unfinished = path.with_name(f"{ITEM}.{secrets.token_hex(4)}")
    try:
        unfinished.write_text(json.dumps(item, indent=1) + "\n", "utf-8")
        unfinished.replace(path)
    except OSError as error:
        todo = "copy the bundle to a folder of your own and tune it there"
        raise BundleError("the bundle cannot be changed", where=str(path), got=str(error), todo=todo) from error


def machine(device: DeviceKind) -> str:
    """What was measured on."""
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
