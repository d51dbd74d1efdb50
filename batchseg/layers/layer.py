"""A layer: one output raster of a scene, and everything that readers must know of its codes.

Theory of operation
-------------------
A layer is defined once, in a file of its own, as a `LayerDefinition`. The definition makes the `Layer` of a run from
the classes of its models, and takes the pixels from a prediction. Everything else is derived from the `Layer`: the
array of the Zarr with its CF attributes, the GeoTIFF with its palette and tags, the resampling of overviews, the
sidecars, the band of the STAC item, and the picture and legend of the report.

There are two kinds. The codes of `classes` have names and colours, and overviews take a vote on them. The codes of a
`measure` are shares: 0 means 0, the highest code that is not nodata means 1, and overviews average them.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from batchseg.classes import RGB, ClassInfo
from batchseg.errors import InputError

RAMP: tuple[RGB, ...] = ((68, 1, 84), (59, 82, 139), (33, 145, 140), (94, 201, 98), (253, 231, 37))
"""Colours of every measure, evenly spaced from its least share to 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    name: str
    """Name of the array in the Zarr, of the GeoTIFF and its band, and of the STAC asset."""
    title: str = ""
    """Title for people: the long name in the Zarr and the heading of the legend."""
    dtype: Literal["uint8", "uint16"]
    nodata: int
    """Code of pixels without a value; never a class, never a measured value."""
    kind: Literal["classes", "measure"]
    classes: tuple[ClassInfo, ...] = ()
    """Legend of a layer of classes; empty for a measure."""
    least: float = 0.0
    """Share that the legend of a measure begins with; no pixel has less."""
    tags: dict[str, str] = field(default_factory=dict)
    """Metadata of the GeoTIFF."""

    def __post_init__(self) -> None:
        if self.dtype not in ("uint8", "uint16") or self.kind not in ("classes", "measure"):
            raise self._refusal(
                "a layer must hold classes or a measure in 8 or 16 bits",
                "uint8 or uint16, classes or measure",
                f"{self.dtype} {self.kind}",
            )
        if not 0 <= self.nodata <= self.highest:
            raise self._refusal("nodata must be a code of the data type", f"0 to {self.highest}", str(self.nodata))
        if self.kind == "measure" and self.nodata not in (0, self.highest):
            # In between, an average of valid pixels could come out as nodata.
            raise self._refusal("nodata must not be inside the measure", f"0 or {self.highest}", str(self.nodata))
        if not 0 <= self.least < 1 or (self.least and self.kind != "measure"):
            raise self._refusal("a measure must have a range", "a least share from 0 to less than 1", str(self.least))
        if self.kind == "measure" and self.classes:
            raise self._refusal("a measure must not have classes", "none", f"{len(self.classes)} classes")
        ids = [info.id for info in self.classes]
        if self.nodata in ids or len(set(ids)) != len(ids) or max(ids, default=0) > self.highest:
            raise self._refusal(
                "each class must have a code of its own, other than nodata",
                f"distinct ids up to {self.highest}, without {self.nodata}",
                ", ".join(map(str, ids)),
            )

    def _refusal(self, what: str, expected: str, got: str) -> InputError:
        return InputError(what, where=f"layer {self.name}", expected=expected, got=got)

    @property
    def highest(self) -> int:
        """The highest code that the data type can hold."""
        return int(np.iinfo(self.dtype).max)

    @property
    def top(self) -> int:
        """The code of a measure that means 1."""
        return self.highest - 1 if self.nodata == self.highest else self.highest

    @property
    def ramp(self) -> list[tuple[float, RGB]]:
        """The shares and the colours of the legend of a measure, evenly spaced."""
        steps = len(RAMP) - 1
        return [(self.least + (1 - self.least) * index / steps, colour) for index, colour in enumerate(RAMP)]

    @property
    def colours(self) -> dict[int, RGB]:
        """The colour of each class, by code."""
        return {info.id: info.rgb for info in self.classes}

    @property
    def palette(self) -> dict[int, RGB]:
        """The colours that the GeoTIFF itself holds: TIFF readers expect palettes in files of 8 bits only."""
        return self.colours if self.dtype == "uint8" else {}


class Predicted(Protocol):
    """The prediction of one chunk, as far as layers are taken from it. The engine makes it."""

    @property
    def labels_HW(self) -> NDArray[Any]: ...

    @property
    def confidence_HW(self) -> NDArray[np.uint8]: ...

    @property
    def tier_HW(self) -> NDArray[np.uint8]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerDefinition:
    """The facts of a layer that hold in any run."""

    name: str
    make: Callable[[tuple[ClassInfo, ...]], Layer]
    """Makes the layer of a run from the classes of its models."""
    take: Callable[[Predicted], NDArray[Any]]
    """Takes the pixels of a chunk from its prediction."""
    is_default: bool = False
    """True if a recipe that lists no outputs writes this layer."""

    def __post_init__(self) -> None:
        # File names put a row and a column behind the name, with underscores between.
        if not re.fullmatch("[a-z]+", self.name):
            raise InputError("the name of a layer must be lower-case letters", where="layers", got=repr(self.name))
