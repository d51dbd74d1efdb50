"""Running a network over windows of ground, in tiles as in a run: to measure it, or to keep what a teacher says."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from batchseg.engine.inputs import cut_tile
from batchseg.model.graph import WholeGraph
from batchseg.training.ground import UNLABELLED, Ground
from tiling.grid import Grid, Tile, tiles_of
from tiling.span import Window

CORE_PX = 512


def measure(graph: WholeGraph, ground: Ground, *, halo_px: int, device: str = "cpu") -> dict[str, float]:
    """IoU of each class that the labels have, over whole windows cut into tiles as in a run."""
    num = len(ground.names)
    confusion = np.zeros((num, num), np.int64)
    graph.eval()
    for pixels_BHW, truth_HW in zip(ground.pixels_WBHW, ground.labels_WHW, strict=True):
        predicted_HW = _predict(graph, pixels_BHW, halo_px, device)
        known = truth_HW != UNLABELLED
        pairs = truth_HW[known].astype(np.int64) * num + predicted_HW[known]
        confusion += np.bincount(pairs, minlength=num**2).reshape(confusion.shape)
    hits, labelled = np.diag(confusion), confusion.sum(1)
    found = zip(ground.names, hits, labelled + confusion.sum(0) - hits, labelled, strict=True)
    return {name: round(float(hit / union), 4) for name, hit, union, has in found if has}


def mean_of(iou: dict[str, float]) -> float:
    return round(sum(iou.values()) / max(1, len(iou)), 4)


def _predict(graph: WholeGraph, pixels_BHW: NDArray[Any], halo_px: int, device: str) -> NDArray[np.uint8]:
    labels_HW = np.empty(pixels_BHW.shape[1:], np.uint8)
    for tile, x in tiles_in(pixels_BHW, halo_px):
        with torch.inference_mode(), torch.autocast(device, torch.bfloat16):
            index_NHW, _ = graph(x.to(device))
        of = tile.owned.within(tile.read_window(halo_px))
        labels_HW[tile.owned.within(_whole(pixels_BHW))] = index_NHW[0].cpu().numpy()[of]
    return labels_HW


def tiles_in(pixels_BHW: NDArray[Any], halo_px: int) -> Iterator[tuple[Tile, Tensor]]:
    """The tiles of a window, each with its halo, as batches of one."""
    have = _whole(pixels_BHW)
    shape_px = (len(have.rows), len(have.cols))
    for tile in tiles_of(Grid(shape_px, CORE_PX), have):
        x_BHW = cut_tile(pixels_BHW, have, tile, halo_px, shape_px)
        yield tile, torch.from_numpy(x_BHW[None]).contiguous(memory_format=torch.channels_last)


def _whole(pixels_BHW: NDArray[Any]) -> Window:
    return Window.of(0, pixels_BHW.shape[1], 0, pixels_BHW.shape[2])
