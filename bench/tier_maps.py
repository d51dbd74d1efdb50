"""The maps of both models over one scene, and the maps that routes make of them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray

from batchseg.engine.fade import find_bulk_pixels, find_fading_edges
from batchseg.engine.route import NO_SCORE
from batchseg.ledger.ledger import Ledger
from batchseg.resolve.plan_file import PlanFile, read_plan
from batchseg.score.agreement import index_classes
from batchseg.score.confusion import count_confusion, iou_per_class, mean_iou
from batchseg.store import LocalStore
from tiling.grid import Grid, tiles_of
from tiling.span import Window


@dataclass(frozen=True)
class TierMaps:
    """Both tiers over the same tiles, in the order of the lattice."""

    plan: PlanFile
    grid: Grid
    fade_px: int
    bulk_HW: NDArray[Any]
    heavy_HW: NDArray[Any]
    faded_HW: NDArray[Any]
    """Labels of the heavy model, with fading edges, as in tiles that uncertainty routes to it."""
    truth_HW: NDArray[Any]
    scores: NDArray[np.int64]
    """Score of each tile; NO_SCORE where there is nothing to label."""

    @cached_property
    def confusion(self) -> dict[str, NDArray[np.int64]]:
        """Confusion matrix of each tile, by map."""
        maps = {"bulk": self.bulk_HW, "heavy": self.heavy_HW, "faded": self.faded_HW}
        return {
            name: np.stack([self._count_confusion(labels_HW, *at) for at in self.grid])
            for name, labels_HW in maps.items()
        }

    def _count_confusion(self, labels_HW: NDArray[Any], row: int, col: int) -> NDArray[np.int64]:
        at = make_slices(self.grid.window(row, col))
        return count_confusion(self.truth_HW[at], labels_HW[at], len(self.plan.class_ids))

    def compute_miou(self, heavy: NDArray[np.bool_], name: str = "faded") -> float:
        total = np.where(heavy[:, None, None], self.confusion[name], self.confusion["bulk"]).sum(0)
        return mean_iou(iou_per_class(total))

    def expand_tiers(self, heavy: NDArray[np.bool_]) -> NDArray[np.bool_]:
        rows, cols = self.grid.shape
        wide = heavy.reshape(rows, cols).repeat(self.grid.cell_px, 0).repeat(self.grid.cell_px, 1)
        return wide[: self.truth_HW.shape[0], : self.truth_HW.shape[1]]


def make_slices(window: Window) -> tuple[slice, slice]:
    return slice(window.rows.start, window.rows.stop), slice(window.cols.start, window.cols.stop)


def read_maps(bulk: Path, heavy: Path, labels: str, *, fade_px: int) -> TierMaps:
    """Read the outputs of two runs with one model each; the run of the bulk model has scored its tiles."""
    store = LocalStore(bulk)
    plan = read_plan(store)
    ((scene, known),) = plan.scenes.items()
    grid = Grid((known.georef.height_px, known.georef.width_px), plan.core_px)
    scores = np.full(grid.shape, NO_SCORE, np.int64)
    for record in Ledger(store).read_records():
        for tile, score in zip(tiles_of(grid, plan.window(record.key)), record.measured.tile_scores, strict=True):
            scores[tile.row, tile.col] = score
    bulk_HW, heavy_HW, truth_HW = (
        index_classes(read_band(path), plan.class_ids, plan.nodata)
        for path in (bulk / scene / "labels.tif", heavy / scene / "labels.tif", labels)
    )
    faded_HW = heavy_HW.copy()
    codes = [read_band(output / scene / "confidence.tif") for output in (bulk, heavy)]
    for row, col in grid:
        at, edges = make_slices(grid.window(row, col)), find_fading_edges(row, col, lattice=grid.shape, firm=())
        stays_HW = find_bulk_pixels(codes[0][at], codes[1][at], edges=edges, fade_px=fade_px)
        np.copyto(faded_HW[at], bulk_HW[at], where=stays_HW)
    return TierMaps(
        plan=plan,
        grid=grid,
        fade_px=fade_px,
        bulk_HW=bulk_HW,
        heavy_HW=heavy_HW,
        faded_HW=faded_HW,
        truth_HW=truth_HW,
        scores=scores.ravel(),
    )


def read_band(path: Path | str) -> NDArray[Any]:
    with rasterio.open(path) as file:
        band_HW: NDArray[Any] = file.read(1)
    return band_HW


def measure_change_rates(
    maps: TierMaps, labels_HW: NDArray[Any], tier_HW: NDArray[np.bool_], deep_px: int
) -> NDArray[np.float64]:
    """Share of neighbours with different labels: across borders of tiers, and across each line deeper inside."""
    num, cell_px = len(maps.plan.class_ids), maps.grid.cell_px
    changes, pairs = np.zeros(deep_px + 1, np.int64), np.zeros(deep_px + 1, np.int64)
    for labels, tiers in ((labels_HW, tier_HW), (labels_HW.T, tier_HW.T)):
        lines = np.arange(cell_px, labels.shape[0], cell_px)
        for inside, outside, step in ((lines, lines - 1, 1), (lines - 1, lines, -1)):
            border = tiers[inside] & ~tiers[outside]
            for deep in range(deep_px + 1):
                here = inside + step * deep
                kept = (here >= 0) & (here < labels.shape[0])
                a, b = labels[here[kept]], labels[here[kept] - step]
                counted = border[kept] & (a < num) & (b < num)
                changes[deep] += int(((a != b) & counted).sum())
                pairs[deep] += int(counted.sum())
    return changes / np.maximum(1, pairs)
