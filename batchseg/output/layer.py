"""One output raster: what its codes are, apart from its pixels and its place."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from batchseg.classes import RGB
from batchseg.errors import InputError


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    name: str
    """Description of the band."""
    dtype: Literal["uint8", "uint16"]
    nodata: int
    """The code of pixels without a value; never a class, never a measured value."""
    kind: Literal["classes", "measure"]
    """Classes are voted on in overviews, measures averaged."""
    palette: dict[int, RGB] = field(default_factory=dict)
    """Colours of classes, written into the file."""
    tags: dict[str, str] = field(default_factory=dict)
    """Metadata of the file."""

    def __post_init__(self) -> None:
        if self.dtype not in ("uint8", "uint16") or self.kind not in ("classes", "measure"):
            raise self._refused("no such layer", "uint8 or uint16 classes or measure", f"{self.dtype} {self.kind}")
        if not 0 <= self.nodata <= self.highest:
            raise self._refused("nodata is no code", f"0 to {self.highest}", str(self.nodata))
        if self.kind == "measure" and self.nodata not in (0, self.highest):
            # In between, an average of valid pixels could come out as nodata.
            raise self._refused("nodata inside the measure", f"0 or {self.highest}", str(self.nodata))
        if self.palette and self.kind == "measure":
            raise self._refused("a palette on a measure", "none", f"{len(self.palette)} colours")
        if self.nodata in self.palette:
            raise self._refused("nodata has a colour", "a code that is no class", str(self.nodata))
        for code, rgb in self.palette.items():
            if not 0 <= code <= self.highest or len(rgb) != 3 or not all(0 <= part <= 255 for part in rgb):
                raise self._refused("not a colour", "code: (red, green, blue)", f"{code}: {rgb}")

    def _refused(self, what: str, expected: str, got: str) -> InputError:
        return InputError(what, where=f"layer {self.name}", expected=expected, got=got)

    @property
    def highest(self) -> int:
        """The highest code its type can hold."""
        return int(np.iinfo(self.dtype).max)
