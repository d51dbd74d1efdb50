"""Reference labels as polygons and points. A pixel has the class of the polygon that its centre is in, or of a point in
the pixel.

Labels are drawn for one window at a time, so the memory holds the polygons and one window. Where polygons of two
classes overlap, the reference contradicts itself, and these pixels count as unlabelled.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from batchseg.errors import RecipeError
from batchseg.recipe import NO_TRUST, LabelPolygons, Trust
from batchseg.scene.georef import Georef
from batchseg.scene.polygons import Polygons, make_hull, read_layer_marks, read_layer_polygons, read_polygons
from tiling.span import Window

if TYPE_CHECKING:
    from batchseg.scene.vectors import VectorLayer

UNLABELLED = 65535
HULL = "hull"
"""The value of `within` that stands for the convex hull of the reference itself."""
WHOLE_SHARE = 0.8
"""The share of the scene from which on a reference counts as one of the whole scene: few end exactly at its corners."""
VECTOR_SUFFIXES = (".geojson", ".json", ".gpkg", ".shp", ".fgb", ".parquet", ".geoparquet", ".kml", ".gml", ".sqlite")


@dataclass(frozen=True, slots=True)
class PolygonLabels:
    """Polygons of each class over one scene."""

    classes: tuple[tuple[int, Polygons], ...]
    """Class ids with their polygons."""
    outside: int | None
    """Class id of ground outside of all polygons; None: it is unlabelled."""
    within: Polygons | None
    """Ground that the reference covers; None: the whole scene. All other ground is unlabelled."""
    id: str
    """Digest of the drawn labels, which does not depend on the file or its format."""
    note: str | None = None
    """The ground that is scored, or a warning about it, for people; None where there is nothing to say."""

    @staticmethod
    def of(
        classes: Sequence[tuple[int, Polygons]],
        outside: int | None,
        within: Polygons | None = None,
        note: str | None = None,
    ) -> PolygonLabels:
        drawn = [(class_id, polygons.digest()) for class_id, polygons in classes]
        content = (drawn, outside) if within is None else (drawn, outside, within.digest())
        digest = hashlib.blake2b(repr(content).encode(), digest_size=16).hexdigest()
        return PolygonLabels(tuple(classes), outside, within, digest, note)

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
        if self.within is not None:
            labels_HW[~self.within.mask(window)] = UNLABELLED
        return labels_HW, labels_HW != UNLABELLED


def is_vector(url: str) -> bool:
    """Test if a file of labels holds polygons and not a raster, by its name."""
    path = url.partition("?")[0]
    return "|layername=" in path or path.lower().endswith(VECTOR_SUFFIXES)


def read_polygon_labels(
    given: LabelPolygons, *, georef: Georef, classes: Mapping[int, str], trust: Trust = NO_TRUST
) -> PolygonLabels:
    """Read polygons, points or both as labels on a scene's grid.

    Args:
        given: The vector file, and how its features name their classes.
        georef: Grid of the scene.
        classes: Names of the classes of the models, by id.
        trust: What the author of the recipe allows the file to refer to.

    Raises:
        RecipeError: The file cannot be read, holds a class that the models do not have, or lies off the scene.
    """
    from batchseg.scene.vectors import open_layer

    outside_id = None if given.outside is None else find_class(given.outside, classes, f"{given.polygons}: outside")
    # With a class for the outside, points would label all but a few pixels with it, so they are refused.
    read = read_layer_marks if given.outside is None else read_layer_polygons
    with open_layer(given.polygons, trust) as layer:
        if given.all_ is not None:
            filters = {find_class(given.all_, classes, f"{given.polygons}: all"): given.where}
        else:
            filters = _make_filters(layer, given.class_, given.where, classes)
        drawn = [
            (class_id, read(layer, where=class_filter, georef=georef))
            for class_id, class_filter in sorted(filters.items())
        ]
    polygons = [polygons for _, polygons in drawn]
    _require_on_scene(given.polygons, polygons, "reference")
    within = None if given.within is None else _read_within(given.within, polygons, georef, trust)
    return PolygonLabels.of(drawn, outside_id, within, _describe_ground(given, polygons, within))


def _read_within(within: str, drawn: Sequence[Polygons], georef: Georef, trust: Trust) -> Polygons:
    if within == HULL:
        return make_hull(drawn)
    polygons = read_polygons(within, georef=georef, trust=trust)
    _require_on_scene(within, [polygons], "ground of the reference")
    return polygons


def _require_on_scene(url: str, layers: Sequence[Polygons], what: str) -> None:
    if not any(map(len, layers)):
        raise RecipeError(
            f"no {what} lies on the scene",
            where=url,
            todo="check the file's coordinate system and the scene that it is given for",
        )


def _describe_ground(given: LabelPolygons, drawn: Sequence[Polygons], within: Polygons | None) -> str | None:
    """Say which ground is scored, or that a reference with `outside` may end before the scene does."""
    if within is not None:
        ground = "the convex hull of the reference" if given.within == HULL else f"the ground within {given.within}"
        return f"only {ground} is scored, {within.cover_share():.0%} of the scene"
    share = 1.0 if given.outside is None else make_hull(drawn).cover_share()
    if share >= WHOLE_SHARE:
        return None
    return (
        f"{given.polygons} reaches over {share:.0%} of the scene, and all other ground counts as {given.outside}; if "
        f"nobody has looked there, score the reference's own ground only: `within: {HULL}` (--within {HULL})"
    )


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
        value = int(text) if re.fullmatch(r"-?[0-9]{1,9}", text) else value
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int) and value in classes:
        return value
    raise RecipeError(
        "the class must be one of the models' classes",
        where=where,
        expected=", ".join(f"{class_id} {name}" for class_id, name in classes.items()),
        got=repr(value),
        todo="leave such polygons out with `where` (--where), or rename them",
    )
