"""The labels: the class of each pixel."""

from __future__ import annotations

from batchseg.classes import ClassInfo
from batchseg.layers.layer import Layer, LayerDefinition


def make_labels(classes: tuple[ClassInfo, ...]) -> Layer:
    """Codes are class ids: in 8 bits where they fit beside nodata, in 16 bits otherwise."""
    is_wide = max((info.id for info in classes), default=0) >= 255
    return Layer(
        name="labels",
        title="class",
        dtype="uint16" if is_wide else "uint8",
        nodata=65535 if is_wide else 255,
        kind="classes",
        classes=classes,
        tags={f"class_{info.id}": info.name for info in classes},
    )


LABELS = LayerDefinition(name="labels", make=make_labels, take=lambda prediction: prediction.labels_HW, is_default=True)
