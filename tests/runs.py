"""Whole runs in a temporary folder, with real rasters and stores, and models that are quick and strict."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.transform import Affine

from batchseg.classes import ClassInfo
from batchseg.engine.segment import Model
from batchseg.model.architecture import BulkNetSpec
from batchseg.model.bundle import write_bundle
from batchseg.model.contract import Contract, Numerics
from batchseg.recipe import Fleet, Models, Recipe, Tiling
from batchseg.recipe.recipe import Halo
from batchseg.resolve.job import Job
from batchseg.runs.session import Options, Outcome, run
from batchseg.scene.bands import BandWanted
from batchseg.store import LocalStore, Store
from batchseg.tiers import Tier
from batchseg.workers.pool import DEPTH, LocalPool, Pool
from batchseg.workers.worker import Worker, WorkerSpec
from tests.fakes import ContextSegmenter

CLASSES = tuple(ClassInfo(id=i, name=f"class {i}", rgb=(40 * i, 20, 200)) for i in range(5))
WEIGHTS_OF_NOBODY = (2).to_bytes(8, "little") + b"{}"
"""A file of safetensors without a tensor."""
UTM = rasterio.crs.CRS.from_epsg(32633).to_wkt()


def write_fake_bundle(folder: Path, **changes: Any) -> str:
    """A bundle whose contract is real and whose weights nobody reads."""
    values: dict[str, Any] = {
        "name": folder.name,
        "tier": "bulk",
        "bands": tuple(BandWanted(name=name, common=name) for name in ("red", "green", "blue")),
        "dtype": "uint8",
        "range": (0.0, 255.0),
        "mean": (90.0, 100.0, 110.0),
        "std": (50.0, 50.0, 50.0),
        "gsd_m": (0.1, 50.0),
        "classes": CLASSES,
        "halo_px": 8,
        "stride_px": 1,
        "architecture": BulkNetSpec(width=32),
        "numerics": {"cpu": Numerics(backend="torch", precision="float32", batch=3, threads=1)},
    }
    write_bundle(folder, Contract(**(values | changes)), WEIGHTS_OF_NOBODY, created_at="2026-01-01T00:00:00Z")
    return str(folder)


def write_scene(path: Path, pixels_BHW: NDArray[Any], **profile: Any) -> str:
    """A tiled GeoTIFF, 1 m, UTM 33N."""
    bands, height, width = pixels_BHW.shape
    values = {
        "driver": "GTiff",
        "dtype": pixels_BHW.dtype,
        "count": bands,
        "height": height,
        "width": width,
        "crs": UTM,
        "transform": Affine(1.0, 0.0, 500_000.0, 0.0, -1.0, 5_000_000.0),
    } | profile
    with rasterio.open(path, "w", **values) as file:
        file.write(pixels_BHW)
        for number, name in enumerate(("red", "green", "blue", "nir")[:bands], start=1):
            file.set_band_description(number, name)
    return str(path)


def noise(height: int, width: int, *, seed: int = 0, bands: int = 3) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(1, 255, (bands, height, width), dtype=np.uint8)


def fake_models(job: Job, spec: WorkerSpec) -> tuple[dict[Tier, Model], dict[str, str]]:
    """Another segmenter for each tier, so that a wrong route cannot pass."""
    dtype = next(iter(job.scenes.values())).zarr.layer("labels").dtype
    ids = np.array([c.id for c in job.classes], dtype)
    batches: dict[Tier, int] = {"bulk": 3, "heavy": 2}
    models = {tier: Model(ContextSegmenter(batch=batches[tier]), m.halo_px, ids) for tier, m in job.models.items()}
    return models, {"device": spec.device, "model": "fake"}


def fake_pool(job: Job, store: Store, fleet: Fleet) -> Pool:
    first = fleet.pools[0]
    spec = WorkerSpec.new(pool=first.name, device="cpu", usd_per_hour=first.usd_per_hour, read_s=fleet.patience.read_s)
    return LocalPool(lambda: Worker(spec, job, store, fake_models).open(), depth=DEPTH)


@dataclass(frozen=True, slots=True)
class Workplace:
    """A folder with one or more scenes, two bundles and an output."""

    folder: Path
    scenes: tuple[str, ...]
    changes: dict[str, Any] = field(default_factory=dict)

    @staticmethod
    def of(folder: Path, *pixels_BHW: NDArray[Any], **changes: Any) -> Workplace:
        scenes = tuple(write_scene(folder / f"scene{i}.tif", p) for i, p in enumerate(pixels_BHW))
        return Workplace(folder, scenes, changes)

    @property
    def output(self) -> Path:
        return self.folder / "out"

    def recipe(self, **changes: Any) -> Recipe:
        values: dict[str, Any] = {
            "scenes": self.scenes,
            "output": str(self.output),
            "models": Models(bulk=write_fake_bundle(self.folder / "bulk"), heavy=None),
            "tiling": Tiling(core=16, chunk=32, halo=Halo()),
        }
        return Recipe(**(values | self.changes | changes))

    def run(self, *, store: LocalStore | None = None, fleet: Fleet | None = None, **changes: Any) -> Outcome:
        store = store or LocalStore(Path(self.recipe(**changes).output), durable=False)
        return run(
            self.recipe(**changes), fleet, open_pool=fake_pool, options=Options(open_models=fake_models), store=store
        )


def product_bytes(output: Path) -> dict[str, str]:
    """Digests of all that counts as output: GeoTIFFs with their sidecars, and the Zarr."""
    found = {}
    for path in sorted(output.rglob("*")):
        relative = path.relative_to(output)
        product = relative.parts[0] != "run" and len(relative.parts) > 1 and relative.name != "item.json"
        if path.is_file() and product:
            found[relative.as_posix()] = hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest()
    return found
