"""The size of a run's output: its bytes and the number of its files.

Theory of operation
-------------------
The number of files follows from the grids alone; only empty ground, which has no files, makes it smaller. The bytes
depend on the pictures: labels of even ground and confidences of a sure model compress well. So a size is an estimate,
and the real one lies between half of it and twice of it (`TOLERANCE`). Confidence takes most of it, in both formats.
"""

from __future__ import annotations

import math
import shutil
from pathlib import Path

from batchseg.errors import RecipeError
from batchseg.layers.layer import Layer
from batchseg.ledger.segments import SEGMENT_RECORDS
from batchseg.output.stored import ZarrLayout
from batchseg.resolve.job import Job, SceneJob
from batchseg.scene.polygons import find_touched_tiles

TOLERANCE = 2.0
"""Factor between an estimated size and the smallest or largest real one."""
BYTES_PER_PX = {"labels": 0.2, "confidence": 1.5, "tier": 0.02}
"""Bytes per pixel of a layer, in the Zarr and the GeoTIFF together, with all coarser levels. Confidences took 1.9 on
drone and aerial imagery and 0.9 on the synthetic scene; labels of two to five classes took 0.1 to 0.25."""
BYTES_PER_PX_BY_KIND = {"classes": 0.2, "measure": 1.5}
"""The same for a layer that is not in `BYTES_PER_PX`."""
PAGE_SCENES, PAGE_MAP_PX, PAGE_CROPS_PX = 24, 600_000, 8 * 256**2
"""The most scenes with pictures in report.html, and the most pixels per scene of their maps and of their crops."""
PAGE_BYTES, PAGE_BYTES_PER_PX = 60_000, 1.3
SMALL_OBJECT_BYTES = 1_500
"""Size of a record, a sidecar or a file of metadata."""
RUN_OBJECTS = 11
"""Files that every run has once: recipe, plan, lease, claim, session, stint, log, exit status, and three reports."""
ZARR_GROUP_OBJECTS, ZARR_ARRAY_OBJECTS = 3, 2
"""Files of metadata per group and per array."""
ZARR_AXES, ZARR_AXIS_CHUNKS = 3, 2
"""Arrays of a group beside its layers, and their stored chunks: y, x, and spatial_ref, which has none."""


def estimate_output_bytes(job: Job) -> int:
    """Estimate the size of the whole output."""
    sizes = [(scene, math.prod(scene.shape_px) * measure_wanted_share(job, scene)) for scene in _scenes(job)]
    rasters = sum(px * estimate_bytes_per_px(layer) for scene, px in sizes for layer in scene.zarr.layers)
    page_px = sum(min(px, PAGE_MAP_PX) + min(px, PAGE_CROPS_PX) for _, px in sizes[:PAGE_SCENES])
    stored = sum(_count_stored(scene.zarr) for scene in _scenes(job))
    small = SMALL_OBJECT_BYTES * (count_objects(job) - stored)
    return int(rasters + PAGE_BYTES + PAGE_BYTES_PER_PX * page_px + small)


def _scenes(job: Job) -> list[SceneJob]:
    return list(job.scenes.values())


def estimate_bytes_per_px(layer: Layer) -> float:
    return BYTES_PER_PX.get(layer.name, BYTES_PER_PX_BY_KIND[layer.kind])


def measure_wanted_share(job: Job, scene: SceneJob) -> float:
    """Measure the share of a scene's chunks that touch the area of interest."""
    if scene.aoi is None:
        return 1.0
    grid = job.chunk_grid(scene)
    return len(find_touched_tiles((scene.aoi,), grid)) / len(grid)


def count_objects(job: Job) -> int:
    """Count the files, or the objects, of the whole output; empty ground has fewer."""
    num_chunks = sum(len(job.chunk_grid(scene)) for scene in _scenes(job))
    num_records = num_chunks // SEGMENT_RECORDS + num_chunks % SEGMENT_RECORDS
    return RUN_OBJECTS + num_records + sum(_count_scene_objects(scene) for scene in _scenes(job))


def _count_scene_objects(scene: SceneJob) -> int:
    layout = scene.zarr
    num_layers, num_sheets, num_groups = len(layout.layers), len(layout.sheets), 1 + len(layout.levels)
    arrays = num_layers + ZARR_AXES
    metadata = num_groups * (ZARR_GROUP_OBJECTS + ZARR_ARRAY_OBJECTS * arrays + ZARR_AXIS_CHUNKS)
    # A GeoTIFF, its style and, for classes, their names; a record per sheet.
    sheets = num_sheets * (1 + sum(3 if layer.kind == "classes" else 2 for layer in layout.layers))
    mosaic = 0 if layout.is_one_sheet else 3 * num_layers
    views = 2 * num_layers
    others = 1 + (scene.priority is not None)  # item.json, run/priority/SCENE.wkb
    return _count_stored(layout) + metadata + views + sheets + mosaic + others


def _count_stored(layout: ZarrLayout) -> int:
    """Count the stored chunks of all layers and levels."""
    grids = (layout.stored_grid, *(level.stored_grid for level in layout.levels))
    return len(layout.layers) * sum(map(len, grids))


def describe_bytes_per_px(layers: tuple[Layer, ...]) -> str:
    """Describe the constants of the estimate, for people."""
    parts = ", ".join(f"{layer.name} {estimate_bytes_per_px(layer):g}" for layer in layers)
    return f"output: bytes per pixel in both formats: {parts}; the real size is half to twice as much"


def check_disk(output_bytes: int, output: Path) -> str | None:
    """Refuse a run whose output cannot fit on the disk of its folder; return a warning where it may not fit."""
    existing = next(folder for folder in (output, *output.absolute().parents) if folder.exists())
    free_bytes = shutil.disk_usage(existing).free
    if output_bytes / TOLERANCE > free_bytes:
        raise RecipeError(
            "the output must fit on the disk of its folder",
            where=f"output: {output}",
            expected=f"at most {free_bytes / 1e9:.1f} GB",
            got=f"{output_bytes / TOLERANCE / 1e9:.1f} GB or more",
            todo="free some space or give another output folder",
        )
    if output_bytes * TOLERANCE > free_bytes:
        return f"the output may not fit on its disk, which has {free_bytes / 1e9:.1f} GB left"
    return None
