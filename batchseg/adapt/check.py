"""A check of a bundle: one batch of synthetic tiles, run as a run would run it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from batchseg.adapt.candidates import is_installed
from batchseg.adapt.trial import make_synthetic_tiles, run_trial
from batchseg.egress import redact_errors
from batchseg.model.bundle import Bundle, open_bundle
from batchseg.model.contract import Backend, Numerics
from batchseg.model.device import Device, choose_device
from batchseg.tiers import DeviceKind


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleCheck:
    """A bundle as it runs on one device of this machine."""

    bundle: Bundle
    device: DeviceKind
    numerics: Numerics
    input_shape: tuple[int, ...]
    """Tiles, bands, rows and columns."""
    input_type: str
    output_shape: tuple[int, ...]
    """Tiles, rows and columns of the labels and of the confidences."""
    class_shares: dict[str, float]
    """Share of the pixels with each class's label."""
    start_s: float
    """Seconds from an empty process to a model that can be called."""
    seconds_per_tile: float
    memory_bytes: int


@redact_errors
def check_bundle(ref: str, *, device: Device = "auto") -> BundleCheck:
    """Run a bundle on synthetic tiles, and measure its speed and its memory.

    Args:
        ref: `zoo:NAME`, a folder or a URL.
        device: The device to run it on.

    Returns:
        Shapes, the labels' shares, seconds and memory.

    Raises:
        BundleError: The bundle cannot be opened, was never tuned for this device, cannot be run here, or computes
            scores that are NaN or infinite.

    Example:
        >>> from batchseg import check_bundle
        >>> check_bundle("zoo:synthetic-bulk", device="cpu").output_shape[1:]
        (512, 512)
    """
    bundle, kind = open_bundle(ref), choose_device(device)
    numerics = bundle.contract.find_numerics(kind)
    x_NBHW = make_synthetic_tiles(bundle, numerics.batch, bundle.contract.default_tile_px)
    trial = run_trial(bundle, numerics, kind, x_NBHW)
    _check_inside(bundle, numerics, x_NBHW[:1])
    names = [c.name for c in bundle.contract.classes]
    return BundleCheck(
        bundle=bundle,
        device=kind,
        numerics=numerics,
        input_shape=x_NBHW.shape,
        input_type=str(x_NBHW.dtype),
        output_shape=trial.index_NHW.shape,
        class_shares={name: float((trial.index_NHW == index).mean()) for index, name in enumerate(names)},
        start_s=trial.start_s,
        seconds_per_tile=trial.seconds_per_tile,
        memory_bytes=trial.memory_bytes,
    )


def _check_inside(bundle: Bundle, numerics: Numerics, x_NBHW: NDArray[Any]) -> None:
    """Run a tile of a model for OpenVINO elsewhere too: there a ReLU turns NaN into a number, and hides it.

    Raises:
        BundleError: The model computes NaN or infinity in torch or onnxruntime.
    """
    backend: Backend = "onnxruntime" if bundle.contract.is_onnx else "torch"
    if numerics.backend == "openvino" and is_installed(backend):
        elsewhere = Numerics(backend=backend, precision="float32", batch=1, threads=numerics.threads)
        run_trial(bundle, elsewhere, "cpu", x_NBHW)
