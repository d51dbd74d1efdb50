"""Reference labels of a scene, whether they are a raster or polygons."""

from __future__ import annotations

from collections.abc import Sequence

from batchseg.classes import ClassInfo
from batchseg.recipe import LabelPolygons
from batchseg.scene.georef import Georef
from batchseg.scene.labelpolygons import PolygonLabels, is_vector, read_polygon_labels
from batchseg.scene.labels import LabelsHeader, LabelSource, labels_on_grid
from batchseg.score.accuracy import Labels

Reference = LabelsHeader | PolygonLabels


def open_reference(
    given: str | LabelPolygons, georef: Georef, scene_url: str, classes: Sequence[ClassInfo]
) -> Reference:
    """A raster has to lie on the scene's grid; polygons are put there."""
    if isinstance(given, str):
        if not is_vector(given):
            return labels_on_grid(given, georef, scene_url)
        given = LabelPolygons(polygons=given)
    return read_polygon_labels(
        given.polygons,
        attribute=given.class_,
        all_are=given.all_,
        outside=given.outside,
        where=given.where,
        georef=georef,
        classes={one.id: one.name for one in classes},
    )


def source_of(reference: Reference) -> Labels:
    return LabelSource(reference) if isinstance(reference, LabelsHeader) else reference
