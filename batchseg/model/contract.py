"""Promises and requirements of a model: everything that a run has to know about it, so that nothing is guessed."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, get_args

from batchseg.classes import PLAIN_NAME, ClassInfo, is_plain_name, problems_of_classes
from batchseg.errors import BundleError
from batchseg.model.architecture import Architecture, OnnxSpec
from batchseg.model.lineage import Lineage, UnknownLineage
from batchseg.model.quality import Quality, UnknownQuality
from batchseg.recipe.recipe import Tiling
from batchseg.scene.bands import BandWanted
from batchseg.schema import JsonObject, optional
from batchseg.tiers import DeviceKind, Tier

InputType = Literal["uint8", "uint16", "float32"]
Backend = Literal["torch", "compiled", "openvino", "onnxruntime"]
"""`compiled` is torch.compile; it needs a C++ compiler on CPUs."""
Precision = Literal["float32", "bfloat16", "float16"]
"""Precision of the computation, as far as the weights leave it open: a quantised graph keeps its own types."""
Problem = tuple[str, str]
"""A contract's expected content, and what it holds instead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Numerics:
    """Settings of a model on one kind of device. They are measured once and then obeyed: it decides the last bits."""

    backend: Backend
    precision: Precision
    batch: int
    """Tiles per call. One forward takes all of them, padded to this number; streams take as many as there are."""
    threads: int
    streams: int = 1
    """Number of forwards that run side by side, each on one tile and a share of the threads. OpenVINO only."""
    seconds_per_tile: float | None = None
    """Seconds as measured by tuning. They serve estimates and are no part of the digest."""
    measured_on: str | None = None
    memory_bytes: int | None = None
    """Peak memory of a process that runs the model; measured and used like the seconds."""
    agreement: float | None = None
    """Share of pixels with the same label as these weights give in float32, as measured by tuning.

    It says nothing about what quantisation changed: that is `agreement_with_original` in the quality.
    """

    def digest_content(self) -> JsonObject:
        """The fields that decide output bytes."""
        content = {"backend": self.backend, "precision": self.precision, "batch": self.batch, "threads": self.threads}
        return content if self.streams == 1 else content | {"streams": self.streams}

    def __str__(self) -> str:
        side_by_side = "" if self.streams == 1 else f"{self.streams} streams, "
        return f"{self.backend} {self.precision}, batch {self.batch}, {side_by_side}{self.threads} threads"


