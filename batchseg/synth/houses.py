"""The buildings of a town: their places, sizes and types.

Buildings are objects, not a field. All buildings of a town are placed once and cached: in rows along the long streets,
or as halls inside industrial blocks. Those that would stand on water or on a highway are left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from batchseg.synth import highway, terrain, town
from batchseg.synth.noise import F32, U32, Points, hash_nodes, make_layer_key, rehash, to_unit
from batchseg.synth.town import DENSE, INDUSTRY, OUTSIDE, SUBURB, Town

_MOST_LOTS = 8  # along one side of a block
_COLUMNS = ("y", "x", "cos", "sin", "half_l", "half_w", "height_px", "flat")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Houses:
    """One row per building: centre, direction of its long side, half sides, height that casts the shadow, roof type."""

    table: F32  # [building, _COLUMNS]
    word: U32

    @property
    def reach_px(self) -> F32:
        """Distance from its centre that a building or its shadow may reach."""
        return self.table[:, 4] + self.table[:, 5] + np.float32(2.0) * self.table[:, 6] + np.float32(2.0)


@dataclass(slots=True, kw_only=True)
class _Lots:
    """Candidate buildings in street coordinates."""

    u: F32
    v: F32
    half_l: F32
    half_w: F32
    height_px: F32
    flat: F32
    word: U32

    def keep(self, mask: np.ndarray) -> _Lots:
        return _Lots(
            u=self.u[mask],
            v=self.v[mask],
            half_l=self.half_l[mask],
            half_w=self.half_w[mask],
            height_px=self.height_px[mask],
            flat=self.flat[mask],
            word=self.word[mask],
        )


def _draw_numbers(word: U32, n: int) -> list[F32]:
    return [to_unit(rehash(word.copy(), k + 1)) for k in range(n)]


def _place_row_houses(seed: int, t: Town) -> _Lots:
    """Place houses in two rows per strip, with their fronts to the long streets."""
    blocks = np.argwhere(t.zone[:-1, :-1] != OUTSIDE)
    block, side, slot = (
        a.ravel()
        for a in np.indices((len(blocks), 2, _MOST_LOTS))  # every side of every block
    )
    column, row = blocks[block, 0], blocks[block, 1]
    key = make_layer_key(seed, f"houses/{t.node[0]}/{t.node[1]}")
    word = hash_nodes(key, column * 64 + slot, row * 2 + side)
    a, b, c, d, e, f = _draw_numbers(word, 6)
    zone = t.zone[column, row]
    dense = zone == DENSE
    left, right = t.line_u[column] + t.half_u[column], t.line_u[column + 1] - t.half_u[column + 1]
    low, high = t.line_v[row] + t.half_v[row], t.line_v[row + 1] - t.half_v[row + 1]
    lots = np.floor((right - left) / np.where(dense, np.float32(33.0), np.float32(37.0)))
    room = (right - left) / np.maximum(lots, np.float32(1.0))
    half_l = (
        room
        * np.float32(0.5)
        * np.where(dense, np.float32(0.86) + np.float32(0.14) * a, np.float32(0.58) + np.float32(0.28) * a)
    )
    half_w = np.where(dense, np.float32(12.5) + np.float32(4.0) * b, np.float32(9.0) + np.float32(4.5) * b)
    setback = half_w + np.where(dense, np.float32(2.0), np.float32(5.0) + np.float32(8.0) * c)
    v = np.where(side == 0, low + setback, high - setback)
    u = left + (slot.astype(np.float32) + np.float32(0.5)) * room
    u += np.where(dense, np.float32(0.0), (d - np.float32(0.5)) * room * np.float32(0.12))
    lots_of_rows = _Lots(
        u=u,
        v=v,
        half_l=half_l,
        half_w=half_w,
        height_px=np.where(dense, np.float32(9.0) + np.float32(6.0) * e, np.float32(6.0) + np.float32(4.0) * e),
        flat=(f < np.where(dense, np.float32(0.35), np.float32(0.12))).astype(np.float32),
        word=word,
    )
    built = ((zone == DENSE) | (zone == SUBURB)) & (slot < lots) & ((word & np.uint32(15)) != 0)
    return lots_of_rows.keep(built)


def _place_halls(seed: int, t: Town) -> _Lots:
    """Place warehouses: one or two per industrial block, large and flat."""
    column, row = np.nonzero(t.zone[:-1, :-1] == INDUSTRY)
    column, row = np.repeat(column, 2), np.repeat(row, 2)
    half = np.tile(np.arange(2), len(column) // 2)
    key = make_layer_key(seed, f"halls/{t.node[0]}/{t.node[1]}")
    block_word = hash_nodes(key, column.astype(np.int64), row.astype(np.int64))
    word = hash_nodes(key, column.astype(np.int64) * 2 + half, row.astype(np.int64) + 1000)
    a, b, c, d, e, _ = _draw_numbers(word, 6)
    split = (block_word & np.uint32(3)) != 0
    u0, u1 = t.line_u[column] + np.float32(9.0), t.line_u[column + 1] - np.float32(9.0)
    v0, v1 = t.line_v[row] + np.float32(9.0), t.line_v[row + 1] - np.float32(9.0)
    middle = (u0 + u1) * np.float32(0.5)
    u0 = np.where(split & (half == 1), middle + np.float32(3.0), u0)
    u1 = np.where(split & (half == 0), middle - np.float32(3.0), u1)
    fill_l, fill_w = np.float32(0.74) + np.float32(0.2) * a, np.float32(0.66) + np.float32(0.26) * b
    half_l, half_w = (u1 - u0) * np.float32(0.5) * fill_l, (v1 - v0) * np.float32(0.5) * fill_w
    slack_u, slack_v = (u1 - u0) * np.float32(0.5) - half_l, (v1 - v0) * np.float32(0.5) - half_w
    lots = _Lots(
        u=(u0 + u1) * np.float32(0.5) + slack_u * (c - np.float32(0.5)),
        v=(v0 + v1) * np.float32(0.5) + slack_v * (d - np.float32(0.5)),
        half_l=half_l,
        half_w=half_w,
        height_px=np.float32(7.0) + np.float32(6.0) * e,
        flat=np.ones(len(word), np.float32),
        word=word,
    )
    return lots.keep((split | (half == 0)) & ((word >> np.uint32(4)) % np.uint32(9) != 0))


def _to_pixels(seed: int, t: Town, u: F32, v: F32) -> tuple[F32, F32]:
    """Convert street coordinates to pixels; repeated substitution inverts the bend."""
    cos, sin = np.float32(t.cos), np.float32(t.sin)
    bu, bv = np.zeros_like(u), np.zeros_like(v)
    y, x = u, v
    for _ in range(4):
        y = (u - bu) * sin + (v - bv) * cos + np.float32(t.y)
        x = (u - bu) * cos - (v - bv) * sin + np.float32(t.x)
        bu, bv = town.bend_streets(Points(seed=seed, y=y, x=x))
    return y, x


def _is_free(seed: int, houses: F32) -> np.ndarray:
    """Test for each building that it stands on neither water nor a highway."""
    steps_l = np.array([-1.0, -0.5, 0.0, 0.5, 1.0], np.float32)
    steps_w = np.array([-1.0, 0.0, 1.0], np.float32)
    along, across = (s.ravel() for s in np.meshgrid(steps_l, steps_w, indexing="ij"))
    y, x, cos, sin, half_l, half_w = (houses[:, k, None] for k in range(6))
    py = y + along * half_l * sin + across * half_w * cos
    px = x + along * half_l * cos - across * half_w * sin
    spots = Points(seed=seed, y=py.ravel(), x=px.ravel())
    slack = np.repeat(houses[:, 4] * np.float32(0.2), along.size)
    ok = terrain.measure_water(spots) < -8.0
    ok &= highway.measure_highway_px(spots) > np.float32(highway.HALF_PX + 3.0) + slack
    return np.asarray(ok.reshape(len(houses), along.size).all(axis=1))


def _add_wings(lots: _Lots) -> _Lots:
    """Wings of some houses: a part that is deeper than the rest, under the same roof colour."""
    winged = lots.keep(((lots.word >> np.uint32(9)) & np.uint32(3) == 0) & (lots.flat == 0.0))
    (a,) = _draw_numbers(winged.word ^ np.uint32(77), 1)
    sign = np.where(a < 0.5, np.float32(-1.0), np.float32(1.0))
    winged.u = winged.u + sign * winged.half_l * np.float32(0.55)
    winged.half_l, winged.half_w = winged.half_l * np.float32(0.45), winged.half_w * np.float32(1.4)
    return winged


@lru_cache(maxsize=48)
def place_houses(seed: int, iy: int, ix: int) -> Houses:
    """Place all buildings of one town, in drawing order."""
    t = town.make_town(seed, iy, ix)
    parts = []
    rows = _place_row_houses(seed, t)
    for lots in (rows, _add_wings(rows), _place_halls(seed, t)):
        if not len(lots.word):
            continue
        y, x = _to_pixels(seed, t, lots.u, lots.v)
        y1, x1 = _to_pixels(seed, t, lots.u + np.float32(8.0), lots.v)
        dy, dx = y1 - y, x1 - x
        length = np.sqrt(dy * dy + dx * dx)
        cos, sin = dx / length, dy / length
        columns = (y, x, cos, sin, lots.half_l, lots.half_w, lots.height_px, lots.flat)
        table = np.stack(columns, axis=1).astype(np.float32)
        free = _is_free(seed, table)
        parts.append((table[free], lots.word[free]))
    if not parts:
        return Houses(table=np.zeros((0, len(_COLUMNS)), np.float32), word=np.zeros(0, np.uint32))
    return Houses(table=np.concatenate([p[0] for p in parts]), word=np.concatenate([p[1] for p in parts]))
