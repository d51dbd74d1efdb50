"""Towns: their streets and blocks.

A town belongs to a cell of a coarse lattice. It has its own rotated and gently bent (u, v) grid of streets. Long
streets run along u, cross streets along v; some pieces of cross streets are missing. A *block* is a cell of that grid,
and its zone decides what stands there.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from batchseg.synth import highway, terrain
from batchseg.synth.noise import (
    F32,
    I64,
    Bounds,
    Places,
    Points,
    draw,
    hash_nodes,
    make_direction,
    make_layer_key,
    to_unit,
)

SUBURB, DENSE, INDUSTRY, GREEN, SQUARE, OUTSIDE = range(6)
_OUTLINE_SHARE = 0.14  # how far noise moves the outline, in radii
_LINES = 8  # street lines on each side of the centre
_BEND_PX = 9.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Town:
    node: tuple[int, int]
    y: float
    x: float
    radius_px: float
    cos: float
    sin: float
    pitch_u_px: float
    pitch_v_px: float
    line_u: F32  # position of cross street k - _LINES
    line_v: F32  # position of long street k - _LINES
    half_u: F32  # half widths of the streets
    half_v: F32
    cross: np.ndarray  # [cross street, block row]: whether that piece exists
    along: np.ndarray  # [block column, long street]: whether that piece exists
    zone: np.ndarray  # [block column, block row]

    reach_px: float  # nothing of the town lies farther from its centre


def _draw_table(seed: int, layer: str, node: tuple[int, int], n: int) -> F32:
    """A square of hashed numbers that belongs to one town."""
    key = make_layer_key(seed, f"{layer}/{node[0]}/{node[1]}")
    at: I64 = np.arange(n, dtype=np.int64)
    return to_unit(hash_nodes(key, at[:, None], at[None, :]))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _TownFrame:
    """The frame and the street lines of a town, before its blocks are assigned."""

    node: tuple[int, int]
    y: float
    x: float
    radius_px: float
    cos: float
    sin: float
    line_u: F32
    line_v: F32


@lru_cache(maxsize=256)
def make_town(seed: int, iy: int, ix: int) -> Town:
    """The town of one lattice cell."""
    at = [draw(seed, "town", iy, ix, k) for k in range(4)]
    n, node = 2 * _LINES + 1, (iy, ix)
    pitch_u, pitch_v = 150.0 + 60.0 * at[0], 98.0 + 24.0 * at[1]
    jitter = _draw_table(seed, "town/lines", node, n) - np.float32(0.5)
    steps = np.arange(-_LINES, _LINES + 1, dtype=np.float32)
    half_u, half_v = np.full(n, 5.0, np.float32), np.full(n, 5.5, np.float32)
    half_u[_LINES], half_v[_LINES] = 7.0, 7.5
    y, x = highway.find_town_centre(seed, iy, ix)
    cos, sin = make_direction(at[2])
    frame = _TownFrame(
        node=node,
        y=y,
        x=x,
        radius_px=285.0 + 130.0 * at[3],
        cos=cos,
        sin=sin,
        line_u=(steps + np.float32(0.24) * jitter[0]) * np.float32(pitch_u),
        line_v=(steps + np.float32(0.16) * jitter[1]) * np.float32(pitch_v),
    )
    zone = _assign_zones(seed, frame)
    built = zone != OUTSIDE
    cross, along = built.copy(), built.copy()
    cross[1:] |= built[:-1]
    along[:, 1:] |= built[:, :-1]
    cross &= (_draw_table(seed, "town/cross", node, n) < 0.72) | (np.arange(n) == _LINES)[:, None]
    return Town(
        node=node,
        y=y,
        x=x,
        radius_px=frame.radius_px,
        cos=cos,
        sin=sin,
        pitch_u_px=pitch_u,
        pitch_v_px=pitch_v,
        line_u=frame.line_u,
        line_v=frame.line_v,
        half_u=half_u,
        half_v=half_v,
        cross=cross,
        along=along,
        zone=zone,
        reach_px=_measure_reach_px(frame, built),
    )


def _measure_reach_px(p: _TownFrame, built: np.ndarray) -> float:
    """Distance to the farthest corner of a built block, plus the width and the bend of a street."""
    column, row = np.nonzero(built)
    u = np.abs(p.line_u[np.stack([column, column + 1])]).max(axis=0, initial=0.0)
    v = np.abs(p.line_v[np.stack([row, row + 1])]).max(axis=0, initial=0.0)
    corner = float(np.sqrt(u * u + v * v).max(initial=0.0))
    return corner + 12.0 + 1.5 * 3.6 * _BEND_PX


def _assign_zones(seed: int, p: _TownFrame) -> np.ndarray:
    """Assign a zone to each block. Blocks beyond the town's ragged outline or on water are OUTSIDE."""
    mid_u = (p.line_u[:-1] + p.line_u[1:]) * np.float32(0.5)
    mid_v = (p.line_v[:-1] + p.line_v[1:]) * np.float32(0.5)
    u, v = (a.ravel() for a in np.meshgrid(mid_u, mid_v, indexing="ij"))
    share = _draw_table(seed, "town/zone", p.node, len(mid_u)).ravel()
    radius = np.float32(p.radius_px)
    pitch = p.line_u[1] - p.line_u[0]
    far = np.sqrt(u * u + v * v) / radius
    cos, sin = make_direction(draw(seed, "town/industry", *p.node))
    zone = np.full(share.shape, SUBURB, np.uint8)
    zone[far < 0.52] = DENSE
    zone[share < 0.05] = GREEN
    zone[(share > 0.965) & (far < 0.7)] = SQUARE
    zone[u * np.float32(cos) + v * np.float32(sin) > np.float32(0.45) * radius] = INDUSTRY
    y = u * np.float32(p.sin) + v * np.float32(p.cos) + np.float32(p.y)
    x = u * np.float32(p.cos) - v * np.float32(p.sin) + np.float32(p.x)
    spots = Points(seed=seed, y=y, x=x)
    outline = np.clip(spots.make_noise("town/outline", 160), np.float32(-2.0), np.float32(2.0))
    others = [
        highway.measure_town_distance2_px(seed, float(a), float(b), apart_from=p.node) ** 0.5
        for a, b in zip(y, x, strict=True)
    ]
    apart = np.array(others, np.float32) - far * radius > np.float32(0.75) * np.float32(pitch)
    built = (
        apart & (far < np.float32(1.0) + np.float32(_OUTLINE_SHARE) * outline) & (terrain.measure_water(spots) < -20.0)
    )
    zone[~built] = OUTSIDE
    return np.pad(zone.reshape(len(mid_u), len(mid_v)), (0, 1), constant_values=OUTSIDE)


