"""The two tiers, the kinds of devices, and the codes of the tier layer: which model labelled a tile, and why."""

from __future__ import annotations

from typing import Literal

Tier = Literal["bulk", "heavy"]
"""A slot of a run, which any bundle may fill."""
DeviceKind = Literal["cpu", "cuda"]
"""The kinds of devices that bundles have numerics for."""
Need = Literal["any", "bulk", "heavy", "both"]
"""The tiers that a task needs. `any`: every worker can do it, because it needs no model or no worker is limited."""

NODATA_CODE = 255
BULK = 0
HEAVY_BY_POLYGONS = 1
HEAVY_BY_UNCERTAINTY = 2
HEAVY_ALONE = 3


def find_tier(code: int) -> Tier:
    return "bulk" if code == BULK else "heavy"
