"""Reference labels that are drawn. Pixels get a polygon's class where their centres are inside of it, and a point's
where it is inside of them.

Only what is asked for is drawn, so memory is that of the polygons and of one window. Where polygons of two classes
overlap, the reference contradicts itself, and such pixels count as unlabelled.
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
    """The polygons of each class over one scene."""

    classes: tuple[tuple[int, Polygons], ...]
    outside: int | None
    """The class of ground outside of all polygons; None: it is unlabelled."""

    id: str
    """Of what is drawn, wherever and in whatever format the file lies."""

    @staticmethod
    def of(classes: Sequence[tuple[int, Polygons]], outside: int | None) -> PolygonLabels:
        drawn = [(class_id, polygons.digest()) for class_id, polygons in classes]
        digest = hashlib.blake2b(repr((drawn, outside)).encode(), digest_size=16).hexdigest()
        return PolygonLabels(tuple(classes), outside, digest)

    def read(self, window: Window) -> tuple[NDArray[np.uint16], NDArray[np.bool_]]:
        """Class ids, and where there is one."""
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
    """By its name: a raster of labels and a file of polygons are told apart before either is opened."""
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
    """Polygons, points or both, as labels on a scene's grid.

    Args:
        url: The vector file.
        attribute: That holds each polygon's class, by its id or by its name.
        all_are: The class of all polygons, instead of an attribute.
        outside: The class of the ground outside of them.
        where: Attribute filter, as in SQL.
        georef: The scene's.
        classes: Id and name of the classes that there are.
    """
    from batchseg.scene.vectors import open_layer

    beyond = None if outside is None else find_class(outside, classes, f"{url}: outside")
    read = (
        read_layer_marks if outside is None else read_layer_polygons
    )  # points have no outside: all but a few pixels would be it
    with open_layer(url) as layer:
        if all_are is not None:
            filters = {find_class(all_are, classes, f"{url}: all"): where}
        else:
            filters = _filters(layer, attribute, where, classes)
        drawn = [
            (class_id, read(layer, where=class_filter, georef=georef))
            for class_id, class_filter in sorted(filters.items())
        ]
    return PolygonLabels.of(drawn, beyond)


def _filters(
    layer: VectorLayer, attribute: str, where: str | None, classes: Mapping[int, str]
) -> dict[int, str | None]:
    """The filter that finds the polygons of each class, which may be written in several ways."""
    values: dict[int, list[str]] = {}
    for value in layer.values(attribute, where):
        class_id = find_class(value, classes, f"{layer.url}: {attribute}")
        text = "'" + value.replace("'", "''") + "'" if isinstance(value, str) else str(value)
        values.setdefault(class_id, []).append(f'"{attribute}" = {text}')
    either = {class_id: " OR ".join(ways) for class_id, ways in values.items()}
    return {class_id: ways if where is None else f"({where}) AND ({ways})" for class_id, ways in either.items()}


def find_class(value: Any, classes: Mapping[int, str], where: str) -> int:
    """A class by its id or its name, whatever the case."""
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
        "this is no class of the models",
        where=where,
        expected=", ".join(f"{class_id} {name}" for class_id, name in classes.items()),
        got=repr(value),
        todo="leave such polygons out with `where`, or rename them",
    )
