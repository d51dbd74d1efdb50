"""The device that a model runs on."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from batchseg.errors import BundleError
from batchseg.tiers import DeviceKind

Device = DeviceKind | Literal["auto"]
"""A kind of device, or `auto`: a GPU where there is one."""
_NVIDIA = Path("/dev/nvidia0")


def choose_device(device: Device) -> DeviceKind:
    """Resolve `auto` to the kind of device that is here; looks for the driver's file, so that torch is not loaded."""
    if device != "auto":
        return device
    return "cuda" if _NVIDIA.exists() else "cpu"


def check_device(device: DeviceKind) -> None:
    """Raise BundleError if torch finds no such device, before any work is done for it."""
    import torch

    if device == "cuda" and not torch.cuda.is_available():
        todo = "install a torch with CUDA, or give --device cpu"
        raise BundleError("torch finds no GPU here", where="--device", got=device, todo=todo)