@dataclass(frozen=True, slots=True, kw_only=True)
class Contract:
    name: str
    tier: Tier
    """The slot that the model was made for. Any slot may use it."""
    bands: tuple[BandWanted, ...]
    dtype: InputType
    range: tuple[float, float]
    """Raw values that the model knows. If a recipe scales, values beyond them are clipped."""
    mean: tuple[float, ...]
    """Mean of each band in raw values. Invalid pixels are filled with it."""
    std: tuple[float, ...]
    gsd_m: tuple[float, float]
    """Smallest and largest ground size of a pixel."""
    classes: tuple[ClassInfo, ...]
    """Classes in the order of the network's outputs."""
    halo_px: int
    stride_px: int
    """Tile sides must be a multiple of this."""
    architecture: Architecture
    numerics: dict[str, Numerics]
    """Numerics by kind of device."""
    tile_px: int | None = optional()
    """The only tile side that the network takes; None: any multiple of the stride."""
    quality: Quality = UnknownQuality()
    lineage: Lineage = UnknownLineage()

    def __post_init__(self) -> None:
        for expected, got in (*self._problems(), *self._problems_of_network(), *self._problems_of_numerics()):
            raise BundleError("the contract contradicts itself", where=self.name, expected=expected, got=got)

    def _problems(self) -> Iterator[Problem]:
        for name in (self.name, *(text for band in self.bands for text in (band.name, band.common or band.name))):
            if not isinstance(name, str) or not is_plain_name(name):
                yield f"names of bundles and bands of {PLAIN_NAME}", repr(name)
        num_bands = len(self.bands)
        if not num_bands or len(self.mean) != num_bands or len(self.std) != num_bands:
            got = f"{num_bands} bands, {len(self.mean)} means, {len(self.std)} deviations"
            yield "one mean and one deviation per band", got
        elif not all(map(math.isfinite, (*self.mean, *self.std))) or min(self.std) <= 0:
            yield "finite means, and deviations above 0", f"means {self.mean}, deviations {self.std}"
        yield from (("classes that a model can have", problem) for problem in problems_of_classes(self.classes))
        if self.tier not in get_args(Tier):
            yield f"a tier of {' or '.join(get_args(Tier))}", repr(self.tier)
        if self.dtype not in get_args(InputType):
            yield f"a data type of {' or '.join(get_args(InputType))}", repr(self.dtype)
        if not -math.inf < self.range[0] < self.range[1] < math.inf:
            yield "a finite range from low to high", f"a range of {self.range[0]:g} to {self.range[1]:g}"
        if not 0 < self.gsd_m[0] <= self.gsd_m[1]:
            yield "pixel sizes above 0, from small to large", f"pixels of {self.gsd_m[0]:g} to {self.gsd_m[1]:g} m"

    def _problems_of_network(self) -> Iterator[Problem]:
        if self.halo_px < 0 or self.stride_px < 1:
            yield "a halo of 0 or more and a stride of 1 or more", f"halo {self.halo_px}, stride {self.stride_px}"
        if self.tile_px is not None and self.tile_px <= 2 * self.halo_px:
            got = f"tiles of {self.tile_px} px with a halo of {self.halo_px} px"
            yield "tiles that are larger than two halos, so that they have a core", got
        if self.tile_px is not None and self.stride_px > 0 and self.tile_px % self.stride_px:
            yield "a tile side that is a multiple of the stride", f"{self.tile_px} px, stride {self.stride_px}"

    def _problems_of_numerics(self) -> Iterator[Problem]:
        if not self.numerics or not set(self.numerics) <= set(get_args(DeviceKind)):
            yield "numerics for cpu or cuda", f"numerics for {', '.join(self.numerics) or 'no device'}"
        for kind, numerics in self.numerics.items():
            # A batch of 0 would label nothing without any error.
            if numerics.batch < 1 or numerics.threads < 1:
                got = f"{kind}: a batch of {numerics.batch} on {numerics.threads} threads"
                yield "a batch of 1 or more on 1 thread or more", got
            if not 1 <= numerics.streams <= numerics.threads:
                yield (
                    "1 stream or more, each with a thread",
                    f"{kind}: {numerics.streams} on {numerics.threads} threads",
                )
            if numerics.streams > 1 and numerics.backend != "openvino":
                yield "streams in openvino only", f"{kind}: {numerics.streams} streams in {numerics.backend}"
            if kind != "cpu" and numerics.backend == "openvino":
                yield "openvino on CPUs only", f"{kind}: openvino"
            if self.is_onnx and numerics.backend not in ("openvino", "onnxruntime"):
                yield "openvino or onnxruntime for an ONNX network", f"{kind}: {numerics.backend}"
            if (numerics.backend, numerics.precision) not in _runnable():
                yield "a precision that the backend has", f"{kind}: {numerics.precision} in {numerics.backend}"

    @property
    def is_onnx(self) -> bool:
        return isinstance(self.architecture, OnnxSpec)

    @property
    def input_dtype(self) -> Literal["uint8", "float32"]:
        """Type of the arrays that a model is given."""
        return "uint8" if self.dtype == "uint8" else "float32"

    @property
    def default_tile_px(self) -> int:
        """Side of a tile outside of runs: the only one that the network takes, or the one with the default core.

        It is rounded up to the stride, so that every network can be checked and tuned.
        """
        side_px = Tiling().core + 2 * self.halo_px
        return self.tile_px or -(-side_px // self.stride_px) * self.stride_px

    def find_numerics(self, device: DeviceKind) -> Numerics:
        numerics = self.numerics.get(device)
        if numerics is None:
            raise BundleError(
                f"this bundle was never tuned for {device}",
                where=self.name,
                expected=f"numerics for {device}",
                got=", ".join(self.numerics) or "none",
                todo=f"run `batchseg model tune --device {device}`, or give pools a device that the bundle has",
            )
        return numerics


def _runnable() -> set[tuple[Backend, Precision]]:
    """OpenVINO lacks float16 on most CPUs and would silently use another type; onnxruntime runs the stored types."""
    free: tuple[Backend, ...] = ("torch", "compiled")
    pairs = {(backend, precision) for backend in free for precision in get_args(Precision)}
    return pairs | {("openvino", "float32"), ("openvino", "bfloat16"), ("onnxruntime", "float32")}
