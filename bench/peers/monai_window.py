"""MONAI's sliding_window_inference over the scene as one image: gaussian weights, 12.5 % overlap."""

from __future__ import annotations

import rasterio
import torch

from bench.peers.peer_model import CORE_PX
from bench.peers.task import make_map_profile, parse_task, print_ready

LEAST_OVERLAP = 0.125


def compute_overlap(tile_px: int) -> float:
    """The overlap as a share of a tile: an eighth, or the overlap of our own tiles where that is more."""
    return max(LEAST_OVERLAP, (tile_px - CORE_PX) / tile_px)


def list_edges_px(size_px: int, tile_px: int) -> list[int]:
    """List where MONAI's tiles begin and end: in steps of the part without overlap, the last one moved back inside."""
    step_px = int(tile_px * (1 - compute_overlap(tile_px)))
    starts = [min(start, size_px - tile_px) for start in range(0, size_px - tile_px + step_px, step_px)]
    return [edge for start in starts for edge in (start, start + tile_px)]


def main() -> None:
    task = parse_task(__doc__)
    from monai.inferers import sliding_window_inference

    model = task.open_model("scores")
    print_ready()
    with rasterio.open(task.scene) as scene:
        image_NBHW = torch.from_numpy(scene.read())[None]
        profile = make_map_profile(scene.profile)
    with torch.inference_mode():
        scores_NKHW = sliding_window_inference(
            # MONAI blends in the type of its input; eight bits would round the scores.
            image_NBHW.float(),
            roi_size=(model.tile_px, model.tile_px),
            sw_batch_size=model.batch,
            predictor=lambda x_NBHW: model(x_NBHW.to(torch.uint8)),
            overlap=compute_overlap(model.tile_px),
            mode="gaussian",
            padding_mode="replicate",
        )
        labels_HW = scores_NKHW[0].argmax(0).to(torch.uint8).numpy()
    with rasterio.open(task.labels, "w", **profile) as out:
        out.write(labels_HW, 1)


if __name__ == "__main__":
    main()
