"""A loop as users write it: rasterio windows with a halo, and a few tiles per forward.

A thread reads the next batch while the model runs on the last one. Labels are written as they come.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import rasterio
import torch
from numpy.typing import NDArray
from rasterio.windows import Window

from bench.peers.peer_model import CORE_PX
from bench.peers.task import make_map_profile, parse_task, print_ready


def list_edges_px(size_px: int, tile_px: int) -> list[int]:
    return [*range(0, size_px, CORE_PX), size_px]


def read_tile(dataset: Any, row: int, col: int, halo_px: int) -> NDArray[np.uint8]:
    """Read the tile around a core; beyond the scene its edge is repeated."""
    top, left = max(0, row - halo_px), max(0, col - halo_px)
    bottom, right = min(dataset.height, row + CORE_PX + halo_px), min(dataset.width, col + CORE_PX + halo_px)
    inside_BHW = dataset.read(window=Window(left, top, right - left, bottom - top))
    above, before = top - (row - halo_px), left - (col - halo_px)
    below, after = row + CORE_PX + halo_px - bottom, col + CORE_PX + halo_px - right
    return np.pad(inside_BHW, ((0, 0), (above, below), (before, after)), mode="edge")


def main() -> None:
    task = parse_task(__doc__)
    model = task.open_model("labels")
    halo_px = model.halo_px
    with rasterio.open(task.scene) as scene, ThreadPoolExecutor(1) as reader:
        cores = [(r, c) for r in range(0, scene.height, CORE_PX) for c in range(0, scene.width, CORE_PX)]
        batches = [cores[i : i + model.batch] for i in range(0, len(cores), model.batch)]

        def read(batch: list[tuple[int, int]]) -> torch.Tensor:
            return torch.from_numpy(np.stack([read_tile(scene, row, col, halo_px) for row, col in batch]))

        print_ready()
        with rasterio.open(task.labels, "w", **make_map_profile(scene.profile)) as out:
            coming = reader.submit(read, batches[0])
            for number, batch in enumerate(batches):
                x_NBHW = coming.result()
                if number + 1 < len(batches):
                    coming = reader.submit(read, batches[number + 1])
                for (row, col), labels_HW in zip(batch, model(x_NBHW).numpy(), strict=True):
                    height, width = min(CORE_PX, scene.height - row), min(CORE_PX, scene.width - col)
                    core_HW = labels_HW[halo_px : halo_px + height, halo_px : halo_px + width]
                    out.write(core_HW, 1, window=Window(col, row, width, height))


if __name__ == "__main__":
    main()
