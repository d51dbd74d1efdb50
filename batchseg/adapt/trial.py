"""Trying a bundle out in a process of its own: what it answers, how fast, and how much memory that takes.

Of its own, because a peak of memory belongs to a process, because libraries keep threads and caches that would favour
whoever comes second, and because a choice that ends in a crash must not end the comparison.
"""

from __future__ import annotations

import resource
import time
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from multiprocessing import get_context
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batchseg.errors import BundleError
from batchseg.model.bundle import Bundle
from batchseg.model.contract import Contract, Numerics
from batchseg.model.segmenter import input_type, open_segmenter
from batchseg.tiers import DeviceKind

CORE_PX = 512
MEASURE_S = 1.0
"""How long forwards are repeated; the fastest counts, since everything that disturbs makes them slower."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    numerics: Numerics
    index_NHW: NDArray[np.uint8]
    """Class indexes of the cores of the tiles that were given."""
    confidence_NHW: NDArray[np.uint8]
    start_s: float
    """From nothing to a model that can be called."""
    seconds_per_tile: float
    memory_bytes: int


def usual_tile_px(contract: Contract) -> int:
    """The only side that a network takes, or that of the default core."""
    return contract.tile_px or CORE_PX + 2 * contract.halo_px


def synthetic_tiles(bundle: Bundle, count: int, tile_px: int) -> NDArray[Any]:
    """Patches of several sizes around the means of the bundle, so that labels are neither all one nor all noise."""
    contract, random = bundle.contract, np.random.default_rng(0)
    x = np.zeros((count, len(contract.bands), tile_px, tile_px), np.float32)
    for patch_px in (64, 16, 4, 1):
        side = -(-tile_px // patch_px)
        coarse = random.normal(0.0, 1.0, (count, len(contract.bands), side, side)).astype(np.float32)
        x += coarse.repeat(patch_px, 2).repeat(patch_px, 3)[:, :, :tile_px, :tile_px]
    mean_B11, std_B11 = (np.array(v, np.float32)[:, None, None] for v in (contract.mean, contract.std))
    clipped: NDArray[np.float32] = np.clip(x * std_B11 + mean_B11, *contract.range)
    return np.rint(clipped).astype(np.uint8) if input_type(bundle) == "uint8" else clipped


def try_out(bundle: Bundle, numerics: Numerics, device: DeviceKind, x_NBHW: NDArray[Any]) -> Trial:
    """Raises BundleError where this choice cannot be run here."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        try:
            return pool.submit(_try_apart, bundle, numerics, device, x_NBHW).result()
        except BrokenProcessPool as error:
            raise BundleError(
                "the process that tried this died, perhaps for want of memory",
                where=bundle.contract.name,
                got=f"{numerics.backend} {numerics.precision}, batch {numerics.batch}",
                todo="try a smaller batch",
            ) from error


def _try_apart(bundle: Bundle, numerics: Numerics, device: DeviceKind, x_NBHW: NDArray[Any]) -> Trial:
    """In the process of its own. What libraries raise ends here: not all of it could be sent to another process."""
    try:
        return _try(bundle, numerics, device, x_NBHW)
    except BundleError:
        raise
    except Exception as error:  # compilers, drivers and runtimes raise whatever they like
        said = next((text.strip() for text in str(error).splitlines() if text.strip()), "")
        raise BundleError(
            f"{numerics.backend} {numerics.precision}, batch {numerics.batch}, cannot be run here",
            where=bundle.contract.name,
            got=f"{type(error).__name__}: {said}".removesuffix(": "),
        ) from error


def _try(bundle: Bundle, numerics: Numerics, device: DeviceKind, x_NBHW: NDArray[Any]) -> Trial:
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
        answer = segmenter(batch_NBHW)
        for found, kept in zip(answer, (index_NHW, confidence_NHW), strict=True):
            kept[first : first + len(group)] = found[: len(group)]
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
        memory_bytes=_peak_bytes(device),
    )


def _peak_bytes(device: DeviceKind) -> int:
    """Of the device that computes: this process's memory, or what torch took of the GPU's."""
    if device == "cuda":
        import torch

        return int(torch.cuda.max_memory_reserved())
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
