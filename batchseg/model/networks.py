"""The networks that we build. Those of the two tiers give logits at a quarter of the input's resolution.

The heavy one is SegFormer, as `transformers` builds it. The bulk one is ours and made for throughput. It has dense
convolutions at an eighth of the resolution, and one branch at a quarter of it for edges. Its channel counts suit matrix
units, no normalisation is left at inference, and no operation is global. The field of view of a cell of 8 x 8 pixels
ends `BULK_FIELD_PX` beyond the cell. Tiles lie on multiples of 8 pixels, so with a halo of that size the core of a tile
is the same as if the network saw the whole image.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from batchseg.errors import BundleError
from batchseg.model.architecture import (
    PUBLISHED_SHAPES,
    Architecture,
    BulkNetSpec,
    ImportedSegformerSpec,
    OnnxSpec,
    SegformerShape,
    UNetSpec,
)
from batchseg.schema import plain

BULK_FIELD_PX = 32


def build_network(architecture: Architecture, *, num_bands: int, num_classes: int) -> nn.Module:
    match architecture:
        case BulkNetSpec():
            return BulkNet(num_bands, num_classes, width=architecture.width or 32)
        case UNetSpec():
            return UNet(num_bands, num_classes, width=architecture.width or 16)
        case ImportedSegformerSpec():
            return SegFormer(num_bands, num_classes, architecture.config)
        case OnnxSpec():
            raise BundleError("an ONNX network cannot be built, only run", where="architecture", got=str(architecture))
    shape = PUBLISHED_SHAPES[architecture.size]
    if architecture.decoder is not None:
        shape = replace(shape, decoder_hidden_size=architecture.decoder)
    if architecture.detail is not None:
        return DetailedSegFormer(num_bands, num_classes, shape, width=architecture.detail)
    return SegFormer(num_bands, num_classes, shape)


class SegFormer(nn.Module):
    def __init__(self, num_bands: int, num_classes: int, shape: SegformerShape) -> None:
        super().__init__()
        # It takes two seconds to import, so only programs that run or train a SegFormer wait for it.
        from transformers import (  # noqa: PLC0415
            PreTrainedModel,
            SegformerConfig,
            SegformerForSemanticSegmentation,
        )

        config = SegformerConfig(num_channels=num_bands, num_labels=num_classes, drop_path_rate=0.05, **plain(shape))
        self.segformer = SegformerForSemanticSegmentation(config)
        # The loss is never called. Without one, tracing makes the library log that it takes one for language models.
        for module in self.segformer.modules():
            if isinstance(module, PreTrainedModel):
                module.loss_function = functional.cross_entropy
            if isinstance(module, nn.Conv2d | nn.Linear):
                # The library initialises all weights with a deviation of 0.02, since it loads trained ones anyway. With
                # it, depthwise convolutions pass almost nothing on: after 420 steps the loss was 0.81 instead of 0.66.
                nn.init.trunc_normal_(module.weight, std=module.weight[0].numel() ** -0.5)

    def forward(self, x_NBHW: Tensor) -> Tensor:
        logits: Tensor = self.segformer(x_NBHW).logits
        return logits


class DetailedSegFormer(SegFormer):
    """SegFormer with a branch for details: logits at full resolution, computed at a quarter of it.

    A stem that loses nothing (4 x 4 pixels are one cell) is mixed with the features of the transformer. Every cell then
    gives 16 corrections per class, one per pixel, to the transformer's upsampled logits. Houses and roads are a few
    cells wide, so logits at a quarter of the resolution would blur their edges.
    """

    def __init__(self, num_bands: int, num_classes: int, shape: SegformerShape, *, width: int) -> None:
        super().__init__(num_bands, num_classes, shape)
        known = shape.decoder_hidden_size
        self.segformer.decode_head.classifier = nn.Identity()
        self.coarse = nn.Conv2d(known, num_classes, 1)
        self.stem = _Conv(num_bands, width, 4, stride=4)
        self.squeeze = _Conv(known, width, 1)
        self.mix = nn.Sequential(_Conv(2 * width, width, 3), _Conv(width, width, 3))
        self.detail = nn.Conv2d(width, 16 * num_classes, 1)
        nn.init.zeros_(self.detail.weight)  # so that training starts from the transformer's own logits

    def forward(self, x_NBHW: Tensor) -> Tensor:
        known: Tensor = super().forward(x_NBHW)
        mixed = self.mix(torch.cat([self.stem(x_NBHW), self.squeeze(known)], 1))
        coarse = functional.interpolate(self.coarse(known), size=x_NBHW.shape[2:], mode="bilinear", align_corners=False)
        return coarse + functional.pixel_shuffle(self.detail(mixed), 4)


class _Conv(nn.Sequential):
    """A convolution with its normalisation; `fold_normalisation` merges the two for inference."""

    def __init__(self, inputs: int, outputs: int, side: int, *, stride: int = 1) -> None:
        padding = side // 2 if stride == 1 else 0
        super().__init__(
            nn.Conv2d(inputs, outputs, side, stride, padding, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
        )


class BulkNet(nn.Module):
    def __init__(self, num_bands: int, num_classes: int, *, width: int = 32) -> None:
        super().__init__()
        wide = 2 * width
        self.stem = _Conv(num_bands, width, 4, stride=4)
        self.down = _Conv(width, wide, 2, stride=2)
        self.coarse = nn.ModuleList(_Conv(wide, wide, 3) for _ in range(3))
        self.lift = _Conv(wide, width, 1)
        self.mix = _Conv(wide, width, 1)
        self.out = nn.Conv2d(width, num_classes, 1)

    def forward(self, x_NBHW: Tensor) -> Tensor:
        fine = self.stem(x_NBHW)
        coarse = self.down(fine)
        for conv in self.coarse:
            coarse = coarse + conv(coarse)
        lifted = functional.interpolate(self.lift(coarse), scale_factor=2.0, mode="nearest")
        logits: Tensor = self.out(self.mix(torch.cat([fine, lifted], 1)))
        return logits


class UNet(nn.Module):
    """A plain U-Net at full resolution, which the other networks are compared with (docs/models.md)."""

    def __init__(self, num_bands: int, num_classes: int, *, width: int = 16) -> None:
        super().__init__()
        widths = [width << level for level in range(5)]
        self.down = nn.ModuleList(_make_block(a, b) for a, b in zip([num_bands, *widths], widths, strict=False))
        self.up = nn.ModuleList(_make_block(a + b, a) for a, b in zip(widths[-2::-1], widths[:0:-1], strict=True))
        self.out = nn.Conv2d(width, num_classes, 1)

    def forward(self, x_NBHW: Tensor) -> Tensor:
        passed = []
        for level, block in enumerate(self.down):
            x_NBHW = block(functional.max_pool2d(x_NBHW, 2) if level else x_NBHW)
            passed.append(x_NBHW)
        for block, fine in zip(self.up, passed[-2::-1], strict=True):
            larger = functional.interpolate(x_NBHW, scale_factor=2.0, mode="nearest")
            x_NBHW = block(torch.cat([fine, larger], 1))
        logits: Tensor = self.out(x_NBHW)
        return logits


def _make_block(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(_Conv(inputs, outputs, 3), _Conv(outputs, outputs, 3))


def fold_normalisation(network: nn.Module) -> nn.Module:
    """Merge each normalisation into its convolution: the same function, with fewer passes over memory."""
    for name, child in list(network.named_children()):
        if isinstance(child, _Conv):
            conv, normalisation, activation = child.eval()
            assert isinstance(conv, nn.Conv2d)
            assert isinstance(normalisation, nn.BatchNorm2d)
            fused = torch.nn.utils.fuse_conv_bn_eval(conv, normalisation)
            setattr(network, name, nn.Sequential(fused, activation))
        else:
            fold_normalisation(child)
    return network
