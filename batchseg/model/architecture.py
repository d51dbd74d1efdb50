"""The architectures of networks, without torch: a contract that names an unknown one is refused when it is read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, TypeAlias

from batchseg.errors import RecipeError
from batchseg.schema import optional

SegformerSize = Literal["b0", "b1", "b2", "b3", "b4", "b5"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BulkNetSpec:
    """Our network for the bulk tier."""

    stride_px: ClassVar[int] = 8
    kind: Literal["bulknet"] = "bulknet"
    width: int | None = optional()
    """Channels of the first layer; 32 by default."""

    def __post_init__(self) -> None:
        _check_positive(width=self.width)


@dataclass(frozen=True, slots=True, kw_only=True)
class UNetSpec:
    """A plain U-Net, which the other networks are compared with."""

    stride_px: ClassVar[int] = 16
    kind: Literal["unet"] = "unet"
    width: int | None = optional()
    """Channels of the first layer; 16 by default."""

    def __post_init__(self) -> None:
        _check_positive(width=self.width)


@dataclass(frozen=True, slots=True, kw_only=True)
class SegformerSpec:
    """A SegFormer of a published size, which is trained here."""

    stride_px: ClassVar[int] = 32
    kind: Literal["segformer"] = "segformer"
    size: SegformerSize
    decoder: int | None = optional()
    """Channels of the decoder; those of the published network by default."""
    detail: int | None = optional()
    """Channels of the branch that corrects the logits at full resolution; without it there is no such branch."""

    def __post_init__(self) -> None:
        _check_positive(decoder=self.decoder, detail=self.detail)


@dataclass(frozen=True, slots=True, kw_only=True)
class SegformerShape:
    """The part of a `transformers` configuration that shapes the function at inference."""

    decoder_hidden_size: int
    depths: tuple[int, ...]
    hidden_act: str
    hidden_sizes: tuple[int, ...]
    layer_norm_eps: float
    mlp_ratios: tuple[int | float, ...]
    num_attention_heads: tuple[int, ...]
    num_encoder_blocks: int
    patch_sizes: tuple[int, ...]
    sr_ratios: tuple[int, ...]
    strides: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportedSegformerSpec:
    """A SegFormer that was trained elsewhere, of any shape."""

    stride_px: ClassVar[int] = 32
    kind: Literal["segformer"] = "segformer"
    config: SegformerShape


@dataclass(frozen=True, slots=True, kw_only=True)
class OnnxSpec:
    """A whole network in an ONNX file; only its runtime knows what the file holds."""

    kind: Literal["onnx"] = "onnx"
    quantized: Literal["int8"] | None = optional()
    """The type of the weights, if batchseg quantised them."""
    of: Architecture | None = optional()
    """The architecture of the bundle that was quantised."""


BuiltArchitecture: TypeAlias = BulkNetSpec | UNetSpec | SegformerSpec | ImportedSegformerSpec
"""The architectures that `networks.build_network` builds, and that can be trained."""
Architecture: TypeAlias = BuiltArchitecture | OnnxSpec


def _make_published(hidden_sizes: tuple[int, ...], depths: tuple[int, ...], decoder: int) -> SegformerShape:
    return SegformerShape(
        decoder_hidden_size=decoder,
        depths=depths,
        hidden_act="gelu",
        hidden_sizes=hidden_sizes,
        layer_norm_eps=1e-6,
        mlp_ratios=(4, 4, 4, 4),
        num_attention_heads=(1, 2, 5, 8),
        num_encoder_blocks=4,
        patch_sizes=(7, 3, 3, 3),
        sr_ratios=(8, 4, 2, 1),
        strides=(4, 2, 2, 2),
    )


PUBLISHED_SHAPES: dict[SegformerSize, SegformerShape] = {
    "b0": _make_published((32, 64, 160, 256), (2, 2, 2, 2), 256),
    "b1": _make_published((64, 128, 320, 512), (2, 2, 2, 2), 256),
    "b2": _make_published((64, 128, 320, 512), (3, 4, 6, 3), 768),
    "b3": _make_published((64, 128, 320, 512), (3, 4, 18, 3), 768),
    "b4": _make_published((64, 128, 320, 512), (3, 8, 27, 3), 768),
    "b5": _make_published((64, 128, 320, 512), (3, 6, 40, 3), 768),
}


def known_architectures() -> str:
    """The architectures in words, for messages."""
    return "bulknet or unet with a width, segformer with a size of " + ", ".join(PUBLISHED_SHAPES) + ", or onnx"


def _check_positive(**channels: int | None) -> None:
    for name, value in channels.items():
        if value is not None and value < 1:
            raise RecipeError(f"`{name}` must be 1 or more", where="architecture", got=str(value))
