"""Hashed lattices: every random number of a synthetic scene is a function of seed and position.

Theory of operation. A scene has no random state. A number belongs to a *layer* (a name) and a lattice node
(integers), and is the integer hash of seed, layer and node. Noise between nodes is interpolated, so a pixel
depends on a few nodes around it and on nothing else: any window, cut in any way, has the same bytes.

For that to hold to the last bit, only arithmetic that IEEE 754 rounds exactly is used on pixels (+, -, *, /,
sqrt, floor, comparisons) and no reduction, matrix product or trigonometry, whose last bits may depend on the
array's length, the library or the processor. Directions come from a rational parametrisation of the circle.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
U32 = NDArray[np.uint32]
I64 = NDArray[np.int64]

_MASK = 0xFFFFFFFF
_X_PRIME = 0x9E3779B1
_Y_PRIME = 0x85EBCA77
_UNIT_STD = 3.6  # a cubic B-spline over uniform [-1, 1] nodes has a standard deviation of 1 / 3.6


def mix(h: U32) -> U32:
    """Scramble 32-bit words in place (two rounds of multiply and shift) and return them."""
    h ^= h >> np.uint32(16)
    h *= np.uint32(0x7FEB352D)
    h ^= h >> np.uint32(15)
    h *= np.uint32(0x846CA68B)
    h ^= h >> np.uint32(16)
    return h


def _mix_int(h: int) -> int:
    h = ((h ^ (h >> 16)) * 0x7FEB352D) & _MASK
    h = ((h ^ (h >> 15)) * 0x846CA68B) & _MASK
    return h ^ (h >> 16)


@lru_cache(maxsize=4096)
def make_layer_key(seed: int, layer: str) -> int:
    """The 32-bit key of one layer of one scene."""
    low, high = seed & _MASK, (seed >> 32) & _MASK
    return _mix_int(_mix_int(_mix_int(low + 0x9E37) ^ high) ^ zlib.crc32(layer.encode()))


def hash_nodes(key: int, iy: I64, ix: I64) -> U32:
    """Hash lattice nodes; the two index arrays broadcast against each other."""
    hx = mix(ix.astype(np.uint32) * np.uint32(_X_PRIME) + np.uint32(key))
    hy = mix(iy.astype(np.uint32) * np.uint32(_Y_PRIME) ^ np.uint32(key))
    return mix(hx + hy)


def rehash(h: U32, nth: int) -> U32:
    """The nth further word drawn from hashed words."""
    return mix(h ^ np.uint32((nth * _X_PRIME) & _MASK))


def to_unit(h: U32) -> F32:
    """Words as numbers in [0, 1)."""
    return (h >> np.uint32(8)).astype(np.float32) * np.float32(2.0**-24)


def draw(seed: int, layer: str, *node: int) -> float:
    """One number in [0, 1) for a layer and a node, without arrays."""
    h = make_layer_key(seed, layer)
    for part in node:
        h = _mix_int((h + (part & _MASK) * _X_PRIME) & _MASK)
    return h / 2.0**32


def make_direction(turn: float) -> tuple[float, float]:
    """A unit vector (cos, sin) for turn in [0, 1), by the rational form of the circle: exact arithmetic only."""
    quarter = int(turn * 4.0)
    t = turn * 4.0 - quarter
    t *= 0.657 + 0.343 * t  # near tan(pi / 4 * t), so that directions are nearly even
    c, s = (1.0 - t * t) / (1.0 + t * t), 2.0 * t / (1.0 + t * t)
    return ((c, s), (-s, c), (-c, -s), (s, -c))[quarter]


@dataclass(frozen=True, slots=True)
class Bounds:
    """A half-open box of ground in pixels. Layers use it to leave out objects that cannot touch it."""

    y0: float
    y1: float
    x0: float
    x1: float

    def list_cells(self, period_px: int, reach_px: float) -> list[tuple[int, int]]:
        """Lattice cells (iy, ix) whose content may reach the box."""
        rows = range(int((self.y0 - reach_px) // period_px), int((self.y1 + reach_px) // period_px) + 1)
        cols = range(int((self.x0 - reach_px) // period_px), int((self.x1 + reach_px) // period_px) + 1)
        return [(iy, ix) for iy in rows for ix in cols]

    def touches(self, y: float, x: float, reach_px: float) -> bool:
        """Test if a disc may touch the box."""
        return self.y0 - reach_px <= y <= self.y1 + reach_px and self.x0 - reach_px <= x <= self.x1 + reach_px


class Places(Protocol):
    """Places on the ground: a grid of pixels or a list of points. `y` and `x` broadcast to `shape`."""

    @property
    def seed(self) -> int: ...
    @property
    def y(self) -> F32: ...
    @property
    def x(self) -> F32: ...
    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def bounds(self) -> Bounds: ...
    def make_noise(self, layer: str, period_px: int) -> F32:
        """Smooth noise with mean 0 and standard deviation 1."""
        ...


def _compute_taps(at: F32, period_px: int) -> tuple[I64, list[F32]]:
    t = at * np.float32(1.0 / period_px)
    low = np.floor(t)
    f = t - low
    g = np.float32(1.0) - f
    sixth = np.float32(1.0 / 6.0)
    w0, w3 = g * g * g * sixth, f * f * f * sixth
    w1 = (np.float32(4.0) + np.float32(3.0) * f * f * (f - np.float32(2.0))) * sixth
    w2 = np.float32(1.0) - w0 - w1 - w3
    return low.astype(np.int64) - 1, [w0, w1, w2, w3]


def _draw_nodes(key: int, iy: I64, ix: I64) -> F32:
    return (to_unit(hash_nodes(key, iy, ix)) - np.float32(0.5)) * np.float32(2.0 * _UNIT_STD)


@dataclass(frozen=True, kw_only=True)
class PixelGrid:
    """The pixels of a window; noise over it is interpolated one axis at a time."""

    seed: int
    rows: tuple[int, int]
    cols: tuple[int, int]

    @cached_property
    def y(self) -> F32:
        y: F32 = np.arange(*self.rows, dtype=np.float32)[:, None]
        return y

    @cached_property
    def x(self) -> F32:
        x: F32 = np.arange(*self.cols, dtype=np.float32)[None, :]
        return x

    @property
    def shape(self) -> tuple[int, ...]:
        return self.rows[1] - self.rows[0], self.cols[1] - self.cols[0]

    @cached_property
    def bounds(self) -> Bounds:
        return Bounds(*self.rows, *self.cols)

    def make_noise(self, layer: str, period_px: int) -> F32:
        iy, wy = _compute_taps(self.y[:, 0], period_px)
        ix, wx = _compute_taps(self.x[0], period_px)
        node_y, node_x = np.arange(iy[0], iy[-1] + 4), np.arange(ix[0], ix[-1] + 4)
        nodes = _draw_nodes(make_layer_key(self.seed, layer), node_y[:, None], node_x[None, :])
        iy, ix = iy - iy[0], ix - ix[0]
        along_x = nodes[:, ix] * wx[0]
        for k in (1, 2, 3):
            along_x += nodes[:, ix + k] * wx[k]
        out: F32 = np.take(along_x, iy, axis=0)
        out *= wy[0][:, None]
        row = np.empty_like(out)
        for k in (1, 2, 3):
            np.take(along_x, iy + k, axis=0, out=row, mode="clip")  # "clip" needs no buffer
            row *= wy[k][:, None]
            out += row
        return out

    def crop_around(self, y: float, x: float, reach_px: float) -> PixelGrid:
        """The part of this window that is within reach of a place, along each axis."""
        r0, r1 = max(self.rows[0], int(y - reach_px)), min(self.rows[1], int(y + reach_px) + 2)
        c0, c1 = max(self.cols[0], int(x - reach_px)), min(self.cols[1], int(x + reach_px) + 2)
        return PixelGrid(seed=self.seed, rows=(r0, max(r0 + 1, r1)), cols=(c0, max(c0 + 1, c1)))

    def within(self, outer: PixelGrid) -> tuple[slice, slice]:
        """Locate this window in an array of the outer one."""
        r, c = outer.rows[0], outer.cols[0]
        return slice(self.rows[0] - r, self.rows[1] - r), slice(self.cols[0] - c, self.cols[1] - c)

    def make_grain(self, layer: str, period_px: int) -> F32:
        """Rough noise in [-1, 1] for texture, linear between nodes."""
        ty, tx = self.y[:, 0] * np.float32(1.0 / period_px), self.x[0] * np.float32(1.0 / period_px)
        iy, ix = np.floor(ty).astype(np.int64), np.floor(tx).astype(np.int64)
        fy, fx = (ty - np.floor(ty))[:, None], tx - np.floor(tx)
        node_y, node_x = np.arange(iy[0], iy[-1] + 2), np.arange(ix[0], ix[-1] + 2)
        nodes = _draw_nodes(make_layer_key(self.seed, layer), node_y[:, None], node_x[None, :])
        nodes *= np.float32(1.0 / _UNIT_STD)
        iy, ix = iy - iy[0], ix - ix[0]
        left = nodes[:, ix]
        along_x = left + (nodes[:, ix + 1] - left) * fx
        out: F32 = np.take(along_x, iy, axis=0)
        above: F32 = np.take(along_x, iy + 1, axis=0)
        above -= out
        above *= fy
        out += above
        return out

    def make_words(self, layer: str) -> U32:
        """One hashed word per pixel."""
        key = make_layer_key(self.seed, layer)
        return hash_nodes(
            key, np.arange(*self.rows, dtype=np.int64)[:, None], np.arange(*self.cols, dtype=np.int64)[None, :]
        )


@dataclass(frozen=True, kw_only=True)
class Points:
    """Single places, to query a layer about an object before it is drawn."""

    seed: int
    y: F32
    x: F32

    @property
    def shape(self) -> tuple[int, ...]:
        return self.y.shape

    @cached_property
    def bounds(self) -> Bounds:
        if not self.y.size:
            return Bounds(0.0, 0.0, 0.0, 0.0)
        return Bounds(float(self.y.min()), float(self.y.max()), float(self.x.min()), float(self.x.max()))

    def make_noise(self, layer: str, period_px: int) -> F32:
        iy, wy = _compute_taps(self.y, period_px)
        ix, wx = _compute_taps(self.x, period_px)
        steps = np.arange(4)
        nodes = _draw_nodes(
            make_layer_key(self.seed, layer), (iy[:, None] + steps)[:, :, None], (ix[:, None] + steps)[:, None, :]
        )
        out = np.zeros(self.shape, np.float32)
        for j in range(4):
            for k in range(4):
                out += nodes[:, j, k] * wy[j] * wx[k]
        return out
