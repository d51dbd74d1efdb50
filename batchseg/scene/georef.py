"""The grid of a raster: its size, and every way in which a GeoTIFF can place it on the ground.

A scene may have a transform, ground control points, a sensor model (RPCs), several of these or none. This module does
not interpret them: they are carried from the header of the scene to the headers of the outputs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from batchseg.errors import SceneError
from tiling.span import Window

IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Georef:
    """Size and place of a grid of pixels."""

    width_px: int
    """Number of columns of the grid."""
    height_px: int
    """Number of rows of the grid."""
    crs_wkt: str | None
    """Coordinate system of `transform`; None when the raster names none."""
    transform: tuple[float, float, float, float, float, float] | None
    """Affine transform (a, b, c, d, e, f): x = a col + b row + c, y = d col + e row + f, of pixel corners.
    None when there is none; the identity means the same and becomes None."""
    gcps: tuple[tuple[float, float, float, float, float], ...] = ()
    """Ground control points as (row, col, x, y, z); a raster has these or a transform, not both."""
    gcps_crs_wkt: str | None = None
    """Coordinate system of the ground control points."""
    rpcs: dict[str, str] | None = None
    """Sensor model under GDAL's names (LINE_OFF, SAMP_NUM_COEFF, ...)."""

    def __post_init__(self) -> None:
        if self.width_px < 1 or self.height_px < 1:
            raise SceneError(
                "a raster must have pixels", expected="1 x 1 or more", got=f"{self.width_px} x {self.height_px}"
            )
        if self.transform == IDENTITY:
            object.__setattr__(self, "transform", None)
        if self.transform is not None and not all(math.isfinite(number) for number in self.transform):
            raise SceneError("a transform must be finite", expected="six finite numbers", got=str(self.transform))
        if self.transform is not None and self.gcps:
            raise SceneError(
                "a raster must have a transform or ground control points, not both",
                expected="one of them (a GeoTIFF holds one)",
                got=f"{self.transform} and {len(self.gcps)} points",
            )

    @property
    def shape_px(self) -> tuple[int, int]:
        return self.height_px, self.width_px

    def part(self, window: Window) -> Georef:
        """Return the grid of a window of this grid."""
        row, col = window.rows.start, window.cols.start
        transform = self.transform
        if transform is not None:
            a, b, c, d, e, f = transform
            transform = (a, b, a * col + b * row + c, d, e, d * col + e * row + f)
        return replace(
            self,
            height_px=len(window.rows),
            width_px=len(window.cols),
            transform=transform,
            gcps=tuple((r - row, c - col, x, y, z) for r, c, x, y, z in self.gcps),
            rpcs=None if self.rpcs is None else _shift_rpcs(self.rpcs, row, col),
        )


def _shift_rpcs(rpcs: dict[str, str], row: int, col: int) -> dict[str, str]:
    offsets = {"LINE_OFF": row, "SAMP_OFF": col}
    return rpcs | {key: repr(float(rpcs[key]) - offset) for key, offset in offsets.items() if offset and key in rpcs}
