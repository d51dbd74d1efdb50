"""A network run over windows of ground, in tiles as in a run: to measure its IoU, or to store a teacher's logits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from batchseg.engine.inputs import cut_tile
from batchseg.model.quality import GroundRecord, TrainedQuality
from batchseg.recipe.recipe import Tiling
from batchseg.score.confusion import count_confusion, iou_per_labelled_class, mean_iou
from batchseg.score.scores import compute_scores
from batchseg.training.ground import TrainingGround
from tiling.grid import Grid, Tile, tiles_of
from tiling.span import Window

CORE_PX = Tiling().core
_DIGITS = 4


class Classifier(Protocol):
    """A network for inference: a graph in torch, or a segmenter of a run behind the same interface."""

    def eval(self) -> object: ...

    def __call__(self, x_NBHW: Tensor) -> tuple[Tensor, Tensor]:
        """Class indexes and confidences."""
        ...


def measure_iou(
    classifier: Classifier, ground: TrainingGround, *, halo_px: int, device: str = "cpu"
) -> dict[str, float]:
    """IoU of each class that the labels contain, by name, over whole windows that are cut into tiles as in a run."""
    return compute_iou(measure_confusion(classifier, ground, halo_px=halo_px, device=device), ground.names)


def measure_confusion(
    classifier: Classifier, ground: TrainingGround, *, halo_px: int, device: str = "cpu"
) -> NDArray[np.int64]:
    """Count the confusion matrix over whole windows that are cut into tiles as in a run."""
    num_classes = len(ground.names)
    confusion = np.zeros((num_classes, num_classes), np.int64)
    classifier.eval()
    for pixels_BHW, labels_HW in zip(ground.pixels_WBHW, ground.labels_WHW, strict=True):
        index_HW = _predict(classifier, pixels_BHW, halo_px, device)
        confusion += count_confusion(labels_HW, index_HW, num_classes)
    return confusion


def compute_iou(confusion: NDArray[np.int64], names: Sequence[str]) -> dict[str, float]:
    """IoU of each class that the labels contain, by name."""
    iou = zip(names, iou_per_labelled_class(confusion), strict=True)
    return {name: round(value, _DIGITS) for name, value in iou if value is not None}


def judge(confusion: NDArray[np.int64], names: Sequence[str], on: GroundRecord) -> TrainedQuality:
    """Compute the quality of a bundle from its confusion matrix on some ground."""
    iou, scores = compute_iou(confusion, names), compute_scores(confusion, names)
    return TrainedQuality(
        iou=iou,
        miou=compute_miou(iou),
        on=on,
        recall={name: scores.recall[name] for name in iou},
        precision={name: scores.precision[name] for name in iou},
    )


def compute_miou(iou: Mapping[str, float]) -> float:
    """Mean of the rounded IoU of the classes, as it stands in a bundle."""
    return round(mean_iou(iou.values()), _DIGITS)


def _predict(classifier: Classifier, pixels_BHW: NDArray[Any], halo_px: int, device: str) -> NDArray[np.uint8]:
    window_index_HW = np.empty(pixels_BHW.shape[1:], np.uint8)
    for tile, x in cut_tiles(pixels_BHW, halo_px):
        with torch.inference_mode(), torch.autocast(device, torch.bfloat16):
            index_NHW, _ = classifier(x.to(device))
        core = tile.owned.within(tile.read_window(halo_px))
        window_index_HW[tile.owned.within(_whole_window(pixels_BHW))] = index_NHW[0].cpu().numpy()[core]
    return window_index_HW


def cut_tiles(pixels_BHW: NDArray[Any], halo_px: int) -> Iterator[tuple[Tile, Tensor]]:
    """Cut a window into tiles with their halos; each is a batch of one."""
    whole = _whole_window(pixels_BHW)
    shape_px = (len(whole.rows), len(whole.cols))
    for tile in tiles_of(Grid(shape_px, CORE_PX), whole):
        x_BHW = cut_tile(pixels_BHW, whole, tile, halo_px, shape_px)
        yield tile, torch.from_numpy(x_BHW[None]).contiguous(memory_format=torch.channels_last)


def _whole_window(pixels_BHW: NDArray[Any]) -> Window:
    return Window.of(0, pixels_BHW.shape[1], 0, pixels_BHW.shape[2])
