"""run/priority/SCENE.wkb: the priority ground of a run, so that later scores can tell inside from outside."""

from __future__ import annotations

from functools import lru_cache

import shapely

from batchseg.errors import DamagedError
from batchseg.paths import priority_key
from batchseg.scene.georef import Georef
from batchseg.scene.polygons import Polygons
from batchseg.store import Store


def write_priority(store: Store, scene: str, polygons: Polygons) -> None:
    shapes = list(shapely.from_wkb(list(polygons.wkb)))
    store.put(priority_key(scene), shapely.to_wkb(shapely.GeometryCollection(shapes)))


def read_priority(store: Store, scene: str, georef: Georef) -> Polygons | None:
    """Read the priority ground of a scene; None when the run had no priority polygons."""
    try:
        content = store.get(priority_key(scene))
    except FileNotFoundError:
        return None
    try:
        return _unpack(content, georef.shape_px)
    except shapely.errors.GEOSException as error:
        raise DamagedError(
            "these polygons cannot be read",
            where=priority_key(scene),
            got=str(error),
            todo="run `batchseg run` again; it makes this file again",
        ) from error


@lru_cache(maxsize=4)
def _unpack(content: bytes, shape_px: tuple[int, int]) -> Polygons:
    parts = shapely.get_parts(shapely.from_wkb(content))
    return Polygons(tuple(bytes(wkb) for wkb in shapely.to_wkb(parts, byte_order=1)), shape_px)
