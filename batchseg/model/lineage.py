"""The sources of a bundle. They decides no byte of any output."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from batchseg.schema import JsonObject, optional, setting


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportedModel:
    """The files of others that a bundle was imported from."""

    from_: str = setting(key="from", doc="name of the file or folder, without its path")
    format: Literal["transformers", "ONNX"]
    config: JsonObject | None = optional()
    """The model's own configuration, word for word."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MixingRecord:
    """The mixture that was put into the weights of an adjusted bundle."""

    weights: tuple[tuple[float, ...], ...]
    offsets: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class UnknownLineage:
    """Nothing is known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportedLineage:
    imported: ImportedModel


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedLineage:
    recipe: JsonObject
    """The training recipe, as the version of batchseg that trained the bundle wrote it. Later ones have other keys."""
    data: dict[str, str]
    """Digests of the pixels and labels, by their use: train, validate, watch."""
    commit: str | None
    """Commit of the code; it ends in `-dirty` if there were changes that are in no commit."""
    start: str | None = optional()
    """Graph digest of the bundle whose weights the training began with."""
    teacher: str | None = optional()
    """Graph digest of the teacher."""
    steps: int


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantizedLineage:
    quantized_from: str
    """Name of the original."""
    original: Lineage


@dataclass(frozen=True, slots=True, kw_only=True)
class AdjustedLineage:
    adjusted_from: str
    """Name of the original."""
    mixing: MixingRecord
    original: Lineage


Lineage: TypeAlias = UnknownLineage | ImportedLineage | TrainedLineage | QuantizedLineage | AdjustedLineage


def find_training(lineage: Lineage) -> TrainedLineage | None:
    """The training at the root, however often its bundle has been changed since; None for a model of others."""
    while isinstance(lineage, QuantizedLineage | AdjustedLineage):
        lineage = lineage.original
    return lineage if isinstance(lineage, TrainedLineage) else None
