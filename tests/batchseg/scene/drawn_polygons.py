"""Polygons drawn in pixels of a scene, and saved in common vector formats."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import pyproj
import shapely
from shapely.affinity import affine_transform

from batchseg.scene.georef import Georef
from batchseg.scene.polygons import Polygons
from tiling.span import Window

UTM33 = pyproj.CRS("EPSG:32633").to_wkt()
TRANSFORMS = {
    "north-up": (10, 0, 400_000, 0, -10, 5_500_000),
    "south-up": (10, 0, 400_000, 0, 10, 5_490_000),
    "rotated": (8, -6, 400_000, 6, 8, 5_500_000),
}


def georef(
    transform: tuple[float, ...] | None = TRANSFORMS["north-up"], crs_wkt: str | None = UTM33, side_px: int = 300
) -> Georef:
    return Georef(width_px=side_px, height_px=side_px, crs_wkt=crs_wkt, transform=transform)  # type: ignore[arg-type]


def save(path: Path, polygons: list[Any], crs: str | None = "EPSG:32633", **fields: list[Any]) -> str:
    pyogrio.raw.write(
        path,
        np.array(shapely.to_wkb(polygons), dtype=object),
        [np.array(values, dtype=object) for values in fields.values()],
        list(fields),
        geometry_type="Unknown",
        crs=crs,
    )
    return str(path)


def to_map(pixels: Any, transform: tuple[float, ...]) -> Any:
    a, b, c, d, e, f = transform
    return affine_transform(pixels, (a, b, d, e, c, f))


def whole(made: Polygons) -> Window:
    return Window.of(0, made.shape_px[0], 0, made.shape_px[1])


def centres(pixels: Any, shape_px: tuple[int, int]) -> np.ndarray:
    rows, cols = np.mgrid[: shape_px[0], : shape_px[1]] + 0.5
    return np.asarray(shapely.contains_xy(pixels, cols, rows))


SHAPE = shapely.Polygon(
    [(20.3, 30.1), (200.7, 10.2), (250.1, 260.4), (100.2, 120.9)], [[(150.2, 60.1), (170.3, 60.4), (160.7, 90.2)]]
)
