"""A teacher's logits of training ground: computed once per window, kept on disk, and read by every step.

A heavy teacher costs more than a step of its student, so it is not run again for each crop. It sees the ground as it
is, in tiles with its own halo as in a run; the student sees the same ground relit and turned.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from batchseg.atomic import make_folder, replace_file
from batchseg.model.bundle import Bundle
from batchseg.model.graph import WholeGraph
from batchseg.model.torch_graph import load_graph
from batchseg.tiers import DeviceKind
from batchseg.training.crops import SOFT_PX, SoftLabels
from batchseg.training.ground import TrainingGround
from batchseg.training.validation import cut_tiles


def make_soft_labels(
    bundle: Bundle,
    ground: TrainingGround,
    folder: Path,
    device: DeviceKind = "cpu",
    *,
    show: Callable[[int, int], None],
) -> SoftLabels:
    """Compute the logits of each window at a quarter of its resolution, unless `folder` has them already.

    Args:
        bundle: The teacher.
        ground: The windows.
        folder: Where the logits are kept.
        device: Where the teacher runs.
        show: Called after each computed window with the number of finished windows and of all windows to compute.

    Returns:
        A function from the number of a window to its logits.
    """
    kept = folder / f"{bundle.graph_digest[:16]}-{ground.digest[:16]}"
    make_folder(kept)
    num_windows = len(ground.pixels_WBHW)
    missing = [number for number in range(num_windows) if not _path(kept, number).exists()]
    if missing:
        graph = load_graph(bundle).eval().to(device, memory_format=torch.channels_last)
    for done, number in enumerate(missing, start=1):
        _write(_path(kept, number), _compute_logits(graph, ground.pixels_WBHW[number], bundle.contract.halo_px))
        show(done, len(missing))
    return lambda window: np.load(_path(kept, window), mmap_mode="r", allow_pickle=False)


def _path(kept: Path, number: int) -> Path:
    return kept / f"{number:06}.npy"


def _write(path: Path, soft_KHW: NDArray[np.float16]) -> None:
    """Write a file whole or not at all, since a training may be killed at any moment."""
    with replace_file(path, durable=False) as unfinished, unfinished.open("wb") as file:
        np.save(file, soft_KHW, allow_pickle=False)


def _compute_logits(graph: WholeGraph, pixels_BHW: NDArray[Any], halo_px: int) -> NDArray[np.float16]:
    rows, cols = (side // SOFT_PX for side in pixels_BHW.shape[1:])
    soft_KHW: NDArray[np.float16] | None = None
    for tile, x in cut_tiles(pixels_BHW, halo_px):
        with torch.inference_mode(), torch.autocast(graph.mean.device.type, torch.bfloat16):
            scores = graph.scores(x.to(graph.mean.device)).float()
        own_rows, own_cols = tile.owned.within(tile.read_window(halo_px))
        # A core at the window's end is cut short; windows and cores are multiples of SOFT_PX.
        tile_KHW = functional.avg_pool2d(scores[:, :, own_rows, own_cols], SOFT_PX)[0].half().cpu().numpy()
        if soft_KHW is None:
            soft_KHW = np.empty((tile_KHW.shape[0], rows, cols), np.float16)
        down, right = tile.owned.rows.start // SOFT_PX, tile.owned.cols.start // SOFT_PX
        soft_KHW[:, down : down + tile_KHW.shape[1], right : right + tile_KHW.shape[2]] = tile_KHW
    assert soft_KHW is not None
    return soft_KHW
