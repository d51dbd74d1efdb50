"""From layout to reflectance: colours, texture, trees, roofs, shadows, the blur of the lens and sensor noise."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from batchseg.synth import materials
from batchseg.synth.layout import GroundLayout
from batchseg.synth.materials import ID
from batchseg.synth.noise import F32, I64, PixelGrid, draw, hash_nodes, make_direction, make_layer_key, to_unit

_CROWN_PX = 11
_WARM = (1.0, 0.15, -0.9, 0.1)  # tint of red, green, blue, near-infrared per unit of warmth
_VEGETATION = ("forest", "cereal", "meadow", "orchard", "nursery", "hedge", "margin", "garden")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Season:
    """The light and the time of year of one scene."""

    sun: tuple[float, float]  # towards the sun: y, x
    shadow_px: float  # length of a shadow per pixel of height
    base: F32  # [band, material]


@lru_cache(maxsize=64)
def make_season(seed: int) -> Season:
    """The season of a scene. It stays near the mean, so that all seeds belong to one distribution."""

    def at(k: int) -> float:
        return draw(seed, "season", k)

    cos, sin = make_direction(at(0) * 0.5)  # the sun stands in the south half: y grows southwards
    base = materials.RGBN_OF.T.copy()
    for band in range(4):
        base[band] *= np.float32((0.93 + 0.14 * at(1)) * (0.96 + 0.08 * at(2 + band)))
    dry = np.float32(at(7) - 0.5)
    for name in _VEGETATION:
        base[0, ID[name]] *= np.float32(1.0) + np.float32(0.22) * dry
        base[3, ID[name]] *= np.float32(1.0) - np.float32(0.16) * dry
    return Season(sun=(sin, cos), shadow_px=0.8 + 0.5 * at(8), base=base)


@dataclass(slots=True, kw_only=True)
class Crowns:
    height: F32  # 0 between trees, up to 1
    lit: F32  # [-1, 1], from the shaded to the sunny side
    word: F32  # [0, 1), one number per tree


def make_crowns(grid: PixelGrid, sun: tuple[float, float]) -> Crowns:
    """Tree crowns: domes on a jittered lattice. A dome that covers a pixel belongs to one of four nodes."""
    period = np.float32(_CROWN_PX)
    ty = grid.y[:, 0] / period - np.float32(0.5)
    tx = grid.x[0] / period - np.float32(0.5)
    iy, ix = np.floor(ty).astype(np.int64), np.floor(tx).astype(np.int64)
    node_y, node_x = np.arange(iy[0], iy[-1] + 2), np.arange(ix[0], ix[-1] + 2)
    key = make_layer_key(grid.seed, "crown")
    word = hash_nodes(key, node_y[:, None], node_x[None, :])
    byte = [((word >> np.uint32(8 * k)) & np.uint32(255)).astype(np.float32) / np.float32(256.0) for k in range(4)]
    y = (node_y[:, None].astype(np.float32) + np.float32(0.25) + np.float32(0.5) * byte[0]) * period
    x = (node_x[None, :].astype(np.float32) + np.float32(0.25) + np.float32(0.5) * byte[1]) * period
    inverse = np.float32(1.0) / ((np.float32(0.5) + np.float32(0.25) * byte[2]) * period)
    height = np.zeros(grid.shape, np.float32)
    lit = np.zeros(grid.shape, np.float32)
    tree = np.zeros(grid.shape, np.float32)
    for j in (0, 1):
        for k in (0, 1):
            rows, cols = iy + (j - iy[0]), ix + (k - ix[0])
            inv = _spread(inverse, rows, cols)
            dy, dx = grid.y - _spread(y, rows, cols), grid.x - _spread(x, rows, cols)
            dy *= inv
            dx *= inv
            dome = np.float32(1.0) - dy * dy
            dome -= dx * dx
            tall = _spread(byte[3], rows, cols)
            dome *= np.float32(0.6) + np.float32(0.4) * tall
            higher = dome > height
            np.copyto(height, dome, where=higher)
            dy *= np.float32(sun[0])
            dx *= np.float32(sun[1])
            dy += dx
            np.copyto(lit, dy, where=higher)
            np.copyto(tree, tall, where=higher)
    return Crowns(height=height, lit=lit, word=tree)


def _spread(nodes: F32, rows: I64, cols: I64) -> F32:
    """Spread lattice values over the pixels; one axis at a time is ten times faster than both at once."""
    return np.take(np.take(nodes, cols, axis=1), rows, axis=0)


def compute_light(grid: PixelGrid, ground: GroundLayout, s: Season) -> F32:
    """Brightness of every pixel relative to its material: textures, trees and the shadows of woods."""
    m = ground.material
    fine = grid.make_grain("grain/2", 2) + np.float32(0.8) * grid.make_grain("grain/5", 5)
    coarse = np.float32(0.6) * grid.make_noise("mottle/16", 16) + np.float32(0.6) * grid.make_noise("mottle/64", 64)
    fine *= np.take(materials.get_column("grain"), m)
    coarse *= np.take(materials.get_column("mottle"), m)
    out = fine
    out += coarse
    out += ground.rows * np.take(materials.get_column("rows"), m)
    out += ground.tone * np.take(materials.get_column("tone"), m)
    out += np.float32(1.0)
    _draw_terraces(ground, out)
    _draw_trees(grid, ground, s, out)
    out += (np.float32(1.0) - ground.shore) * (m == ID["water"]) * np.float32(0.45)
    return out


def _draw_terraces(ground: GroundLayout, out: F32) -> None:
    """Draw contour steps in some pits."""
    stepped = (ground.material == ID["bare"]) & (ground.tone > 0.35)
    if not stepped.any():
        return
    t = ground.strata * np.float32(1.0 / 17.0)
    t -= np.floor(t)
    out -= np.where(stepped & (t < np.float32(0.22)), np.float32(0.16), np.float32(0.0))


def _draw_trees(grid: PixelGrid, ground: GroundLayout, s: Season, out: F32) -> None:
    m = ground.material
    wood = (m == ID["forest"]) | (m == ID["hedge"]) | (m == ID["nursery"])
    garden = m == ID["garden"]
    orchard = (m == ID["orchard"]) & (ground.orchard > 0.0)
    if wood.any() or garden.any():
        c = make_crowns(grid, s.sun)
        shade = np.float32(0.50) + np.float32(0.52) * c.height
        shade += np.float32(0.26) * c.lit
        shade += np.float32(0.40) * (c.word - np.float32(0.5))
        np.copyto(out, out * shade, where=wood)
        single = garden & (c.word > np.float32(0.86)) & (c.height > np.float32(0.12))
        np.copyto(out, shade * np.float32(0.62), where=single)
    np.copyto(out, np.float32(0.42) + np.float32(0.28) * ground.orchard, where=orchard)
    _draw_wood_shadow(wood, s, out)


def _draw_wood_shadow(wood: np.ndarray, s: Season, out: F32) -> None:
    """Darken the ground beyond the edge of a wood: its mask, moved away from the sun within the margin."""
    dark = np.zeros_like(wood)
    for step in (3.0, 6.0):
        move_y = round(-s.sun[0] * step * s.shadow_px)
        move_x = round(-s.sun[1] * step * s.shadow_px)
        moved = np.roll(
            wood, (move_y, move_x), axis=(0, 1)
        )  # pixels that wrap around lie in the margin, which is cut off later
        dark |= moved
    dark &= ~wood
    np.copyto(out, out * np.float32(0.58), where=dark)


def compute_colours(ground: GroundLayout, brightness: F32, s: Season, bands: int) -> list[F32]:
    """Reflectance of each band before roofs."""
    tint = ground.warmth * np.take(materials.get_column("warmth"), ground.material)
    index = ground.material.astype(np.intp)
    out = []
    for band in range(bands):
        value = np.take(s.base[band], index)
        value *= brightness
        value *= np.float32(1.0) + np.float32(_WARM[band]) * tint
        out.append(value)
    line = (ground.material == ID["highway"]) & (ground.highway_px < np.float32(1.0))
    for value in out:
        np.copyto(value, np.float32(0.82), where=line)
    return out


def soften(value: F32) -> F32:
    """Apply a binomial 3x3 blur; the outermost pixels are lost."""
    rows = value[:-2] + value[2:]
    rows += value[1:-1]
    rows += value[1:-1]
    out = rows[:, :-2] + rows[:, 2:]
    out += rows[:, 1:-1]
    out += rows[:, 1:-1]
    out *= np.float32(1.0 / 16.0)
    return out


def make_sensor_noise(grid: PixelGrid, bands: int) -> list[F32]:
    """White noise per band, most of which the bands share."""
    word = grid.make_words("sensor")
    shared = to_unit(word) - np.float32(0.5)
    out = []
    for band in range(bands):
        own = ((word >> np.uint32(5 * band)) & np.uint32(31)).astype(np.float32) * np.float32(1.0 / 31.0)
        own -= np.float32(0.5)
        own *= np.float32(0.022)
        own += shared * np.float32(0.03)
        out.append(own)
    return out
