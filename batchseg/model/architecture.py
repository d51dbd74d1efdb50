"""Which networks there are, without torch: a contract that names another one is refused when it is read."""

from __future__ import annotations

from typing import Any

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
_STRIDES_PX = {"bulknet": 8, "unet": 16, "segformer": 32}
_KEYS = {"bulknet": {"width"}, "unet": {"width"}, "segformer": {"size", "decoder", "detail", "config"}}
_WIDTHS = ("width", "decoder", "detail")


def is_known(architecture: dict[str, Any]) -> bool:
    """Whether `networks.build_network` can build it; what an ONNX file holds is known to its runtime alone."""
    kind = architecture.get("kind")
    if kind == "onnx":
        return True
    if not isinstance(kind, str) or kind not in _KEYS or set(architecture) - {"kind"} - _KEYS[kind]:
        return False
    if any(not isinstance(architecture.get(name, 1), int) or architecture.get(name, 1) < 1 for name in _WIDTHS):
        return False
    if kind == "segformer":
        if "config" in architecture:
            return set(architecture) == {"kind", "config"} and set(architecture["config"] or ()) == set(SEGFORMER_KEYS)
        return architecture.get("size") in SEGFORMER_SIZES
    return True


def known_kinds() -> str:
    return "bulknet or unet with a width, segformer with a size of " + ", ".join(SEGFORMER_SIZES) + ", or onnx"


def stride_px(architecture: dict[str, Any]) -> int:
    """What the sides of a network's tiles are a multiple of."""
    return _STRIDES_PX[architecture["kind"]]
