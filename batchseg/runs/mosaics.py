"""Publish the mosaics of scenes that have several sheets, once their sheets are there.

The files of a mosaic are replaced one by one, each of them whole, and each names only sheets that are whole. Sheets
that no mosaic names any more are deleted last. So a program that opens a mosaic at any moment sees the scene as it was
before or as it is after, never a part of it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from batchseg.egress import encode_text
from batchseg.layers.layer import Layer
from batchseg.ledger.keys import SheetKey
from batchseg.ledger.ledger import Ledger
from batchseg.ledger.records import Record, SheetRecord
from batchseg.output.mosaic import Mosaic, MosaicSheet, make_vrt, write_index
from batchseg.output.sheet import is_sheet_file
from batchseg.output.sidecars import make_qml
from batchseg.output.stored import ZarrLayout
from batchseg.paths import sheets_folder
from batchseg.resolve.job import Job, SceneJob
from batchseg.store import Store


def publish_mosaics(job: Job, store: Store) -> None:
    """Write the mosaics of all scenes that have several sheets. No worker may be making a sheet meanwhile."""
    scenes = [scene for scene in job.scenes.values() if not scene.zarr.is_one_sheet]
    if not scenes:
        return
    ledger = Ledger(store)
    records, sheets = list(ledger.read_records()), {sheet.key: sheet for sheet in ledger.read_sheets()}
    for scene in scenes:
        published = [sheets[key] for key in job.list_sheets(scene) if key in sheets]
        if published:
            _publish(job, store, scene, [record for record in records if record.key.scene == scene.name], published)


def _publish(job: Job, store: Store, scene: SceneJob, records: Sequence[Record], sheets: Sequence[SheetRecord]) -> None:
    name, layout, areas_km2 = scene.name, scene.zarr, job.sum_areas_km2(records)
    for layer in layout.layers:
        mosaic = Mosaic(
            georef=layout.georef,
            layer=layer,
            counts=_count_ids(job, layer, records) if layer.name == "labels" else None,
            area_km2=areas_km2.get(layer.name),
            num_levels=len(layout.levels),
            sheets=tuple(
                MosaicSheet(_find_geotiff(sheet, layer, name), job.sheet_window(sheet.key)) for sheet in sheets
            ),
        )
        store.put(f"{name}/{layer.name}.qml", encode_text(make_qml(layer)))
        if mosaic.has_index:
            with store.scratch() as folder:
                path = folder / "index.gpkg"
                write_index(mosaic, path)
                store.put_file(f"{name}/{layer.name}.gti.gpkg", path)
        store.put(f"{name}/{layer.name}.vrt", encode_text(make_vrt(mosaic)))
    _sweep(store, layout, sheets)


def _count_ids(job: Job, layer: Layer, records: Sequence[Record]) -> tuple[int, ...]:
    counts = np.zeros(layer.highest + 1, np.int64)
    for record in records:
        counts[[c.id for c in job.classes]] += record.measured.class_px
    return tuple(counts.tolist())


def _find_geotiff(sheet: SheetRecord, layer: Layer, scene: str) -> str:
    """The GeoTIFF of a layer among the files of a sheet, relative to the scene's folder."""
    begin = f"{sheets_folder(scene)}/{layer.name}_{_cell(sheet.key)}-"
    (key,) = (s.key for s in sheet.objects if s.key.startswith(begin) and s.key.endswith(".tif"))
    return key.removeprefix(f"{scene}/")


def _cell(key: SheetKey) -> str:
    return f"{key.row}_{key.col}"


def _sweep(store: Store, layout: ZarrLayout, sheets: Sequence[SheetRecord]) -> None:
    """Delete the files of sheets that were made again since."""
    named = {stored.key for sheet in sheets for stored in sheet.objects}
    for key in [key for key, _ in store.names(sheets_folder(layout.scene))]:
        if key not in named and is_sheet_file(key, layout):
            store.delete(key)
