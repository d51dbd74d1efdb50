"""The files of a synthetic scene: their names, their place on the Earth, and the signs that they were made here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import rasterio
from rasterio.errors import RasterioIOError
from rasterio.transform import Affine

from batchseg.egress import format_json
from batchseg.errors import IrregularFileError
from batchseg.regular_files import check_file, read_regular
from batchseg.schema import JsonObject
from batchseg.synth.materials import CLASSES

NAMES = ("labels.tif", "priority.geojson", "scene.tif")
"""The files of a scene, in the order in which they appear."""
CRS = "EPSG:32633"
PIXEL_M = 0.5
BAND_NAMES = ("red", "green", "blue", "nir")
_NUM_PLACES = 256
_FEATURE_KEYS = {"type", "properties", "geometry"}


def make_transform(seed: int) -> Affine:
    """The place of a scene on the Earth: scenes lie side by side, 20 km apart."""
    east, north = 300_000 + 20_000 * (seed % 16), 5_700_000 - 20_000 * (seed // 16 % 16)
    return Affine(PIXEL_M, 0.0, float(east), 0.0, -PIXEL_M, float(north))


def is_synthetic(path: Path) -> bool:
    """Test if one of the files of a scene was made here. A link is a file of its owner."""
    try:
        if path.is_symlink():
            return False
        check_file(path)
        return _is_priority(path) if path.suffix == ".geojson" else _is_raster(path)
    except (OSError, ValueError, RecursionError, RasterioIOError, IrregularFileError):
        return False


def _is_raster(path: Path) -> bool:
    """Test for the place and the bands of a scene, or the classes of its labels."""
    # As a GeoTIFF and nothing else: other formats may lead to other files.
    with rasterio.open(path, driver="GTiff") as raster:
        is_placed = raster.crs == CRS and raster.transform in map(make_transform, range(_NUM_PLACES))
        return is_placed and (_has_classes(raster) if path.name == "labels.tif" else _has_bands(raster))


def _has_classes(labels: Any) -> bool:
    tags = labels.tags(1)
    return labels.descriptions == ("class",) and all(tags.get(f"class_{entry.id}") == entry.name for entry in CLASSES)


def _has_bands(scene: Any) -> bool:
    is_square = bool(scene.width == scene.height)
    return is_square and scene.count in (3, 4) and scene.descriptions == BAND_NAMES[: scene.count]


def format_areas(areas: JsonObject) -> str:
    """The text of the priority polygons."""
    return format_json(areas, indent=1) + "\n"


def _is_priority(path: Path) -> bool:
    text = read_regular(path).decode()
    areas = json.loads(text)
    features = areas.get("features") if isinstance(areas, dict) else None
    if not isinstance(features, list) or areas.keys() != {"type", "features"} or format_areas(areas) != text:
        return False
    return all(_is_town(feature, number) for number, feature in enumerate(features, start=1))


def _is_town(feature: Any, number: int) -> bool:
    if not isinstance(feature, dict) or feature.keys() != _FEATURE_KEYS:
        return False
    properties = feature["properties"]
    is_named = isinstance(properties, dict) and properties.keys() == {"name", "buildings"}
    return is_named and bool(properties["name"] == f"town {number}")
