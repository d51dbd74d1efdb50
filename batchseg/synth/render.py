"""Pixels and labels of any window, as a pure function of seed, size and position."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from batchseg.errors import InputError
from batchseg.synth import layout, paint, roofs
from batchseg.synth.materials import LABEL_OF, UNLABELLED
from batchseg.synth.noise import F32, PixelGrid, draw, make_direction

_BLOCK_PX = 256  # small enough for the processor's cache; it does not affect pixels
_MARGIN_PX = 10  # shadows of woods reach 8 px, the blur one more
_SCALE = {"uint8": 254.0, "uint16": 9999.0}
_UNKNOWN_PERIOD_PX = 1024
_LARGEST_PX = 262_144  # beyond, positions in float32 are coarser than 1/32 pixel
_SMALLEST_CUT_PX = 32  # smaller scenes have no void corner: it could be all of them
Pixels = np.ndarray[tuple[int, ...], np.dtype[np.uint8 | np.uint16]]
Labels = np.ndarray[tuple[int, ...], np.dtype[np.uint8]]


def check_scene(size_px: int | None, bands: int, dtype: str) -> None:
    """Refuse a size, number of bands or data type that no scene can have."""
    if size_px is not None and not 1 <= size_px <= _LARGEST_PX:
        raise InputError(
            "the side of a synthetic scene is out of range",
            expected=f"1 to {_LARGEST_PX} pixels per side",
            got=str(size_px),
        )
    if bands not in (3, 4):
        raise InputError("the number of bands of a synthetic scene must be 3 or 4", expected="3 or 4", got=str(bands))
    if dtype not in _SCALE:
        raise InputError(
            "the data type of a synthetic scene must be uint8 or uint16", expected="uint8 or uint16", got=str(dtype)
        )


def render(
    seed: int, size_px: int | None, rows: slice, cols: slice, bands: int = 3, dtype: str = "uint8"
) -> tuple[Pixels, Labels]:
    """Render a window of the scene (seed, size_px).

    Args:
        seed: Seed of the scene.
        size_px: Side of the scene; only the corner without data depends on it. None means endless ground without
            such a corner.
        rows: Pixel rows, with start and stop (a slice or a Span); they may lie outside the scene.
        cols: Pixel columns.
        bands: 3 (red, green, blue) or 4 (with near-infrared).
        dtype: uint8 (1 to 255) or uint16 (1 to 10000); 0 is nodata.

    Returns:
        Pixels as (band, row, column) and labels as (row, column), 255 where unlabelled.
    """
    check_scene(size_px, bands, dtype)
    height, width = rows.stop - rows.start, cols.stop - cols.start
    pixels_BHW = np.empty((bands, height, width), dtype)
    labels_HW = np.empty((height, width), np.uint8)
    for r0 in range(rows.start, rows.stop, _BLOCK_PX):
        for c0 in range(cols.start, cols.stop, _BLOCK_PX):
            r1, c1 = min(r0 + _BLOCK_PX, rows.stop), min(c0 + _BLOCK_PX, cols.stop)
            at = slice(r0 - rows.start, r1 - rows.start), slice(c0 - cols.start, c1 - cols.start)
            values, labels = _render_block(seed, (r0, r1), (c0, c1), bands)
            grid = PixelGrid(seed=seed, rows=(r0, r1), cols=(c0, c1))
            for band, value in enumerate(values):
                pixels_BHW[band][at] = quantise(value, dtype)
            _remove_labels(grid, labels)
            void = _find_void(grid, size_px)
            labels[void] = UNLABELLED
            labels_HW[at] = labels
            pixels_BHW[:, at[0], at[1]][:, void] = 0
    return pixels_BHW, labels_HW


def quantise(value: F32, dtype: str) -> Pixels:
    """Convert reflectance in [0, 1] to stored numbers; never 0, which is nodata."""
    scaled = np.clip(value, np.float32(0.0), np.float32(1.0)) * np.float32(_SCALE[dtype])
    scaled += np.float32(1.5)
    return scaled.astype(dtype)


def _render_block(seed: int, rows: tuple[int, int], cols: tuple[int, int], bands: int) -> tuple[list[F32], Labels]:
    grid = PixelGrid(
        seed=seed,
        rows=(rows[0] - _MARGIN_PX, rows[1] + _MARGIN_PX),
        cols=(cols[0] - _MARGIN_PX, cols[1] + _MARGIN_PX),
    )
    s = paint.make_season(seed)
    ground = layout.lay_ground(grid)
    colours = paint.compute_colours(ground, paint.compute_light(grid, ground, s), s, bands)
    roofs.draw_buildings(grid, ground.material, colours, s)
    cut = slice(_MARGIN_PX, -_MARGIN_PX)
    ring = slice(_MARGIN_PX - 1, -_MARGIN_PX + 1)
    noise = paint.make_sensor_noise(PixelGrid(seed=seed, rows=rows, cols=cols), bands)
    values = [paint.soften(value[ring, ring]) + n for value, n in zip(colours, noise, strict=True)]
    return values, np.take(LABEL_OF, ground.material[cut, cut])


@dataclass(frozen=True, slots=True, kw_only=True)
class _Cut:
    """The slanted corner without data: pixels with y * down + x * right < 1, after mirroring."""

    mirror_y: bool
    mirror_x: bool
    down: float
    right: float


def _draw_corner(seed: int, size_px: int) -> _Cut:
    legs = [size_px * (0.14 + 0.2 * draw(seed, "void", k)) for k in range(2)]
    corner = int(4.0 * draw(seed, "void", 2))
    return _Cut(mirror_y=corner in (2, 3), mirror_x=corner in (1, 3), down=1.0 / legs[0], right=1.0 / legs[1])


def _find_void(grid: PixelGrid, size_px: int | None) -> np.ndarray:
    if size_px is None or size_px < _SMALLEST_CUT_PX:
        return np.zeros(grid.shape, bool)
    cut = _draw_corner(grid.seed, size_px)
    y = np.float32(size_px - 1) - grid.y if cut.mirror_y else grid.y
    x = np.float32(size_px - 1) - grid.x if cut.mirror_x else grid.x
    inside = y * np.float32(cut.down) + x * np.float32(cut.right)
    if inside.min() > 1.2:
        return np.zeros(grid.shape, bool)
    ragged = np.clip(grid.make_noise("void/edge", 64), np.float32(-3.0), np.float32(3.0)) * np.float32(0.02)
    return np.asarray(inside + ragged < np.float32(1.0))


def _remove_labels(grid: PixelGrid, labels: Labels) -> None:
    """Leave a little ground unlabelled, in rotated rectangles."""
    for iy, ix in grid.bounds.list_cells(_UNKNOWN_PERIOD_PX, 200.0):
        at = [draw(grid.seed, "unknown", iy, ix, k) for k in range(6)]
        if at[0] >= 0.35:
            continue
        y, x = (iy + at[1]) * _UNKNOWN_PERIOD_PX, (ix + at[2]) * _UNKNOWN_PERIOD_PX
        cos, sin = make_direction(at[3])
        dy, dx = grid.y - np.float32(y), grid.x - np.float32(x)
        u = np.abs(dx * np.float32(cos) + dy * np.float32(sin))
        v = np.abs(dy * np.float32(cos) - dx * np.float32(sin))
        labels[(u < np.float32(40.0 + 80.0 * at[4])) & (v < np.float32(30.0 + 60.0 * at[5]))] = UNLABELLED
