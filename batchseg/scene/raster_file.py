"""A raster file as far as its header describes it: what can be read of it, and how it is stored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from batchseg.scene.identity import FileIdentity, FilePart


@dataclass(frozen=True, slots=True, kw_only=True)
class Band:
    index: int
    """Number of the band, counted from 1 as GDAL does."""
    name: str | None
    """Description of the band in the file."""
    common: str | None
    """Common name (red, green, blue, nir, alpha, ...): from the description, else from the colour interpretation."""
    dtype: str
    nodata: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskFacts:
    """Ways in which the file itself marks invalid pixels; the nodata policy decides which one counts."""

    alpha: int | None
    """Number of the band that is called alpha and is not near-infrared."""
    alpha_shades: float
    """Share of sampled alpha values between the two ends: next to none in a mask, nearly all in a picture."""
    per_dataset: bool
    """True if one mask covers all bands, inside the file or in a .msk file beside it."""
    per_band: bool
    """True if each band has its own mask."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RasterFile:
    """One file that pixels are read from. It says nothing about the ground that the pixels show."""

    url: str
    shape_px: tuple[int, int]
    """Rows and columns of the file."""
    bands: tuple[Band, ...]
    dtype: str
    """Data type that all bands are read as."""
    masks: MaskFacts
    driver: str
    block_px: tuple[int, int]
    """Rows and columns of one stored block."""
    layout: Literal["tiled", "striped"]
    interleave: Literal["pixel", "band"]
    compression: str | None
    palette: bool
    identity: FileIdentity
    files: tuple[str, ...]
    """All files that GDAL reads for it: the file itself, sidecars, parts of a VRT."""
    parts: tuple[FilePart, ...] = ()
    """Other files that hold pixels of the raster, such as a mask, or the sources of a VRT and theirs."""

    @property
    def nodata(self) -> float | None:
        """The nodata value of the file; None when there is none, or when the bands differ."""
        values = {repr(band.nodata): band.nodata for band in self.bands}
        return next(iter(values.values())) if len(values) == 1 else None

    def describe_bands(self) -> str:
        """List the bands for a message: `1 red, 2 green, 3 "B8" (nir), 4 without a name`."""
        return ", ".join(_describe(band) for band in self.bands)


def _describe(band: Band) -> str:
    if band.name is None:
        return f"{band.index} {band.common or 'without a name'}"
    return f'{band.index} "{band.name}"' + (f" ({band.common})" if band.common else "")
