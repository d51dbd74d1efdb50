"""One graph from raw values to class indexes and confidences, so that what leaves the device is two bytes a pixel.

`argmax` over a channels-first tensor is the slowest part of a small network on a CPU, fifteen times slower than `max`
in torch and five in OpenVINO. Comparing the class planes one after the other costs a tenth of it and gives the same
answer: the first of equal scores wins.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

CERTAIN = 254
"""The confidence code of probability 1; 255 is nodata."""


class WholeGraph(nn.Module):
    """Normalise, run the network, upsample to full resolution, softmax, take the best.

    The first and the last steps are the same for every network, so those that we build and those that come as ONNX
    (model/onnx_graph.py) share them.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).view(1, -1, 1, 1))

    def normalise(self, x_NBHW: Tensor) -> Tensor:
        """The only preprocessing there is, in training and in inference alike."""
        return (x_NBHW.float() - self.mean) / self.std

    def scores(self, x_NBHW: Tensor) -> Tensor:
        """Logits at full resolution."""
        logits = self.network(self.normalise(x_NBHW).to(_dtype(self.network)))
        rows, cols = x_NBHW.shape[2:]
        return full_size(logits, (rows, cols))

    def forward(self, x_NBHW: Tensor) -> tuple[Tensor, Tensor]:
        return best_of(self.scores(x_NBHW))


def _dtype(network: nn.Module) -> torch.dtype:
    """Of the network's weights; one that keeps them to itself gets the exact type."""
    return next((parameter.dtype for parameter in network.parameters()), torch.float32)


class Entry(nn.Module):
    """What comes before the network: from raw values to its input."""

    def __init__(self, whole: WholeGraph) -> None:
        super().__init__()
        self.whole = whole

    def forward(self, x_NBHW: Tensor) -> Tensor:
        return self.whole.normalise(x_NBHW)


class Head(nn.Module):
    """What comes after the network: from its logits to class indexes and confidences at full resolution."""

    def __init__(self, side_px: int) -> None:
        super().__init__()
        self.side_px = side_px

    def forward(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        return best_of(full_size(logits, (self.side_px, self.side_px)))


def full_size(logits: Tensor, size_px: tuple[int, int]) -> Tensor:
    return functional.interpolate(logits.float(), size=size_px, mode="bilinear", align_corners=False)


def best_of(scores_NKHW: Tensor) -> tuple[Tensor, Tensor]:
    """The best class, and round(254 p) of its softmax probability."""
    planes = scores_NKHW.unbind(1)
    best, index = planes[0], torch.zeros_like(planes[0])
    for number, plane in enumerate(planes[1:], start=1):
        index = torch.where(plane > best, torch.full_like(index, float(number)), index)
        best = torch.maximum(best, plane)
    total = torch.zeros_like(best)
    for plane in planes:
        total = total + torch.exp(plane - best)
    return index.to(torch.uint8), torch.round(CERTAIN / total).to(torch.uint8)