def find_towns(seed: int, box: Bounds) -> list[Town]:
    """Find the towns that may reach into a box."""
    towns = [make_town(seed, iy, ix) for iy, ix in box.list_cells(highway.TOWN_PERIOD_PX, 800.0)]
    return [t for t in towns if box.touches(t.y, t.x, t.reach_px)]


def bend_streets(places: Places) -> tuple[F32, F32]:
    """Distances by which streets leave a straight line, in u and in v."""
    bend = np.float32(_BEND_PX)
    return bend * places.make_noise("town/bend-u", 256), bend * places.make_noise("town/bend-v", 256)


@dataclass(slots=True, kw_only=True)
class Streets:
    paved: np.ndarray
    zone: np.ndarray
    tone: F32  # one number per block


def _find_nearest_line(at: F32, pitch: float, line: F32) -> tuple[I64, F32]:
    k = np.floor(at * np.float32(1.0 / pitch) + np.float32(0.5)).astype(np.int64)
    np.clip(k, -_LINES, _LINES, out=k)
    k += _LINES
    return k, at - np.take(line, k)


def make_streets(places: Places, t: Town) -> Streets:
    """The town's streets and zones at these places."""
    dy, dx = places.y - np.float32(t.y), places.x - np.float32(t.x)
    bend_u, bend_v = bend_streets(places)
    u = dx * np.float32(t.cos) + dy * np.float32(t.sin) + bend_u
    v = dy * np.float32(t.cos) - dx * np.float32(t.sin) + bend_v
    ku, du = _find_nearest_line(u, t.pitch_u_px, t.line_u)
    kv, dv = _find_nearest_line(v, t.pitch_v_px, t.line_v)
    n = len(t.line_u)
    column, row = ku - (du < 0), kv - (dv < 0)
    np.clip(column, 0, n - 1, out=column)
    np.clip(row, 0, n - 1, out=row)
    paved = np.take(t.cross.ravel(), ku * n + row) & (np.abs(du) < np.take(t.half_u, ku))
    paved |= np.take(t.along.ravel(), column * n + kv) & (np.abs(dv) < np.take(t.half_v, kv))
    block = column * n + row
    tone = _draw_table(places.seed, "town/tone", t.node, n) * np.float32(2.0) - np.float32(1.0)
    return Streets(paved=paved, zone=np.take(t.zone.ravel(), block), tone=np.take(tone.ravel(), block))
