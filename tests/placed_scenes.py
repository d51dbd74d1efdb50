"""One small picture in many places: a scene whose labels are known, written with any georeference."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.transform import Affine

from batchseg.engine.segment import Model
from batchseg.recipe import Fleet
from batchseg.resolve.job import Job
from batchseg.store import LocalStore
from batchseg.tiers import Tier
from batchseg.workers.pool import DEPTH, LocalPool, Pool
from batchseg.workers.worker import Worker, WorkerSpec

PATCH_PX = 16
ROWS, COLS = 5, 6
STEP = 50


@dataclass(frozen=True, slots=True)
class Place:
    crs: str
    transform: Affine


PLACES = {
    "utm": Place("EPSG:32633", Affine(10, 0, 440_000, 0, -10, 5_700_000)),
    "geographic": Place("EPSG:4326", Affine(1e-4, 0, 11.5, 0, -1e-4, 48.2)),
    "web_mercator": Place("EPSG:3857", Affine(9.5, 0, 1_280_000, 0, -9.5, 6_130_000)),
    "polar": Place("EPSG:3031", Affine(100, 0, -1_500_000, 0, -100, 900_000)),
    "south_up": Place("EPSG:32633", Affine(10, 0, 440_000, 0, 10, 5_690_000)),
    "rotated": Place("EPSG:32633", Affine(8, -6, 440_000, -6, -8, 5_700_000)),
    "antimeridian": Place("EPSG:32601", Affine(100, 0, 354_000, 0, -100, 7_200_000)),
    "antimeridian_degrees": Place("EPSG:4326", Affine(1e-3, 0, 179.95, 0, -1e-3, -16.5)),
}


def expected_labels() -> NDArray[np.uint8]:
    """Patches of classes 0 to 4, without any symmetry."""
    patches = np.array([[(3 * r * r + 2 * c + r * c) % 5 for c in range(COLS)] for r in range(ROWS)], np.uint8)
    return patches.repeat(PATCH_PX, 0).repeat(PATCH_PX, 1)


def picture() -> NDArray[np.uint8]:
    """What `PatchSegmenter` labels as expected; a corner of it is nodata."""
    labels_HW = expected_labels()
    bands = np.stack([labels_HW * STEP + 20, 90 + labels_HW * 10, 200 - labels_HW * 30]).astype(np.uint8)
    bands[:, :PATCH_PX, :PATCH_PX] = 0
    return bands


class PatchSegmenter:
    """Classes by the brightness of the first band."""

    batch = 2

    def __call__(self, x_NBHW: NDArray[Any], /) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        labels_NHW = np.clip((x_NBHW[:, 0].astype(int) - 20) // STEP, 0, 4).astype(np.uint8)
        return labels_NHW, (150 + 25 * labels_NHW).astype(np.uint8)


def patch_models(job: Job, spec: WorkerSpec) -> tuple[dict[Tier, Model], dict[str, str]]:
    ids = np.array([c.id for c in job.classes], np.uint8)
    models = {tier: Model(PatchSegmenter(), m.halo_px, ids) for tier, m in job.models.items()}
    return models, {"device": spec.device, "model": "patches"}


def patch_pool(job: Job, store: LocalStore, fleet: Fleet) -> Pool:
    spec = WorkerSpec.new(pool="p", device="cpu", usd_per_hour=fleet.pools[0].usd_per_hour)
    return LocalPool(lambda: Worker(spec, job, store, patch_models).open(), depth=DEPTH)


def write_placed(folder: Path, name: str) -> str:
    from tests.runs import write_scene

    place = PLACES[name]
    profile = {"crs": CRS.from_string(place.crs), "transform": place.transform, "nodata": 0}
    return write_scene(folder / f"{name}.tif", picture(), **profile)
