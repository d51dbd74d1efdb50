"""The confidence: how sure the model is of each label, round(254 p)."""

from __future__ import annotations

from batchseg.layers.layer import Layer, LayerDefinition

CERTAIN = 254
"""Code of a probability of 1."""
NO_CONFIDENCE = 255
"""Code of pixels without a label."""

_LAYER = Layer(
    name="confidence",
    title="confidence",
    dtype="uint8",
    nodata=NO_CONFIDENCE,
    kind="measure",
    tags={"scale": f"{CERTAIN} = certain"},
)

CONFIDENCE = LayerDefinition(
    name="confidence",
    make=lambda _: _LAYER,
    take=lambda prediction: prediction.confidence_HW,
    is_default=True,
)
