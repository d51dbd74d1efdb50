"""Reference labels as polygons and points. A pixel has the class of the polygon that its centre is in, or of a point in
the pixel.

Labels are drawn for one window at a time, so the memory holds the polygons and one window. Where polygons of two
classes overlap, the reference contradicts itself, and these pixels count as unlabelled.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from batchseg.errors import RecipeError
from batchseg.scene.georef import Georef
from batchseg.scene.polygons import Polygons, read_layer_marks, read_layer_polygons
from tiling.span import Window

if TYPE_CHECKING:
    from batchseg.scene.vectors import VectorLayer

UNLABELLED = 65535
VECTOR_SUFFIXES = (".geojson", ".json", ".gpkg", ".shp", ".fgb", ".parquet", ".geoparquet", ".kml", ".gml", ".sqlite")


@dataclass(frozen=True, slots=True)
class PolygonLabels:
    """Polygons of each class over one scene."""

    classes: tuple[tuple[int, Polygons], ...]
    """Class ids with their polygons."""
    outside: int | None
    """Class id of ground outside of all polygons; None: it is unlabelled."""
    id: str
    """Digest of the drawn labels, which does not depend on the file or its format."""

    @staticmethod
    def of(classes: Sequence[tuple[int, Polygons]], outside: int | None) -> PolygonLabels:
        drawn = [(class_id, polygons.digest()) for class_id, polygons in classes]
        digest = hashlib.blake2b(repr((drawn, outside)).encode(), digest_size=16).hexdigest()
        return PolygonLabels(tuple(classes), outside, digest)

    def read(self, window: Window) -> tuple[NDArray[np.uint16], NDArray[np.bool_]]:
        """Draw a window: class ids, and the mask of labelled pixels."""
        labels_HW = np.full(window.shape, UNLABELLED if self.outside is None else self.outside, np.uint16)
        drawn_HW, twice_HW = np.zeros(window.shape, bool), np.zeros(window.shape, bool)
        for class_id, polygons in self.classes:
            inside_HW = polygons.mask(window)
            twice_HW |= inside_HW & drawn_HW
            drawn_HW |= inside_HW
            labels_HW[inside_HW] = class_id
        labels_HW[twice_HW] = UNLABELLED
        return labels_HW, labels_HW != UNLABELLED


def is_vector(url: str) -> bool:
    """Whether a file of labels holds polygons and not a raster, by its name."""
    path = url.partition("?")[0]
    return "|layername=" in path or path.lower().endswith(VECTOR_SUFFIXES)


def read_polygon_labels(
    url: str,
    *,
    attribute: str,
    all_are: str | int | None,
    outside: str | int | None,
    where: str | None,
    georef: Georef,
    classes: Mapping[int, str],
) -> PolygonLabels:
    """Read polygons, points or both as labels on a scene's grid.

    Args:
        url: The vector file.
        attribute: Name of the attribute that holds each polygon's class, as id or as name.
        all_are: Class of all polygons, instead of an attribute.
        outside: Class of the ground outside of all polygons; None: it is unlabelled.
        where: Attribute filter, as in SQL.
        georef: Grid of the scene.
        classes: Names of the classes of the models, by id.

    Raises:
        RecipeError: The file cannot be read, or holds a class that the models do not have.
    """
    from batchseg.scene.vectors import open_layer

    outside_id = None if outside is None else find_class(outside, classes, f"{url}: outside")
    # With a class for the outside, points would label all but a few pixels with it, so they are refused.
    read = read_layer_marks if outside is None else read_layer_polygons
    with open_layer(url) as layer:
        if all_are is not None:
            filters = {find_class(all_are, classes, f"{url}: all"): where}
        else:
            filters = _make_filters(layer, attribute, where, classes)
        drawn = [
            (class_id, read(layer, where=class_filter, georef=georef))
            for class_id, class_filter in sorted(filters.items())
        ]
    return PolygonLabels.of(drawn, outside_id)


def _make_filters(
    layer: VectorLayer, attribute: str, where: str | None, classes: Mapping[int, str]
) -> dict[int, str | None]:
    """Make the filter that finds the polygons of each class; several values of the attribute may mean one class."""
    values: dict[int, list[str]] = {}
    for value in layer.read_values(attribute, where):
        class_id = find_class(value, classes, f"{layer.url}: {attribute}")
        text = "'" + value.replace("'", "''") + "'" if isinstance(value, str) else str(value)
        values.setdefault(class_id, []).append(f'"{attribute}" = {text}')
    conditions = {class_id: " OR ".join(texts) for class_id, texts in values.items()}
    return {class_id: text if where is None else f"({where}) AND ({text})" for class_id, text in conditions.items()}


def find_class(value: Any, classes: Mapping[int, str], where: str) -> int:
    """Find a class by its id, or by its name in any case."""
    by_name = {name.casefold(): class_id for class_id, name in classes.items()}
    if isinstance(value, str):
        text = value.strip()
        if text.casefold() in by_name:
            return by_name[text.casefold()]
        value = int(text) if text.lstrip("-").isdigit() else value
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int) and value in classes:
        return value
    raise RecipeError(
        "the class must be one of the models' classes",
        where=where,
        expected=", ".join(f"{class_id} {name}" for class_id, name in classes.items()),
        got=repr(value),
        todo="leave such polygons out with `where`, or rename them",
    )
