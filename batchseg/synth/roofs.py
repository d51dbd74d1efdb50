"""Drawing buildings: first every shadow, then every roof."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from batchseg.synth import houses, town
from batchseg.synth.materials import ID
from batchseg.synth.noise import F32, PixelGrid, rehash, to_unit
from batchseg.synth.paint import Season

_SHADE = np.float32(0.52)
_GABLE = np.array(
    [
        (0.63, 0.36, 0.28, 0.46),
        (0.70, 0.44, 0.32, 0.50),
        (0.50, 0.33, 0.27, 0.40),
        (0.36, 0.34, 0.34, 0.34),
        (0.57, 0.55, 0.53, 0.48),
        (0.44, 0.28, 0.22, 0.36),
    ],
    np.float32,
)
_FLAT = np.array(
    [
        (0.61, 0.60, 0.57, 0.52),  # concrete, as the yards
        (0.56, 0.48, 0.38, 0.62),  # gravel, as open ground
        (0.78, 0.78, 0.77, 0.66),
        (0.17, 0.21, 0.23, 0.10),  # bitumen, near dark water
        (0.46, 0.46, 0.47, 0.41),  # as asphalt
        (0.42, 0.50, 0.58, 0.44),
    ],
    np.float32,
)


@dataclass(slots=True, kw_only=True)
class _Patch:
    """The part of the window around one building, in the building's own axes."""

    at: tuple[slice, slice]
    u: F32
    v: F32


def find_buildings(grid: PixelGrid) -> tuple[F32, np.ndarray]:
    """Find the buildings that may touch the window, as rows and words, in the same order for all windows."""
    box, tables, words = grid.bounds, [], []
    for t in town.find_towns(grid.seed, grid.bounds):
        buildings = houses.place_houses(grid.seed, *t.node)
        y, x, reach = buildings.table[:, 0], buildings.table[:, 1], buildings.reach_px
        near = (y > box.y0 - reach) & (y < box.y1 + reach) & (x > box.x0 - reach) & (x < box.x1 + reach)
        tables.append(buildings.table[near])
        words.append(buildings.word[near])
    if not tables:
        return np.zeros((0, 8), np.float32), np.zeros(0, np.uint32)
    return np.concatenate(tables), np.concatenate(words)


def _cut_patch(grid: PixelGrid, house: F32, reach: float) -> _Patch | None:
    y, x, cos, sin = (np.float32(v) for v in house[:4])
    r0, r1 = max(int(y - reach), grid.rows[0]), min(int(y + reach) + 2, grid.rows[1])
    c0, c1 = max(int(x - reach), grid.cols[0]), min(int(x + reach) + 2, grid.cols[1])
    if r0 >= r1 or c0 >= c1:
        return None
    at = slice(r0 - grid.rows[0], r1 - grid.rows[0]), slice(c0 - grid.cols[0], c1 - grid.cols[0])
    dy, dx = grid.y[at[0]] - y, grid.x[:, at[1]] - x
    return _Patch(at=at, u=dx * cos + dy * sin, v=dy * cos - dx * sin)


def draw_buildings(grid: PixelGrid, material: np.ndarray, colours: list[F32], s: Season) -> None:
    """Draw all buildings of the window into the material map and the colours."""
    table, words = find_buildings(grid)
    shaded = np.zeros(grid.shape, bool)
    for house in table:
        _draw_shadow(grid, house, s, shaded)
    if shaded.any():
        for value in colours:
            np.copyto(value, value * _SHADE, where=shaded)
    for k, house in enumerate(table):
        _draw_roof(grid, house, words[k : k + 1], material, colours, s)


def _draw_shadow(grid: PixelGrid, house: F32, s: Season, shaded: np.ndarray) -> None:
    """Mark the shadow: every place from which a move of at most the shadow's length leads under the roof."""
    cos, sin, half_l, half_w, height = (float(v) for v in house[2:7])
    length = height * s.shadow_px
    p = _cut_patch(grid, house, half_l + half_w + length)
    if p is None:
        return
    sy, sx = -s.sun[0] * length, -s.sun[1] * length
    enter = np.zeros(p.u.shape, np.float32)
    leave = np.ones(p.u.shape, np.float32)
    for at, half, step in ((p.u, half_l, sx * cos + sy * sin), (p.v, half_w, sy * cos - sx * sin)):
        safe = step if abs(step) > 1e-3 else 1e-3
        inverse, reach = np.float32(1.0 / safe), np.float32(half / abs(safe))
        middle = at * inverse
        np.maximum(enter, middle - reach, out=enter)
        np.minimum(leave, middle + reach, out=leave)
    shaded[p.at] |= enter <= leave


def _draw_roof(
    grid: PixelGrid, house: F32, word: np.ndarray, material: np.ndarray, colours: list[F32], s: Season
) -> None:
    cos, sin, half_l, half_w = (float(v) for v in house[2:6])
    p = _cut_patch(grid, house, half_l + half_w)
    if p is None:
        return
    au, av = np.abs(p.u), np.abs(p.v)
    roof = (au <= np.float32(half_l)) & (av <= np.float32(half_w))
    if not roof.any():
        return
    flat = house[7] > 0.5
    pick, tint = (float(to_unit(rehash(word.copy(), 40 + k))[0]) for k in range(2))
    palette = _FLAT if flat else _GABLE
    base = palette[int(pick * len(palette))] * np.float32(0.82 + 0.36 * tint)
    shade = _shade_flat(p, au, av, house, word) if flat else _shade_gable(p, half_l, half_w, (cos, sin), s)
    material[p.at][roof] = ID["building"]
    texture = shade[roof]
    for band, value in enumerate(colours):
        value[p.at][roof] = base[band] * texture


def _shade_gable(p: _Patch, half_l: float, half_w: float, axis: tuple[float, float], s: Season) -> F32:
    cos, sin = axis
    if half_l >= half_w:
        at, facing = p.v, s.sun[0] * cos - s.sun[1] * sin
    else:
        at, facing = p.u, s.sun[1] * cos + s.sun[0] * sin
    slope = np.float32(0.28 * facing)
    return np.where(at > 0, np.float32(1.0) + slope, np.float32(1.0) - slope).astype(np.float32)


def _shade_flat(p: _Patch, au: F32, av: F32, house: F32, word: np.ndarray) -> F32:
    """Flat roofs: a light parapet, and seams or rooflights on some."""
    half_l, half_w = np.float32(house[4]), np.float32(house[5])
    shade = np.ones(p.u.shape, np.float32)
    shade += np.float32(0.14) * ((au > half_l - np.float32(1.6)) | (av > half_w - np.float32(1.6)))
    if int(word[0]) >> 20 & 3 == 0 and half_l > 25:
        t = p.u * np.float32(1.0 / 19.0)
        t -= np.floor(t)
        shade += np.float32(0.16) * ((t < np.float32(0.16)) & (av < half_w * np.float32(0.7)))
    return shade
