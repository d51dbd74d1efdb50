"""What a run will cost at a share of heavy tiles, and the share that an amount of money buys. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from batchseg.budget.rehearsal import Pace

SOLVE_STEPS = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """What a run has to do, as far as a sample tells."""

    num_tiles: float
    """Valid ones."""
    tiles_a_chunk: float
    """Valid ones, in a chunk that has any."""
    priority_share: float
    bulk_share: float
    """Of the valid tiles, those that the bulk model sees."""
    mpx: float
    """Of all sheets, valid or not."""
    num_sheets: int
    area_km2: float | None
    """Valid ground."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prices:
    """Of a fleet, as if all of its workers were as fast as the one that was timed."""

    num_workers: int
    workers_usd_per_hour: float
    """Of all of them."""
    head_usd_per_hour: float
    crowding: float = 1.0
    """How many times slower a worker is for sharing this machine's cores with the others."""
    spent_usd: float = 0.0
    """By the pilot."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """What a run costs, by its share of heavy tiles."""

    pace: Pace
    workload: Workload
    prices: Prices

    def seconds(self, heavy_share: float) -> dict[str, float]:
        """Of all workers together, but for `start` and `sheets`, in which each of them lives through all of it."""
        workload, pace = self.workload, self.pace
        bulk_tiles = workload.num_tiles * workload.bulk_share
        chunks = workload.num_tiles / workload.tiles_a_chunk
        batches = chunks * expect_batches(workload.tiles_a_chunk, heavy_share, pace.heavy_batch)
        sheet_s = pace.sheet_s + workload.mpx / workload.num_sheets * pace.sheet_s_per_mpx
        crowding = self.prices.crowding
        return {
            "start": pace.start_s * crowding,
            "compute_bulk": bulk_tiles * pace.bulk_tile_s * crowding,
            "compute_heavy": batches * pace.heavy_batch_s * crowding,
            "read_write": workload.num_tiles * (pace.tile_s - pace.bulk_tile_s) * crowding,
            "sheets": math.ceil(workload.num_sheets / self.prices.num_workers) * sheet_s,
        }

    def wall_s(self, heavy_share: float) -> float:
        found = self.seconds(heavy_share)
        alone = found.pop("start") + found.pop("sheets")
        return alone + sum(found.values()) / self.prices.num_workers

    def usd(self, heavy_share: float) -> float:
        per_hour = self.prices.workers_usd_per_hour + self.prices.head_usd_per_hour
        return self.prices.spent_usd + self.wall_s(heavy_share) * per_hour / 3600

    def usd_per_km2(self, heavy_share: float) -> float | None:
        return self.usd(heavy_share) / self.workload.area_km2 if self.workload.area_km2 else None

    @property
    def least_usd(self) -> float:
        """With no tile heavy that need not be."""
        return self.usd(self.workload.priority_share)

    def share_for(self, usd: float) -> float | None:
        """The largest share of heavy tiles that costs no more; None where even the least does."""
        low, high = self.workload.priority_share, 1.0
        if self.usd(low) > usd:
            return None
        if self.usd(high) <= usd:
            return high
        for _ in range(SOLVE_STEPS):
            middle = (low + high) / 2
            low, high = (middle, high) if self.usd(middle) <= usd else (low, middle)
        return low

    def told(self, heavy_share: float) -> dict[str, Any]:
        """For files."""
        per_km2 = self.usd_per_km2(heavy_share)
        return {
            "heavy_share": round(heavy_share, 5),
            "usd": round(self.usd(heavy_share), 8),
            "usd_per_km2": None if per_km2 is None else round(per_km2, 8),
            "wall_s": round(self.wall_s(heavy_share), 3),
            "seconds": {part: round(seconds, 3) for part, seconds in self.seconds(heavy_share).items()},
            "pilot_usd": round(self.prices.spent_usd, 8),
        }


def expect_batches(tiles: float, heavy_share: float, batch: int) -> float:
    """Batches that a chunk's heavy tiles fill, the last one padded, if each tile is heavy by a throw of dice."""
    whole = max(1, round(tiles))
    if heavy_share <= 0:
        return 0.0
    if heavy_share >= 1:
        return -(-whole // batch) * tiles / whole
    k = np.arange(whole + 1)
    factorials = np.array([math.lgamma(n + 1) for n in k])
    logs = factorials[-1] - factorials - factorials[::-1]
    chances = np.exp(logs + k * math.log(heavy_share) + (whole - k) * math.log1p(-heavy_share))
    return float(chances @ -(-k // batch)) * tiles / whole
