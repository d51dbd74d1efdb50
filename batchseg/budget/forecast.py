"""Cost of a run at a share of heavy tiles, and the share that an amount of money buys. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from batchseg.budget.rehearsal import Pace

SOLVE_STEPS = 40
"""Bisections of the share of heavy tiles: enough for every digit of a float."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """Work of a run, extrapolated from the sample of a pilot."""

    num_tiles: float
    """Number of valid tiles in all scenes."""
    tiles_per_chunk: float
    """Number of valid tiles in a chunk that has any."""
    priority_share: float
    """Share of the valid tiles that lie on priority ground, and so are heavy in any case."""
    bulk_share: float
    """Share of the valid tiles that the bulk model labels."""
    mpx: float
    """Megapixels of all sheets, valid or not."""
    num_sheets: int
    """Number of GeoTIFF sheets of all scenes."""
    area_km2: float | None
    """Ground area of the valid pixels; None where a scene has no place on the Earth."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prices:
    """Prices of a fleet, as if all of its workers were as fast as the one that the pilot timed."""

    num_workers: int
    workers_usd_per_hour: float
    """Price of all workers together."""
    head_usd_per_hour: float
    """Price of the driver's machine."""
    crowding: float = 1.0
    """Factor by which a worker is slower because it shares this machine's cores with the other workers."""
    spent_usd: float = 0.0
    """Dollars that the pilot itself has cost."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectedSeconds:
    """Seconds of a run by what they go into.

    All workers together spend the compute and the `read_write` seconds. Each worker lives through all of `start` and
    all of `sheets`.
    """

    start: float
    compute_bulk: float
    compute_heavy: float
    read_write: float
    sheets: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectedCost:
    """The forecast at one share of heavy tiles, rounded for files."""

    heavy_share: float
    usd: float
    """Dollars for the whole run, those of the pilot included."""
    usd_per_km2: float | None
    """Dollars per km² of valid ground; None where the area is unknown."""
    wall_s: float
    """Seconds from the first worker's start to the last GeoTIFF."""
    seconds: ExpectedSeconds
    pilot_usd: float
    """Dollars of the pilot alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """Cost of a run, as a function of its share of heavy tiles."""

    pace: Pace
    workload: Workload
    prices: Prices

    def expect_seconds(self, heavy_share: float) -> ExpectedSeconds:
        workload, pace, crowding = self.workload, self.pace, self.prices.crowding
        bulk_tiles = workload.num_tiles * workload.bulk_share
        chunks = workload.num_tiles / workload.tiles_per_chunk
        batches = chunks * expect_batches(workload.tiles_per_chunk, heavy_share, pace.heavy_batch)
        sheet_s = pace.sheet_s + workload.mpx / workload.num_sheets * pace.sheet_s_per_mpx
        return ExpectedSeconds(
            start=pace.start_s * crowding,
            compute_bulk=bulk_tiles * pace.bulk_tile_s * crowding,
            compute_heavy=batches * pace.heavy_batch_s * crowding,
            read_write=workload.num_tiles * (pace.tile_s - pace.bulk_tile_s) * crowding,
            sheets=math.ceil(workload.num_sheets / self.prices.num_workers) * sheet_s,
        )

    def expect_wall_s(self, heavy_share: float) -> float:
        seconds = self.expect_seconds(heavy_share)
        shared_s = seconds.compute_bulk + seconds.compute_heavy + seconds.read_write
        return seconds.start + seconds.sheets + shared_s / self.prices.num_workers

    def expect_usd(self, heavy_share: float) -> float:
        usd_per_hour = self.prices.workers_usd_per_hour + self.prices.head_usd_per_hour
        return self.prices.spent_usd + self.expect_wall_s(heavy_share) * usd_per_hour / 3600

    def expect_usd_per_km2(self, heavy_share: float) -> float | None:
        return self.expect_usd(heavy_share) / self.workload.area_km2 if self.workload.area_km2 else None

    @property
    def least_usd(self) -> float:
        """Dollars of a run in which only the tiles on priority ground are heavy."""
        return self.expect_usd(self.workload.priority_share)

    def find_share(self, usd: float) -> float | None:
        """Find the largest share of heavy tiles that costs at most `usd`; None if even the least share costs more."""
        low, high = self.workload.priority_share, 1.0
        if self.expect_usd(low) > usd:
            return None
        if self.expect_usd(high) <= usd:
            return high
        for _ in range(SOLVE_STEPS):
            middle = (low + high) / 2
            low, high = (middle, high) if self.expect_usd(middle) <= usd else (low, middle)
        return low

    def expect_cost(self, heavy_share: float) -> ExpectedCost:
        seconds, usd_per_km2 = self.expect_seconds(heavy_share), self.expect_usd_per_km2(heavy_share)
        return ExpectedCost(
            heavy_share=round(heavy_share, 5),
            usd=round(self.expect_usd(heavy_share), 8),
            usd_per_km2=None if usd_per_km2 is None else round(usd_per_km2, 8),
            wall_s=round(self.expect_wall_s(heavy_share), 3),
            seconds=ExpectedSeconds(
                start=round(seconds.start, 3),
                compute_bulk=round(seconds.compute_bulk, 3),
                compute_heavy=round(seconds.compute_heavy, 3),
                read_write=round(seconds.read_write, 3),
                sheets=round(seconds.sheets, 3),
            ),
            pilot_usd=round(self.prices.spent_usd, 8),
        )


def expect_batches(tiles: float, heavy_share: float, batch: int) -> float:
    """The expected number of batches that the heavy tiles of a chunk fill, with the last batch padded.

    Each tile is heavy with probability `heavy_share`, independently of the others: a binomial distribution.
    """
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
