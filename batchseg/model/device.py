"""The device that a model runs on."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from batchseg.tiers import DeviceKind

Device = DeviceKind | Literal["auto"]
"""A kind of device, or `auto`: a GPU where there is one."""
_NVIDIA = Path("/dev/nvidia0")


def choose_device(device: Device) -> DeviceKind:
    """Resolve `auto` to the kind of device that is here; looks for the driver's file, so that torch is not loaded."""
    if device != "auto":
        return device
    return "cuda" if _NVIDIA.exists() else "cpu"
