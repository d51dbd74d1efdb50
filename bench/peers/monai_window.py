"""MONAI's sliding_window_inference over the scene as one image: gaussian weights, 12.5 % overlap."""

from __future__ import annotations

import rasterio
import torch

from bench.peers.handed import CORE_PX
from bench.peers.task import map_profile, ready, task_of_command_line

LEAST_OVERLAP = 0.125


def overlap_of(tile_px: int) -> float:
    """An eighth, or as much as our own tiles share where that is more."""
    return max(LEAST_OVERLAP, (tile_px - CORE_PX) / tile_px)


def edges_px(size_px: int, tile_px: int) -> list[int]:
    """Where MONAI's tiles begin and end: at steps of what does not overlap, the last one moved back inside."""
    step_px = int(tile_px * (1 - overlap_of(tile_px)))
    starts = [min(start, size_px - tile_px) for start in range(0, size_px - tile_px + step_px, step_px)]
    return [edge for start in starts for edge in (start, start + tile_px)]


def main() -> None:
    from monai.inferers import sliding_window_inference

    task = task_of_command_line(__doc__)
    model = task.open_model("scores")
    ready()
    with rasterio.open(task.scene) as scene:
        image_NBHW = torch.from_numpy(scene.read())[None]
        profile = map_profile(scene.profile)
    with torch.inference_mode():
        scores_NKHW = sliding_window_inference(
            # It blends in the type of its input: eight bits would round the scores.
            image_NBHW.float(),
            roi_size=(model.tile_px, model.tile_px),
            sw_batch_size=model.batch,
            predictor=lambda x_NBHW: model(x_NBHW.to(torch.uint8)),
            overlap=overlap_of(model.tile_px),
            mode="gaussian",
            padding_mode="replicate",
        )
        labels_HW = scores_NKHW[0].argmax(0).to(torch.uint8).numpy()
    with rasterio.open(task.labels, "w", **profile) as out:
        out.write(labels_HW, 1)


if __name__ == "__main__":
    main()
