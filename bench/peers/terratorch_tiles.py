"""terratorch's tiled_inference over the scene as one image, with its own defaults for the border and for blending.

`import terratorch` loads all of its backbones, data sets and tasks, and wants lightning, torchgeo, torchvision, timm,
diffusers and more. `tiled_inference` is one file of it that uses torch and tqdm, so that file alone is run, unchanged,
from the released wheel. The one thing that it imports from the rest, `pad_images`, it never calls.
"""

from __future__ import annotations

import sys
from importlib.metadata import distribution
from importlib.util import module_from_spec, spec_from_file_location
from types import ModuleType
from typing import Any

import rasterio
import torch

from bench.peers.handed import CORE_PX
from bench.peers.task import map_profile, ready, task_of_command_line

DELTA_PX = 8
"""Its default: what is cut off around each tile."""


def edges_px(size_px: int, tile_px: int) -> list[int]:
    """The scene is padded by `DELTA_PX` on all sides; tiles begin every core, the last ones end with the scene."""
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
    task = task_of_command_line(__doc__)
    tiled_inference = load_tiled_inference()
    model = task.open_model("scores")
    ready()
    with rasterio.open(task.scene) as scene:
        image_NBHW = torch.from_numpy(scene.read())[None]
        profile = map_profile(scene.profile)
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
