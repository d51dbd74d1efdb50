"""The networks that we build: both give logits at a quarter of the input's resolution.

The heavy one is SegFormer, as `transformers` builds it. The bulk one is ours, made for throughput: dense convolutions
at an eighth of the resolution, one look at a quarter of it for edges, channel counts that suit matrix units, no
normalisation left at inference, no global operation. What a cell of 8 x 8 pixels depends on ends `BULK_FIELD_PX` beyond
the cell. Tiles lie on multiples of 8 pixels, so with a halo of that size a tile's core is what the whole image would
give.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from batchseg.errors import BundleError

BULK_FIELD_PX = 32
SEGFORMER_SIZES: dict[str, dict[str, Any]] = {
    "b0": {"hidden_sizes": [32, 64, 160, 256], "depths": [2, 2, 2, 2], "decoder_hidden_size": 256},
    "b1": {"hidden_sizes": [64, 128, 320, 512], "depths": [2, 2, 2, 2], "decoder_hidden_size": 256},
    "b2": {"hidden_sizes": [64, 128, 320, 512], "depths": [3, 4, 6, 3], "decoder_hidden_size": 768},
    "b3": {"hidden_sizes": [64, 128, 320, 512], "depths": [3, 4, 18, 3], "decoder_hidden_size": 768},
    "b4": {"hidden_sizes": [64, 128, 320, 512], "depths": [3, 8, 27, 3], "decoder_hidden_size": 768},
    "b5": {"hidden_sizes": [64, 128, 320, 512], "depths": [3, 6, 40, 3], "decoder_hidden_size": 768},
}
SEGFORMER_KEYS = (
    "decoder_hidden_size",
    "depths",
    "hidden_act",
    "hidden_sizes",
    "layer_norm_eps",
    "mlp_ratios",
    "num_attention_heads",
    "num_encoder_blocks",
    "patch_sizes",
    "sr_ratios",
    "strides",
)
"""What of a configuration of `transformers` shapes the function at inference; an imported model has them all."""


def build_network(architecture: dict[str, Any], *, num_bands: int, num_classes: int) -> nn.Module:
    kind = architecture.get("kind")
    if kind == "bulknet":
        return BulkNet(num_bands, num_classes, width=architecture.get("width", 32))
    if kind == "segformer" and set(architecture.get("config", ())) == set(SEGFORMER_KEYS):
        return SegFormer(num_bands, num_classes, architecture["config"])
    if kind == "segformer" and architecture.get("size") in SEGFORMER_SIZES:
        shape = SEGFORMER_SIZES[architecture["size"]]
        if "decoder" in architecture:
            shape = shape | {"decoder_hidden_size": architecture["decoder"]}
        return SegFormer(num_bands, num_classes, shape)
    raise BundleError(
        "an unknown architecture",
        where="batchseg:architecture",
        expected="bulknet, or segformer with size " + ", ".join(SEGFORMER_SIZES),
        got=str(architecture),
    )


class SegFormer(nn.Module):
    def __init__(self, num_bands: int, num_classes: int, shape: dict[str, Any]) -> None:
        super().__init__()
        # Two seconds to import, and only who runs or trains a SegFormer has to wait for it.
        from transformers import (  # noqa: PLC0415
            PreTrainedModel,
            SegformerConfig,
            SegformerForSemanticSegmentation,
        )

        config = SegformerConfig(num_channels=num_bands, num_labels=num_classes, drop_path_rate=0.05, **shape)
        self.segformer = SegformerForSemanticSegmentation(config)
        # Never called; where there is none, tracing makes the library log that it would take one for language models.
        for module in self.segformer.modules():
            if isinstance(module, PreTrainedModel):
                module.loss_function = functional.cross_entropy
            if isinstance(module, nn.Conv2d | nn.Linear):
                # The library's start, a deviation of 0.02 for all, is for weights that are loaded anyway: depthwise
                # convolutions pass almost nothing on, and after 420 steps the loss was 0.81 instead of 0.66.
                nn.init.trunc_normal_(module.weight, std=module.weight[0].numel() ** -0.5)

    def forward(self, x_NBHW: Tensor) -> Tensor:
        logits: Tensor = self.segformer(x_NBHW).logits
        return logits


class _Conv(nn.Sequential):
    """A convolution with its normalisation; `fold` merges the two for inference."""

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


def folded(network: nn.Module) -> nn.Module:
    """Merge each normalisation into its convolution: the same function with fewer passes over memory."""
    for name, child in list(network.named_children()):
        if isinstance(child, _Conv):
            conv, normalisation, activation = child.eval()
            assert isinstance(conv, nn.Conv2d)
            assert isinstance(normalisation, nn.BatchNorm2d)
            fused = torch.nn.utils.fuse_conv_bn_eval(conv, normalisation)
            setattr(network, name, nn.Sequential(fused, activation))
        else:
            folded(child)
    return network
