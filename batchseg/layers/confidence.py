"""The confidence: how sure the model is of each label, round(254 p)."""

from __future__ import annotations

from batchseg.layers.layer import Layer, LayerDefinition

_LAYER = Layer(
    name="confidence",
    title="confidence",
    dtype="uint8",
    nodata=255,
    kind="measure",
    tags={"scale": "254 = certain"},
)

CONFIDENCE = LayerDefinition(
    name="confidence",
    make=lambda _: _LAYER,
    take=lambda prediction: prediction.confidence_HW,
    is_default=True,
)
