"""Natural ground: forest, rivers, lakes and open ground, as signed fields over places; positive means inside."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from batchseg.synth import highway
from batchseg.synth.noise import F32, Places, draw

FAR_PX = -48.0  # depths below this are cut off
_RIVER_PERIOD_PX = 2048
_NOISE_CLIP = 1.7
_TRIES = 4  # a blob takes, of this many places, the one farthest from a town


@dataclass(frozen=True, slots=True, kw_only=True)
class BlobKind:
    """One family of blobs: at most one in each lattice cell."""

    layer: str
    period_px: int
    share: float
    radius_px: tuple[float, float]
    ragged: float  # how far noise moves the outline, in radii


LAKES = BlobKind(layer="lake", period_px=1024, share=0.7, radius_px=(60.0, 165.0), ragged=0.28)
PITS = BlobKind(layer="pit", period_px=640, share=0.9, radius_px=(72.0, 165.0), ragged=0.30)


@dataclass(frozen=True, slots=True, kw_only=True)
class Blob:
    y: float
    x: float
    radius_px: float
    stretch: float
    tone: float
    warmth: float


@lru_cache(maxsize=4096)
def _draw_blob(seed: int, kind: BlobKind, iy: int, ix: int) -> Blob | None:
    def at(k: int) -> float:
        return draw(seed, kind.layer, iy, ix, k)

    if at(0) >= kind.share:
        return None
    low, high = kind.radius_px
    spots = [
        ((iy + 0.2 + 0.6 * at(7 + k)) * kind.period_px, (ix + 0.2 + 0.6 * at(17 + k)) * kind.period_px)
        for k in range(_TRIES)
    ]
    y, x = max(spots, key=lambda spot: highway.measure_town_distance2_px(seed, *spot))
    return Blob(
        y=y,
        x=x,
        radius_px=low + (high - low) * at(3),
        stretch=0.8 + 0.45 * at(4),
        tone=2.0 * at(5) - 1.0,
        warmth=2.0 * at(6) - 1.0,
    )


@dataclass(slots=True, kw_only=True)
class BlobField:
    """Depth inside the nearest blob in pixels, with the tone and warmth of that blob."""

    depth: F32
    tone: F32
    warmth: F32


def make_blobs(places: Places, kind: BlobKind) -> BlobField | None:
    """The blobs of a family at these places; None if no blob comes near."""

    def reach(radius_px: float) -> float:
        return (radius_px * (1.0 + kind.ragged * _NOISE_CLIP) - FAR_PX) * 1.3  # 1.3: more than any stretch

    cells = places.bounds.list_cells(kind.period_px, reach(kind.radius_px[1]))
    blobs = [b for b in (_draw_blob(places.seed, kind, iy, ix) for iy, ix in cells) if b is not None]
    near = [b for b in blobs if places.bounds.touches(b.y, b.x, reach(b.radius_px))]
    if not near:
        return None
    ragged = places.make_noise(kind.layer + "/outline", 96) + np.float32(0.45) * places.make_noise(
        kind.layer + "/rim", 24
    )
    ragged = np.clip(ragged, -_NOISE_CLIP, _NOISE_CLIP) * np.float32(kind.ragged)
    ragged += np.float32(1.0)
    field = BlobField(
        depth=np.full(places.shape, FAR_PX, np.float32),
        tone=np.zeros(places.shape, np.float32),
        warmth=np.zeros(places.shape, np.float32),
    )
    for b in near:
        dy, dx = (places.y - np.float32(b.y)) * np.float32(b.stretch), places.x - np.float32(b.x)
        depth = np.float32(b.radius_px) * ragged - np.sqrt(dx * dx + dy * dy)
        nearer = depth > field.depth
        np.copyto(field.depth, depth, where=nearer)
        np.copyto(field.tone, np.float32(b.tone), where=nearer)
        np.copyto(field.warmth, np.float32(b.warmth), where=nearer)
    return field


def measure_river(places: Places) -> F32:
    """Depth inside a river in pixels: one in each band of 2048 px, so that every large scene is crossed."""
    flows_down = draw(places.seed, "river/axis") < 0.5
    across = places.x if flows_down else places.y
    v = across + np.float32(150.0) * places.make_noise("river/bend", 1024)
    v += np.float32(26.0) * places.make_noise("river/bank", 256)
    v += np.float32(2.5) * places.make_noise("river/edge", 32)
    period = np.float32(_RIVER_PERIOD_PX)
    v /= period
    off_centre = np.abs(v - np.floor(v) - np.float32(0.5)) * period
    half = np.float32(24.0 + 12.0 * draw(places.seed, "river/width"))
    depth: F32 = np.maximum(half - off_centre, np.float32(FAR_PX))
    return depth


def measure_lakes(places: Places, highway_px: F32) -> BlobField | None:
    """The lakes, which keep away from highways."""
    field = make_blobs(places, LAKES)
    if field is not None:
        np.minimum(field.depth, highway_px - np.float32(16.0), out=field.depth)
    return field


def measure_water(places: Places) -> F32:
    """Depth inside any water, to decide whether a place can be built on."""
    depth = measure_river(places)
    field = measure_lakes(places, highway.measure_highway_px(places))
    return depth if field is None else np.maximum(depth, field.depth)


def measure_forest(places: Places) -> F32:
    """Forest where positive; one unit is about the spread of the field."""
    f = places.make_noise("forest/large", 384)
    f += np.float32(0.42) * places.make_noise("forest/middle", 128)
    f += np.float32(0.16) * places.make_noise("forest/edge", 32)
    f -= np.float32(0.45 + 0.2 * draw(places.seed, "forest/share"))
    return f
