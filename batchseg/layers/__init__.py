"""The output layers of a run, each defined once. A new layer is a file of this folder and a line of `LAYERS`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from numpy.typing import NDArray

from batchseg.classes import ClassInfo
from batchseg.errors import InputError
from batchseg.layers.confidence import CONFIDENCE
from batchseg.layers.labels import LABELS
from batchseg.layers.layer import Layer, LayerDefinition, Predicted
from batchseg.layers.tier import TIER

LAYERS: dict[str, LayerDefinition] = {
    "labels": LABELS,
    "confidence": CONFIDENCE,
    "tier": TIER,
}
"""Every layer that a recipe can name, in the order in which layers are written and shown."""


def list_default_layers() -> tuple[str, ...]:
    """The names of the layers that a run writes unless its recipe says otherwise."""
    return tuple(name for name, definition in LAYERS.items() if definition.is_default)


def make_layers(names: Iterable[str], classes: tuple[ClassInfo, ...]) -> tuple[Layer, ...]:
    """The layers of a run, in the order of the table.

    Args:
        names: The layers that the run writes.
        classes: The classes of its models.

    Raises:
        InputError: A name is not in the table.
    """
    wanted = set(names)
    unknown = sorted(wanted - LAYERS.keys())
    if unknown:
        raise InputError("unknown layer", where="layers", expected=" or ".join(LAYERS), got=", ".join(unknown))
    return tuple(definition.make(classes) for name, definition in LAYERS.items() if name in wanted)


def take_layers(layers: Iterable[Layer], prediction: Predicted) -> dict[str, NDArray[Any]]:
    """The pixels of these layers, by name."""
    return {layer.name: LAYERS[layer.name].take(prediction) for layer in layers}
