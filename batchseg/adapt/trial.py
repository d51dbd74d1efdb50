"""A trial of a bundle in a process of its own: its labels, its speed, and its memory.

It needs a process of its own for three reasons. A peak of memory belongs to a process. Libraries keep threads and
caches, which would favour a later trial. And a crash must not end the comparison.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing import get_context
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batchseg.errors import BrokenModelError, BundleError
from batchseg.model.bundle import Bundle
from batchseg.model.contract import Numerics
from batchseg.model.segmenter import open_segmenter
from batchseg.tiers import DeviceKind

MEASURE_S = 1.0
"""Seconds for which forwards are repeated. The fastest one counts, since every disturbance makes forwards slower."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    numerics: Numerics
    index_NHW: NDArray[np.uint8]
    """Class indexes of the cores of the given tiles."""
    confidence_NHW: NDArray[np.uint8]
    start_s: float
    """Seconds from an empty process to a model that can be called."""
    seconds_per_tile: float
    memory_bytes: int


def make_synthetic_tiles(bundle: Bundle, count: int, tile_px: int) -> NDArray[Any]:
    """Make patches of several sizes around the means of the bundle, so that the labels vary but are not noise."""
    contract, random = bundle.contract, np.random.default_rng(0)
    x = np.zeros((count, len(contract.bands), tile_px, tile_px), np.float32)
    for patch_px in (64, 16, 4, 1):
        side = -(-tile_px // patch_px)
        coarse = random.normal(0.0, 1.0, (count, len(contract.bands), side, side)).astype(np.float32)
        x += coarse.repeat(patch_px, 2).repeat(patch_px, 3)[:, :, :tile_px, :tile_px]
    mean_B11, std_B11 = (np.array(v, np.float32)[:, None, None] for v in (contract.mean, contract.std))
    clipped: NDArray[np.float32] = np.clip(x * std_B11 + mean_B11, *contract.range)
    return np.rint(clipped).astype(np.uint8) if bundle.contract.input_dtype == "uint8" else clipped


def run_trial(bundle: Bundle, numerics: Numerics, device: DeviceKind, x_NBHW: NDArray[Any]) -> Trial:
    """Run a bundle with these numerics on these tiles.

    Raises:
        BundleError: The numerics cannot be run on this machine.
    """
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        try:
            with _hide_main():
                trial = pool.submit(_run_apart, bundle, numerics, device, x_NBHW)
            return trial.result()
        except BrokenProcessPool as error:
            raise BundleError(
                "the process of the trial died, perhaps for lack of memory",
                where=bundle.contract.name,
                got=f"{numerics.backend} {numerics.precision}, batch {numerics.batch}",
                todo="try a smaller batch",
            ) from error


@contextmanager
def _hide_main() -> Iterator[None]:
    """Hide the caller's program from a process that starts now.

    The new process would run that program as a module, and a script without `if __name__ == "__main__"` would start
    trials without end.
    """
    program = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = program


def _run_apart(bundle: Bundle, numerics: Numerics, device: DeviceKind, x_NBHW: NDArray[Any]) -> Trial:
    """The process's own part. Errors of libraries end here: not every one of them can be sent to another process."""
    try:
        return _run(bundle, numerics, device, x_NBHW)
    except BundleError:
        raise
    except Exception as error:  # compilers, drivers and runtimes raise errors of any kind
        first_line = next((text.strip() for text in str(error).splitlines() if text.strip()), "")
        raise BundleError(
            f"{numerics.backend} {numerics.precision}, batch {numerics.batch}, cannot be run here",
            where=bundle.contract.name,
            got=f"{type(error).__name__}: {first_line}".removesuffix(": "),
        ) from error


def _run(bundle: Bundle, numerics: Numerics, device: DeviceKind, x_NBHW: NDArray[Any]) -> Trial:
    alone = replace(bundle, contract=replace(bundle.contract, numerics={device: numerics}))
    begun_s = time.perf_counter()
    tile_px, halo_px = x_NBHW.shape[-1], bundle.contract.halo_px
    segmenter = open_segmenter(alone, device=device, tile_px=tile_px, halo_px=halo_px)
    start_s = time.perf_counter() - begun_s
    index_NHW = np.empty((len(x_NBHW), tile_px - 2 * halo_px, tile_px - 2 * halo_px), np.uint8)
    confidence_NHW = np.empty_like(index_NHW)
    batch_NBHW = np.zeros((numerics.batch, *x_NBHW.shape[1:]), x_NBHW.dtype)
    for first in range(0, len(x_NBHW), numerics.batch):
        group = x_NBHW[first : first + numerics.batch]
        batch_NBHW[: len(group)] = group
        prediction = segmenter(batch_NBHW)
        for batch_NHW, all_NHW in zip(prediction, (index_NHW, confidence_NHW), strict=True):
            all_NHW[first : first + len(group)] = batch_NHW[: len(group)]
    _check_confidences(alone, numerics, confidence_NHW)
    times_s: list[float] = []
    while len(times_s) < 3 or sum(times_s) < MEASURE_S:
        begun_s = time.perf_counter()
        segmenter(batch_NBHW)
        times_s.append(time.perf_counter() - begun_s)
    return Trial(
        numerics=numerics,
        index_NHW=index_NHW,
        confidence_NHW=confidence_NHW,
        start_s=start_s,
        seconds_per_tile=min(times_s) / numerics.batch,
        memory_bytes=_measure_peak_bytes(device),
    )


def _check_confidences(bundle: Bundle, numerics: Numerics, confidence_NHW: NDArray[np.uint8]) -> None:
    """Raise BrokenModelError for a confidence of 0. No softmax gives it, but NaN and infinite scores do."""
    num_broken = int((confidence_NHW == 0).sum())
    if num_broken:
        raise BrokenModelError(
            "the model computes no probability, because its scores are NaN or infinite",
            where=f"{bundle.contract.name}, {numerics.backend} {numerics.precision}",
            expected="a confidence above 0 for each pixel",
            got=f"0 for {num_broken} of {confidence_NHW.size} pixels",
            todo="tune the bundle for another precision, or take another one",
        )


def _measure_peak_bytes(device: DeviceKind) -> int:
    """Peak memory of the computing device: of this process, or of the GPU as torch reserved it."""
    if device == "cuda":
        import torch

        return int(torch.cuda.max_memory_reserved())
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
