"""Quality of a bundle, as it was measured when the bundle was made. It decides no byte of any output."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from batchseg.schema import optional


@dataclass(frozen=True, slots=True, kw_only=True)
class RasterRecord:
    """A scene that a training used. Bundles are given away, so these names hold no folders and no signatures."""

    image: str
    labels: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class GroundRecord:
    """The ground of a training or a measurement: synthetic scenes by their seeds, or rasters."""

    seeds: tuple[int, int] | None
    size_px: int
    rasters: tuple[RasterRecord, ...]
    windows: int | None
    window_px: int


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedTiles:
    """The tiles of a scene that a quantised bundle was judged on."""

    on: str
    """Name of the scene."""
    tiles: int


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedPixels:
    """The labelled pixels of a scene that an adjusted bundle was judged on."""

    on: str
    """Name of the scene."""
    tiles: int
    pixels: int


@dataclass(frozen=True, slots=True, kw_only=True)
class UnknownQuality:
    """Nothing was measured, as for an imported model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedQuality:
    """The quality of a trained bundle, on ground that it never saw."""

    iou: dict[str, float]
    """IoU of each class that the ground has."""
    miou: float
    on: GroundRecord
    recall: dict[str, float | None] | None = optional()
    """Share of the labelled pixels of each class that were found; None in bundles that were made before it was kept."""
    precision: dict[str, float | None] | None = optional()
    """Share of the pixels that were given each class that are right."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AdjustedQuality:
    """The quality of an adjusted bundle, from cross-validation on its labels."""

    iou: dict[str, float]
    miou: float
    miou_of_original: float
    judged_on: JudgedPixels


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantizedQuality:
    """The quality of a quantised bundle and of its original in float32. Without labels only the agreement is known."""

    agreement_with_original: float
    """Share of pixels with the same label as the original gives in float32."""
    judged_on: JudgedTiles
    iou: dict[str, float] | None = optional()
    miou: float | None = optional()
    miou_of_original: float | None = optional()


Quality: TypeAlias = UnknownQuality | TrainedQuality | AdjustedQuality | QuantizedQuality
