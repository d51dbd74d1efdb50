"""Ray Data: windows as rows, tiles read in `map`, the model in a `map_batches` actor, the driver writes the labels."""

from __future__ import annotations

import logging
import os
from typing import Any

import numpy as np
import rasterio
import torch
from numpy.typing import NDArray
from rasterio.windows import Window

from bench.peers.handed import CORE_PX, THREADS
from bench.peers.loop import edges_px, read_tile
from bench.peers.task import Task, map_profile, ready, task_of_command_line

__all__ = ["edges_px"]


class Reader:
    def __init__(self, scene: str, halo_px: int) -> None:
        self._scene, self._halo_px = rasterio.open(scene), halo_px

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        tile_BHW = read_tile(self._scene, row["row"], row["col"], self._halo_px)
        return {"row": row["row"], "col": row["col"], "tile": tile_BHW}


class Predictor:
    def __init__(self, task: Task) -> None:
        self._model = task.open_model("labels")

    def __call__(self, batch: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        torch.set_num_threads(THREADS)  # Ray sets one
        labels_NHW = self._model(torch.from_numpy(np.ascontiguousarray(batch["tile"]))).numpy()
        inside = slice(self._model.halo_px, self._model.halo_px + CORE_PX)
        return {"row": batch["row"], "col": batch["col"], "labels": labels_NHW[:, inside, inside]}


def main() -> None:
    import ray

    task = task_of_command_line(__doc__)
    halo_px, batch = _shape_of(task)
    # One CPU more than there is: the reader mostly waits for the model, which has all cores to itself.
    ray.init(num_cpus=THREADS + 1, include_dashboard=False, logging_level=logging.ERROR, object_store_memory=2**30)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    with rasterio.open(task.scene) as scene:
        height, width, profile = scene.height, scene.width, map_profile(scene.profile)
    cores = [{"row": r, "col": c} for r in range(0, height, CORE_PX) for c in range(0, width, CORE_PX)]
    alone = ray.data.ActorPoolStrategy(size=1)
    tiles = ray.data.from_items(cores, override_num_blocks=max(1, len(cores) // (2 * batch))).map(
        Reader,  # type: ignore[arg-type]  # Ray takes classes, its types do not
        fn_constructor_args=(str(task.scene), halo_px),
        compute=alone,
        num_cpus=1,
    )
    found = tiles.map_batches(Predictor, fn_constructor_args=(task,), batch_size=batch, compute=alone, num_cpus=THREADS)
    with rasterio.open(task.labels, "w", **profile) as out:
        for number, tile in enumerate(found.iter_rows()):
            if not number:
                ready()
            row, col = int(tile["row"]), int(tile["col"])
            here = Window(col, row, min(CORE_PX, width - col), min(CORE_PX, height - row))
            out.write(tile["labels"][: here.height, : here.width], 1, window=here)
    ray.shutdown()


def _shape_of(task: Task) -> tuple[int, int]:
    """What the driver has to know of a model that only the actor opens."""
    from batchseg.model.bundle import open_bundle
    from bench.peers.handed import TORCH_BATCH

    contract = open_bundle(task.model).contract
    return contract.halo_px, contract.find_numerics("cpu").batch if task.backend == "openvino" else TORCH_BATCH


if __name__ == "__main__":
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    main()
