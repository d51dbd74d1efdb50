"""What a model promises and asks for. Everything that a run has to know of it, and nothing that it has to guess."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from batchseg.classes import ClassInfo, problems_of_classes
from batchseg.errors import BundleError
from batchseg.model.architecture import is_known, known_kinds
from batchseg.scene.bands import BandWanted
from batchseg.tiers import DeviceKind, Tier

InputType = Literal["uint8", "uint16", "float32"]
Backend = Literal["torch", "compiled", "openvino", "onnxruntime"]
"""`compiled` is torch.compile; it needs a C++ compiler on CPUs."""
Precision = Literal["float32", "bfloat16", "float16"]
"""Of what the weights leave open: a quantised graph keeps its own types."""
ONNX = "onnx"
"""The architecture's kind where the weights are a whole network."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Numerics:
    """How a model is run on one kind of device. Measured once, obeyed always: it decides the output's last bits."""

    backend: Backend
    precision: Precision
    batch: int
    """Tiles that are handed over at once: in one forward, padded to them, or to streams, which take what there is."""
    threads: int
    streams: int = 1
    """Above 1, OpenVINO only: so many forwards side by side, of one tile and on their share of the threads each."""
    seconds_per_tile: float | None = None
    """As measured when this was chosen; for estimates only, not part of the digest."""
    measured_on: str | None = None
    memory_bytes: int | None = None
    """Of a process that runs the model, at its peak; measured and used like the seconds."""
    agreement: float | None = None
    """Share of pixels with the label that the same weights give in float32, when this was chosen.

    What quantising these weights has changed is not in it: that is quality's `agreement_with_original`.
    """

    def runs_alike(self) -> dict[str, Any]:
        """What of it decides output."""
        alike = {"backend": self.backend, "precision": self.precision, "batch": self.batch, "threads": self.threads}
        return alike if self.streams == 1 else alike | {"streams": self.streams}

    def __str__(self) -> str:
        side_by_side = "" if self.streams == 1 else f"{self.streams} streams, "
        return f"{self.backend} {self.precision}, batch {self.batch}, {side_by_side}{self.threads} threads"


@dataclass(frozen=True, slots=True, kw_only=True)
class Contract:
    name: str
    tier: Tier
    """The slot that it was made for; any slot may use it."""
    bands: tuple[BandWanted, ...]
    dtype: InputType
    range: tuple[float, float]
    """Raw values that the model knows; what lies beyond is clipped when a recipe scales."""
    mean: tuple[float, ...]
    """A band, in raw values; also what invalid pixels are filled with."""
    std: tuple[float, ...]
    gsd_m: tuple[float, float]
    """Smallest and largest ground size of a pixel."""
    classes: tuple[ClassInfo, ...]
    """In the order of the network's outputs."""
    halo_px: int
    stride_px: int
    """Tile sides are a multiple of this."""
    architecture: dict[str, Any]
    numerics: dict[str, Numerics]
    """By device kind."""
    tile_px: int | None = None
    """The only side that the network takes; None: any multiple of the stride."""
    quality: dict[str, Any] = field(default_factory=dict)
    lineage: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for got in (*self._problems(), *self._problems_of_network(), *self._problems_of_numerics()):
            raise BundleError("this contract contradicts itself", where=self.name, got=got)

    def _problems(self) -> Iterator[str]:
        num_bands = len(self.bands)
        if not num_bands or len(self.mean) != num_bands or len(self.std) != num_bands:
            yield f"{num_bands} bands, {len(self.mean)} means, {len(self.std)} deviations"
        elif not all(map(math.isfinite, (*self.mean, *self.std))) or min(self.std) <= 0:
            yield f"means {self.mean}, deviations {self.std}; deviations are above 0"
        yield from problems_of_classes(self.classes)
        if self.tier not in get_args(Tier) or self.dtype not in get_args(InputType):
            yield f"tier {self.tier!r}, data type {self.dtype!r}"
        if not -math.inf < self.range[0] < self.range[1] < math.inf:
            yield f"a range of {self.range[0]:g} to {self.range[1]:g}"
        if not 0 < self.gsd_m[0] <= self.gsd_m[1]:
            yield f"pixels of {self.gsd_m[0]:g} to {self.gsd_m[1]:g} m"

    def _problems_of_network(self) -> Iterator[str]:
        if not is_known(self.architecture):
            yield f"an unknown architecture, {self.architecture}; known are {known_kinds()}"
        if self.halo_px < 0 or self.stride_px < 1:
            yield f"halo {self.halo_px}, stride {self.stride_px}"
        if self.tile_px is not None and self.tile_px <= 2 * self.halo_px:
            yield f"tiles of {self.tile_px} px with a halo of {self.halo_px} px have no core"

    def _problems_of_numerics(self) -> Iterator[str]:
        if not self.numerics or not set(self.numerics) <= set(get_args(DeviceKind)):
            yield f"numerics for {', '.join(self.numerics) or 'no device'}; devices are cpu and cuda"
        for kind, numerics in self.numerics.items():
            # A batch of nothing would label nothing, and nobody would be told.
            if numerics.batch < 1 or numerics.threads < 1:
                yield f"{kind}: a batch of {numerics.batch} on {numerics.threads} threads"
            if not 1 <= numerics.streams <= numerics.threads:
                yield f"{kind}: {numerics.streams} streams on {numerics.threads} threads"
            if numerics.streams > 1 and numerics.backend != "openvino":
                yield f"{kind}: {numerics.streams} streams in {numerics.backend}; OpenVINO has them"
            if kind != "cpu" and numerics.backend == "openvino":
                yield f"{kind}: OpenVINO, which is for CPUs here"
            if self.is_onnx and numerics.backend not in ("openvino", "onnxruntime"):
                yield f"{kind}: an ONNX network in {numerics.backend}; openvino and onnxruntime run it"
            if (numerics.backend, numerics.precision) not in _runnable():
                yield f"{kind}: {numerics.precision} in {numerics.backend}"

    @property
    def is_onnx(self) -> bool:
        return bool(self.architecture.get("kind") == ONNX)

    def numerics_on(self, device: DeviceKind) -> Numerics:
        found = self.numerics.get(device)
        if found is None:
            raise BundleError(
                f"this bundle was never tuned for {device}",
                where=self.name,
                expected=f"numerics for {device}",
                got=", ".join(self.numerics) or "none",
                todo="give pools a device that it has",
            )
        return found


def _runnable() -> set[tuple[Backend, Precision]]:
    """OpenVINO has no float16 on most CPUs and would fall back without a word; onnxruntime runs what is stored."""
    free: tuple[Backend, ...] = ("torch", "compiled")
    pairs = {(backend, precision) for backend in free for precision in get_args(Precision)}
    return pairs | {("openvino", "float32"), ("openvino", "bfloat16"), ("onnxruntime", "float32")}
