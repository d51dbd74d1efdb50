"""Every key that a run writes to. What else lies in its output folder is not the run's, and the run leaves it alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from batchseg.output.stored import ZarrLayout
from batchseg.paths import (
    BATCH_KEY,
    CLAIMS_FOLDER,
    EXIT_KEY,
    INDEX_KEY,
    LATEST_KEY,
    LEASE_KEY,
    LOG_FOLDER,
    LOG_KEY,
    METRICS_KEY,
    NIGHTS_FOLDER,
    PAGE_KEY,
    PILOT_KEY,
    PLAN_KEY,
    PRIORITY_FOLDER,
    QUARANTINE_FOLDER,
    RECIPE_KEY,
    RECORDS_FOLDER,
    SEGMENTS_FOLDER,
    SESSIONS_FOLDER,
    SHEET_RECORDS_FOLDER,
    STINTS_FOLDER,
    TABLE_KEY,
    OutputKeys,
    item_key,
    sheets_folder,
    zarr_view_key,
)

LEASE_KEYS = OutputKeys(frozenset({LEASE_KEY, EXIT_KEY}), frozenset({SESSIONS_FOLDER, CLAIMS_FOLDER}))
"""The keys that a driver writes to before anything else."""
NIGHT_KEYS = OutputKeys(LEASE_KEYS.files | {INDEX_KEY, BATCH_KEY, LATEST_KEY}, LEASE_KEYS.folders | {NIGHTS_FOLDER})
"""The keys of a folder of nights; the runs of the nights have folders of their own in it."""
_RUN_FILES = (RECIPE_KEY, PLAN_KEY, PILOT_KEY, LOG_KEY, METRICS_KEY, TABLE_KEY, PAGE_KEY)
_RUN_FOLDERS = (SEGMENTS_FOLDER, STINTS_FOLDER, LOG_FOLDER, PRIORITY_FOLDER)
_TASK_FOLDERS = (RECORDS_FOLDER, SHEET_RECORDS_FOLDER, QUARANTINE_FOLDER)


def list_output_keys(layouts: Iterable[ZarrLayout]) -> OutputKeys:
    """List the keys of a run over these scenes."""
    files, folders = {*LEASE_KEYS.files, *_RUN_FILES}, {*LEASE_KEYS.folders, *_RUN_FOLDERS, *_TASK_FOLDERS}
    for layout in layouts:
        files |= {item_key(layout.scene), *_list_files(layout)}
        folders |= {*_list_zarr_folders(layout), *(f"{folder}/{layout.scene}" for folder in _TASK_FOLDERS)}
        if not layout.is_one_sheet:
            folders.add(sheets_folder(layout.scene))
    return OutputKeys(frozenset(files), frozenset(folders))


def _list_files(layout: ZarrLayout) -> Iterator[str]:
    """The files for analysts in the scene's own folder."""
    suffixes = (".tif", ".tif.aux.xml", ".qml") if layout.is_one_sheet else (".vrt", ".gti.gpkg", ".qml")
    yield from (f"{layout.scene}/{layer.name}{suffix}" for layer in layout.layers for suffix in suffixes)
    yield from (
        zarr_view_key(layout.scene, layer.name, suffix) for layer in layout.layers for suffix in (".vrt", ".qml")
    )


def _list_zarr_folders(layout: ZarrLayout) -> Iterator[str]:
    groups = [layout.root, *(f"{layout.root}/{level.number}" for level in layout.levels)]
    arrays = (*(layer.name for layer in layout.layers), "y", "x", "spatial_ref")
    return (folder for group in groups for folder in (group, *(f"{group}/{array}" for array in arrays)))
