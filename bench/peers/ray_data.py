"""Ray Data: rows are windows, `map` reads tiles, a `map_batches` actor runs the model, the driver writes labels."""

from __future__ import annotations

import logging
import os
from typing import Any

import numpy as np
import rasterio
import torch
from numpy.typing import NDArray
from rasterio.windows import Window

from bench.peers.loop import list_edges_px, read_tile
from bench.peers.peer_model import CORE_PX, THREADS
from bench.peers.task import Task, make_map_profile, parse_task, print_ready

__all__ = ["list_edges_px"]


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

    task = parse_task(__doc__)
    halo_px, batch = _read_model_shape(task)
    # One more CPU than the machine has: the reader mostly waits for the model, which uses all cores.
    ray.init(num_cpus=THREADS + 1, include_dashboard=False, logging_level=logging.ERROR, object_store_memory=2**30)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    with rasterio.open(task.scene) as scene:
        height, width, profile = scene.height, scene.width, make_map_profile(scene.profile)
    cores = [{"row": r, "col": c} for r in range(0, height, CORE_PX) for c in range(0, width, CORE_PX)]
    alone = ray.data.ActorPoolStrategy(size=1)
    tiles = ray.data.from_items(cores, override_num_blocks=max(1, len(cores) // (2 * batch))).map(
        Reader,  # type: ignore[arg-type]  # Ray takes classes, its types do not
        fn_constructor_args=(str(task.scene), halo_px),
        compute=alone,
        num_cpus=1,
    )
    maps = tiles.map_batches(Predictor, fn_constructor_args=(task,), batch_size=batch, compute=alone, num_cpus=THREADS)
    with rasterio.open(task.labels, "w", **profile) as out:
        for number, tile in enumerate(maps.iter_rows()):
            if not number:
                print_ready()
            row, col = int(tile["row"]), int(tile["col"])
            here = Window(col, row, min(CORE_PX, width - col), min(CORE_PX, height - row))
            out.write(tile["labels"][: here.height, : here.width], 1, window=here)
    ray.shutdown()


def _read_model_shape(task: Task) -> tuple[int, int]:
    """Halo and batch of the model, which only the actor opens."""
    from batchseg.model.bundle import open_bundle
    from bench.peers.peer_model import TORCH_BATCH

    contract = open_bundle(task.model).contract
    return contract.halo_px, contract.find_numerics("cpu").batch if task.backend == "openvino" else TORCH_BATCH


if __name__ == "__main__":
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    main()
