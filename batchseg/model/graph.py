"""One graph from raw values to class indexes and confidences, so that only two bytes per pixel leave the device.

Theory of operation
-------------------
A small network gives logits at a quarter of the resolution. The way from there to a class for every pixel costs more
than the network itself, so it is arranged for the machine:

- `argmax` over a channels-first tensor is slower than `max`, fifteen times in torch and five times in OpenVINO.
  Comparing the class planes one after the other costs a tenth of it and gives the same result: the first of equal
  scores wins.
- Bilinear upsampling by a whole factor is a 3 x 3 convolution: each of the 4 x 4 pixels of a cell is a fixed mixture of
  the cell and its neighbours. So each class has 16 channels at a quarter of the resolution, and classes are compared
  there. Only the two resulting bytes are moved to their pixels; upsampled planes never exist.
- Only the network needs the halo of a tile. The steps after it work pixel by pixel and leave the halo out, which is a
  fifth of a tile of 576 px.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from batchseg.layers.confidence import CERTAIN

UPSAMPLING = 4
"""Our networks give logits at a quarter of the input's resolution, or at all of it."""


class WholeGraph(nn.Module):
    """Normalise, run the network, upsample to full resolution, apply softmax, choose the best class, cut off the halo.

    The first step and the last ones are the same for every network: those that we build and those that come as ONNX
    (model/onnx_graph.py).
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, network: nn.Module, mean: tuple[float, ...], std: tuple[float, ...], *, halo_px: int = 0
    ) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).view(1, -1, 1, 1))
        self.decision = Decision(halo_px)

    def normalise(self, x_NBHW: Tensor) -> Tensor:
        """The only preprocessing, in training and in inference alike."""
        return (x_NBHW.float() - self.mean) / self.std

    def scores(self, x_NBHW: Tensor) -> Tensor:
        """Logits at full resolution, for training; `forward` compares the same numbers without upsampled planes."""
        rows, cols = x_NBHW.shape[2:]
        return resize_logits(self._compute_logits(x_NBHW), (rows, cols))

    def forward(self, x_NBHW: Tensor) -> tuple[Tensor, Tensor]:
        rows, cols = x_NBHW.shape[2:]
        planes: tuple[Tensor, Tensor] = self.decision(self._compute_logits(x_NBHW), (rows, cols))
        return planes

    def _compute_logits(self, x_NBHW: Tensor) -> Tensor:
        logits: Tensor = self.network(self.normalise(x_NBHW).to(_find_dtype(self.network)))
        return logits.float()


def _find_dtype(network: nn.Module) -> torch.dtype:
    """Type of the network's weights; float32 if torch does not see them."""
    return next((parameter.dtype for parameter in network.parameters()), torch.float32)


class Entry(nn.Module):
    """The step before the network: from raw values to its input."""

    def __init__(self, whole: WholeGraph) -> None:
        super().__init__()
        self.whole = whole

    def forward(self, x_NBHW: Tensor) -> Tensor:
        return self.whole.normalise(x_NBHW)


class Head(nn.Module):
    """The steps after the network: from its logits to class indexes and confidences at full resolution."""

    def __init__(self, side_px: int, halo_px: int) -> None:
        super().__init__()
        self.side_px = side_px
        self.decision = Decision(halo_px)

    def forward(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        planes: tuple[Tensor, Tensor] = self.decision(logits.float(), (self.side_px, self.side_px))
        return planes


def resize_logits(logits: Tensor, size_px: tuple[int, int]) -> Tensor:
    if tuple(logits.shape[2:]) == tuple(size_px):
        return logits
    return functional.interpolate(logits, size=size_px, mode="bilinear", align_corners=False)


class Decision(nn.Module):
    """From logits to class indexes and confidences, as if the logits were upsampled first. The halo is cut off."""

    mixture: Tensor

    def __init__(self, halo_px: int) -> None:
        super().__init__()
        self.halo_px = halo_px
        # A buffer, so that it is on the device. Flat, since a memory format applies to four dimensions only.
        self.register_buffer("mixture", make_bilinear_kernel(UPSAMPLING).flatten(1), persistent=False)

    def forward(self, logits_NKHW: Tensor, size_px: tuple[int, int]) -> tuple[Tensor, Tensor]:
        in_cells = all(cells * UPSAMPLING == side for cells, side in zip(logits_NKHW.shape[2:], size_px, strict=True))
        if not in_cells or self.halo_px % UPSAMPLING:
            return choose_best(_crop(resize_logits(logits_NKHW, size_px), self.halo_px).unbind(1))
        index, confidence = choose_best(self._upsample_in_cells(logits_NKHW, self.halo_px // UPSAMPLING))
        return functional.pixel_shuffle(index, UPSAMPLING)[:, 0], functional.pixel_shuffle(confidence, UPSAMPLING)[:, 0]

    def _upsample_in_cells(self, logits_NKHW: Tensor, cut: int) -> list[Tensor]:
        """For each class, the scores of all pixels of a cell as channels, without `cut` cells at each side."""
        # Each cell needs its neighbours. At the edge these are cells that are cut off.
        edged = _crop(logits_NKHW, cut - 1) if cut else functional.pad(logits_NKHW, (1, 1, 1, 1), mode="replicate")
        mixture = self.mixture.view(UPSAMPLING**2, 1, 3, 3)
        num_classes = logits_NKHW.shape[1]
        # One convolution per class over all classes, with zeros but for its own: splitting a tensor costs more.
        kernels = [functional.pad(mixture, (0, 0, 0, 0, k, num_classes - 1 - k)) for k in range(num_classes)]
        return [functional.conv2d(edged, kernel) for kernel in kernels]


def _crop(planes: Tensor, cut: int) -> Tensor:
    return planes[..., cut : planes.shape[-2] - cut, cut : planes.shape[-1] - cut]


def make_bilinear_kernel(factor: int) -> Tensor:
    """Weights, factor^2 x 1 x 3 x 3, which mix each pixel of a cell from the cell and its eight neighbours."""
    at = (torch.arange(factor) + 0.5) / factor - 0.5
    # The centres of the neighbours lie at -1, 0 and 1. At a distance of a whole cell the weight is zero.
    weights = (1 - (at[:, None] - torch.tensor([-1.0, 0.0, 1.0])).abs()).clamp(min=0)
    return torch.einsum("ya,xb->yxab", weights, weights).reshape(factor**2, 1, 3, 3)


def choose_best(planes: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """From the score planes of all classes: index of the best class, and round(254 p) of its softmax probability."""
    best, index = planes[0], torch.zeros_like(planes[0])
    for number, plane in enumerate(planes[1:], start=1):
        index = torch.where(plane > best, torch.full_like(index, float(number)), index)
        best = torch.maximum(best, plane)
    total = torch.zeros_like(best)
    for plane in planes:
        total = total + torch.exp(plane - best)
    return index.to(torch.uint8), torch.round(CERTAIN / total).to(torch.uint8)
