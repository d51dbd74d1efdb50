"""terratorch's tiled_inference over the scene as one image, with its own defaults for the border and for blending.

`import terratorch` loads all of its backbones, data sets and tasks, and needs lightning, torchgeo, torchvision, timm,
diffusers and more. `tiled_inference` is a single file that uses torch and tqdm, so this file alone is run, unchanged,
from the released wheel. It imports one function from the rest, `pad_images`, which it never calls.
"""

from __future__ import annotations

import sys
from importlib.metadata import distribution
from importlib.util import module_from_spec, spec_from_file_location
from types import ModuleType
from typing import Any

import rasterio
import torch

from bench.peers.peer_model import CORE_PX
from bench.peers.task import make_map_profile, parse_task, print_ready

DELTA_PX = 8
"""Terratorch's default for the pixels that are cut off around each tile."""


def list_edges_px(size_px: int, tile_px: int) -> list[int]:
    """List the edges of tiles: one begins at each core of the scene padded by `DELTA_PX`, and the last ends with it."""
    padded_px = size_px + 2 * DELTA_PX
    starts = [*range(0, padded_px - tile_px - 1, CORE_PX), padded_px - tile_px]
    return [edge for start in starts for edge in (start, start + tile_px - 2 * DELTA_PX)]


def load_tiled_inference() -> Any:
    path = distribution("terratorch").locate_file("terratorch/tasks/tiled_inference.py")
    for name in ("terratorch", "terratorch.models", "terratorch.models.utils"):
        sys.modules[name] = ModuleType(name)
    sys.modules["terratorch.models.utils"].pad_images = None  # type: ignore[attr-defined]
    spec = spec_from_file_location("terratorch.tasks.tiled_inference", str(path))
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[spec.name] = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.tiled_inference


def main() -> None:
    task = parse_task(__doc__)
    tiled_inference = load_tiled_inference()
    model = task.open_model("scores")
    print_ready()
    with rasterio.open(task.scene) as scene:
        image_NBHW = torch.from_numpy(scene.read())[None]
        profile = make_map_profile(scene.profile)
    scores_NKHW = tiled_inference(
        lambda x_NBHW: model(x_NBHW.to(torch.uint8)),
        image_NBHW.float(),  # torch has no reflecting border for eight bits
        crop=model.tile_px,
        stride=CORE_PX,
        delta=DELTA_PX,
        batch_size=model.batch,
    )
    labels_HW = scores_NKHW[0].argmax(0).to(torch.uint8).numpy()
    with rasterio.open(task.labels, "w", **profile) as out:
        out.write(labels_HW, 1)


if __name__ == "__main__":
    main()
