"""The confidence: how sure the model is of each label, round(254 p)."""

from __future__ import annotations

from batchseg.classes import ClassInfo
from batchseg.layers.layer import Layer, LayerDefinition

CERTAIN = 254
"""Code of a probability of 1."""
NO_CONFIDENCE = 255
"""Code of pixels without a label."""


def make_confidence(classes: tuple[ClassInfo, ...]) -> Layer:
    """The label is the most probable class, so its probability is never below one over the number of classes."""
    return Layer(
        name="confidence",
        title="confidence",
        dtype="uint8",
        nodata=NO_CONFIDENCE,
        kind="measure",
        least=1 / len(classes) if len(classes) > 1 else 0.0,
        tags={"scale": f"{CERTAIN} = certain"},
    )


CONFIDENCE = LayerDefinition(
    name="confidence",
    make=make_confidence,
    take=lambda prediction: prediction.confidence_HW,
    is_default=True,
)
