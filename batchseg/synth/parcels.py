"""Farmland: districts with a ploughing direction each, cut into rectangular parcels, with lanes between districts.

A district is the Voronoi cell of a jittered lattice. Inside it, strips across one axis and parcels along the
other have hashed widths, so borders are straight and parcels lie side by side. What grows is hashed by parcel.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from batchseg.synth.materials import ID
from batchseg.synth.noise import (
    F32,
    I64,
    U32,
    Grid,
    again,
    direction,
    draw,
    hash_nodes,
    layer_key,
    mix,
    unit,
)

_DISTRICT_PX = 704
_FAR = np.float32(1e9)
_WAVE_PX = 9.0
_WAVE_REACH_PX = 34.0  # more than noise ever bends a border

# (upper end of the hashed share, material): the crop rotation.
_CROPS = (
    (0.22, "cereal"),
    (0.36, "ripe"),
    (0.47, "stubble"),
    (0.62, "meadow"),
    (0.71, "tilled"),
    (0.84, "fallow"),
    (0.93, "paddy"),
    (0.965, "nursery"),
    (1.00, "orchard"),
)
_CROP_BY_SHARE = np.array(
    [next(ID[name] for end, name in _CROPS if (k + 0.5) / 256.0 <= end) for k in range(256)], np.uint8
)


@dataclass(slots=True, kw_only=True)
class Districts:
    """Which district a place lies in, and the border to the next one."""

    index: I64  # into `sites`, of the nearest site
    sites: F32  # one row a district: y, x, cos, sin, strip width, parcel length
    words: U32  # one hashed word a district
    border_px: F32  # distance to the border of the district
    border_word: U32  # one hashed word a border, the same from both sides


def _site_table(seed: int, cells: list[tuple[int, int]]) -> tuple[F32, U32]:
    rows = []
    for iy, ix in cells:
        cos, sin = direction(draw(seed, "district/turn", iy, ix))
        rows.append(
            (
                (iy + 0.25 + 0.5 * draw(seed, "district/y", iy, ix)) * _DISTRICT_PX,
                (ix + 0.25 + 0.5 * draw(seed, "district/x", iy, ix)) * _DISTRICT_PX,
                cos,
                sin,
                90.0 + 70.0 * draw(seed, "district/strip", iy, ix),
                190.0 + 160.0 * draw(seed, "district/length", iy, ix),
            )
        )
    nodes = np.array(cells, np.int64)
    return np.array(rows, np.float32), hash_nodes(layer_key(seed, "district"), nodes[:, 0], nodes[:, 1])


def _contenders(grid: Grid, sites: F32, words: U32) -> tuple[F32, U32]:
    """Only sites that can be first or second somewhere in the window; who wins does not depend on the others."""
    box, zero = grid.bounds, np.float32(0.0)
    y, x, wave = sites[:, 0], sites[:, 1], np.float32(_WAVE_REACH_PX)
    near_y = np.maximum(np.maximum(box.y0 - wave - y, y - box.y1 - wave), zero)
    near_x = np.maximum(np.maximum(box.x0 - wave - x, x - box.x1 - wave), zero)
    far_y = np.maximum(y - box.y0 + wave, box.y1 + wave - y)
    far_x = np.maximum(x - box.x0 + wave, box.x1 + wave - x)
    second_far = np.sort(far_y * far_y + far_x * far_x)[1]
    kept = near_y * near_y + near_x * near_x <= second_far
    return sites[kept], words[kept]


def districts(grid: Grid) -> Districts:
    """The nearest and second nearest site of every pixel; borders bend a little, like lanes do."""
    wave_y = grid.noise("district/wave-y", 256) * np.float32(_WAVE_PX)
    wave_x = grid.noise("district/wave-x", 256) * np.float32(_WAVE_PX)
    y, x = grid.y + wave_y, grid.x + wave_x
    # One cell more, past what the wave moves, holds every site that can be first or second.
    sites, words = _site_table(grid.seed, grid.bounds.cells(_DISTRICT_PX, _DISTRICT_PX + _WAVE_REACH_PX))
    sites, words = _contenders(grid, sites, words)
    first = np.full(grid.shape, _FAR, np.float32)
    second = np.full(grid.shape, _FAR, np.float32)
    index = np.zeros(grid.shape, np.int64)
    index2 = np.zeros(grid.shape, np.int64)
    for k, site in enumerate(sites):
        dy, dx = y - site[0], x - site[1]
        d2 = dy * dy
        d2 += dx * dx
        nearest = d2 < first
        nearer = d2 < second
        nearer &= ~nearest
        np.copyto(second, d2, where=nearer)
        np.copyto(index2, k, where=nearer)
        np.copyto(second, first, where=nearest)
        np.copyto(index2, index, where=nearest)
        np.copyto(first, d2, where=nearest)
        np.copyto(index, k, where=nearest)
    ay, ax = sites[:, 0], sites[:, 1]
    apart = np.sqrt((ay[:, None] - ay) * (ay[:, None] - ay) + (ax[:, None] - ax) * (ax[:, None] - ax))
    pair = index * len(sites) + index2
    inverse = np.float32(0.5) / np.maximum(apart, np.float32(1.0))
    second -= first
    second *= np.take(inverse.ravel(), pair)
    both = mix(words[:, None] + words[None, :])
    return Districts(index=index, sites=sites, words=words, border_px=second, border_word=np.take(both.ravel(), pair))


@dataclass(slots=True, kw_only=True)
class Parcels:
    material: NDArrayU8
    word: U32  # one hashed word a parcel
    edge_px: F32  # distance to the parcel's border
    row_u: F32  # across the rows, in pixels
    row_v: F32  # along the rows


NDArrayU8 = np.ndarray[tuple[int, ...], np.dtype[np.uint8]]


def _cut(at: F32, width: F32, key: U32) -> tuple[U32, F32]:
    """Cut a line into pieces of jittered length: the hashed word of the piece, and the distance to its end."""
    t = at / width
    nearest = np.floor(t + np.float32(0.5))
    border = unit(mix(nearest.astype(np.int32).view(np.uint32) * np.uint32(0x9E3779B1) + key))
    border -= np.float32(0.5)
    border *= np.float32(0.56)
    border += nearest
    t -= border
    piece = nearest.astype(np.int32)
    piece -= t < 0
    word = mix(piece.view(np.uint32) * np.uint32(0x85EBCA77) ^ key)
    np.abs(t, out=t)
    t *= width
    return word, t


def parcels(grid: Grid, d: Districts) -> Parcels:
    """Parcels of every pixel, as if the whole ground were farmed."""
    site_y, site_x, cos, sin, width, length = (np.take(column, d.index) for column in d.sites.T.copy())
    dy, dx = grid.y - site_y, grid.x - site_x
    u, v = dx * cos + dy * sin, dy * cos - dx * sin
    strip, edge_u = _cut(u, width, np.take(d.words, d.index))
    word, edge_v = _cut(v, length, strip)
    share = (word >> np.uint32(24)).astype(np.intp)
    return Parcels(
        material=np.take(_CROP_BY_SHARE, share),
        word=again(word, 1),
        edge_px=np.minimum(np.minimum(edge_u, edge_v), d.border_px),
        row_u=u,
        row_v=v,
    )


def farm_rows(p: Parcels) -> F32:
    """Tillage rows in [-1, 1], with tramlines; a parcel is worked along or across, with its own spacing."""
    across = (p.word & np.uint32(3)) == 0
    at = np.where(across, p.row_v, p.row_u)
    spacing = ((p.word >> np.uint32(4)) & np.uint32(3)).astype(np.float32) + np.float32(4.0)
    t: F32 = at / spacing
    t -= np.floor(t)
    t -= np.float32(0.5)
    np.abs(t, out=t)
    t *= np.float32(4.0)
    t -= np.float32(1.0)
    tram = at * np.float32(1.0 / 42.0)
    tram -= np.floor(tram)
    np.copyto(t, np.float32(-1.6), where=tram < np.float32(0.055))
    return t


def orchard_crowns(p: Parcels) -> F32:
    """Height of trees planted in rows: positive on a crown."""
    out = np.full(p.row_u.shape, 1.0, np.float32)
    for at in (p.row_u, p.row_v):
        t = at * np.float32(1.0 / 13.0)
        t -= np.floor(t)
        t -= np.float32(0.5)
        t *= t
        t *= np.float32(5.4)
        out -= t
    return out


def borders(d: Districts, p: Parcels, material: NDArrayU8) -> None:
    """Draw what lies between parcels: margins and hedges around them, lanes and tracks between districts."""
    material[p.edge_px < 2.0] = ID["margin"]
    hedged = (p.word >> np.uint32(8)) & np.uint32(7)
    material[(p.edge_px < 5.0) & (hedged == 0)] = ID["hedge"]
    kind = unit(d.border_word)
    wood = (kind >= 0.80) & (d.border_px < 6.0)
    material[wood] = ID["hedge"]


def lanes(d: Districts) -> tuple[F32, F32]:
    """Distance to the district border, and the hashed share that tells lane (< 0.5), track (< 0.8) or neither."""
    return d.border_px, unit(d.border_word)
