"""Runs over hard scenes, and the checks that all of their valid ground is labelled.

What is valid is found here by rasterio alone. Two models tell much: one says the same everywhere, so that a label
stands exactly where a pixel is valid; the other gives its input back, so that a label tells which pixel it saw.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray
from rasterio.errors import NotGeoreferencedWarning, RasterioIOError
from rasterio.windows import Window as GdalWindow

from batchseg.classes import ClassInfo
from batchseg.engine.segment import Model, Segmenter
from batchseg.ledger import lease as driver
from batchseg.ledger.ledger import Ledger
from batchseg.recipe import Fleet, Models, Tiling
from batchseg.resolve.job import Job
from batchseg.runs.session import Outcome
from batchseg.store import LocalStore
from batchseg.tiers import Tier
from batchseg.workers.pool import DEPTH, LocalPool, Pool
from batchseg.workers.worker import Worker, WorkerSpec
from tests.fakes import ConstantSegmenter, ReachSegmenter
from tests.runs import Workplace, write_fake_bundle

BYTES = tuple(ClassInfo(id=i, name=f"value {i}", rgb=(i, i, i)) for i in range(255))
"""A class for each value that a byte can hold beside nodata."""


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody else claims these folders, so no run has to wait and see."""
    monkeypatch.setattr(driver, "SETTLE_S", 0.0)


def pool_of(segmenter: Callable[[], Segmenter]) -> Callable[[Job, LocalStore, Fleet], Pool]:
    """One worker whose tiers all use this model."""

    def models(job: Job, _: WorkerSpec) -> tuple[dict[Tier, Model], dict[str, str]]:
        dtype = next(iter(job.scenes.values())).zarr.layer("labels").dtype
        ids = np.array([c.id for c in job.classes], dtype)
        return {tier: Model(segmenter(), m.halo_px, ids) for tier, m in job.models.items()}, {"model": "fake"}

    def open_pool(job: Job, store: LocalStore, fleet: Fleet) -> Pool:
        spec = WorkerSpec.new(pool=fleet.pools[0].name, device="cpu", usd_per_hour=1.0)
        return LocalPool(lambda: Worker(spec, job, store, models).open(), depth=DEPTH)

    return open_pool


CONSTANT, VALUES = pool_of(ConstantSegmenter), pool_of(ReachSegmenter)


def place_of(folder: Path, *scenes: Path, **changes: Any) -> Workplace:
    bundle = write_fake_bundle(folder / "bytes", classes=BYTES, range=(0.0, 254.0))
    values = {"models": Models(bulk=bundle), "bands": (1, 1, 1), "accept": ("gsd", "dtype")}
    return Workplace(folder, tuple(map(str, scenes)), values | changes)


@contextmanager
def opened(path: Path) -> Any:
    """A scene without a place is no surprise here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path) as dataset:
            yield dataset


def placement(dataset: Any) -> dict[str, Any]:
    """All that says where a raster lies, but for its coordinate system."""
    points, points_crs = dataset.gcps
    return {
        "size": (dataset.width, dataset.height),
        "transform": dataset.transform,
        "gcps": [(p.row, p.col, p.x, p.y, p.z or 0.0) for p in points],
        "gcps_crs": points_crs if points else None,
        "rpcs": dataset.rpcs.to_dict() if dataset.rpcs else None,
    }


def valid_of(dataset: Any, window: GdalWindow | None = None) -> NDArray[np.bool_]:
    """What is valid of band 1 by rasterio's own logic."""
    valid_HW = dataset.read_masks(1, window=window) > 0
    if dataset.dtypes[0].startswith("float"):
        valid_HW &= np.isfinite(dataset.read(1, window=window))
    return valid_HW


def readable(dataset: Any, window: GdalWindow) -> bool:
    try:
        dataset.read(window=window)
        dataset.read_masks(window=window)
    except RasterioIOError:
        return False
    return True


def expected_valid(scene: Path, tiling: Tiling, *, halo_px: int) -> tuple[NDArray[np.bool_], set[str]]:
    """Valid pixels of all chunks that can be read with their halo, and the names of those that cannot."""
    with opened(scene) as dataset:
        whole = GdalWindow(0, 0, dataset.width, dataset.height)
        if readable(dataset, whole):
            return valid_of(dataset), set()
        valid_HW, lost = np.zeros(dataset.shape, bool), set()
        for row in range(-(-dataset.height // tiling.chunk)):
            for col in range(-(-dataset.width // tiling.chunk)):
                top, left, side = row * tiling.chunk, col * tiling.chunk, tiling.chunk
                core = GdalWindow(left, top, side, side).intersection(whole)
                grown = GdalWindow(left - halo_px, top - halo_px, side + 2 * halo_px, side + 2 * halo_px)
                if readable(dataset, grown.intersection(whole)):
                    valid_HW[core.toslices()] = valid_of(dataset, core)
                else:
                    lost.add(f"{scene.stem}/{row}_{col}")
        return valid_HW, lost


def product(folder: Path, layer: str) -> Path:
    """A layer as an analyst opens it: one file, or the mosaic of a scene that is cut into sheets."""
    whole = folder / f"{layer}.tif"
    return whole if whole.exists() else folder / f"{layer}.vrt"


def check_rasters(scene: Path, folder: Path, valid_HW: NDArray[np.bool_], layers: tuple[str, ...]) -> None:
    """Every layer lies where the scene lies, and holds data exactly where the scene does."""
    with opened(scene) as dataset:
        wanted, crs = placement(dataset), dataset.crs
    for layer in layers:
        with opened(product(folder, layer)) as made:
            assert placement(made) == wanted
            # GeoTIFF spells out defaults of some systems that have no number.
            assert made.crs == crs or made.crs.to_proj4() == crs.to_proj4()
            for top in range(0, made.height, 2048):  # the largest has 648 million pixels
                stripe = GdalWindow(0, top, made.width, min(2048, made.height - top))
                labelled_HW = made.read(1, window=stripe) != made.nodata
                np.testing.assert_array_equal(labelled_HW, valid_HW[stripe.toslices()], err_msg=layer)


def check_books(outcome: Outcome, valid_HW: NDArray[np.bool_], lost: set[str]) -> None:
    """Status, reports and ledger tell the same story as the pixels."""
    metrics = outcome.metrics
    assert outcome.exit_status == (3 if lost else 0)
    assert metrics.valid_px == int(valid_HW.sum())
    assert set(metrics.quarantined) == lost
    assert metrics.chunks.failed == len(lost)
    assert metrics.chunks.not_run == 0
    sheets = list(Ledger(LocalStore(outcome.output)).read_sheets())
    assert sheets
    assert {str(key) for sheet in sheets for key in sheet.missing} == lost
    told = json.loads((outcome.output / "run" / "exit.json").read_text())
    assert told["exit_status"] == outcome.exit_status
    table = geopandas.read_parquet(outcome.output / "ledger.parquet")
    assert set(table.kind) <= {"done", "empty", "failed"}
    assert int((table.kind == "failed").sum()) == len(lost)
    if metrics.scenes[table.scene[0]].area_note is None:
        assert not table.geometry.is_empty.any()
        assert not table.geometry.isna().any(), "ground is missing from the map of the ledger"


def check_values(place: Workplace, exact_HW: NDArray[np.float64], valid_HW: NDArray[np.bool_]) -> None:
    """Each label is the rounded input of its pixel. A half may go either way: the engine counts in float32."""
    (scene,) = place.scenes
    check_rasters(Path(scene), place.output / Path(scene).stem, valid_HW, ("labels", "confidence", "tier"))
    with opened(place.output / Path(scene).stem / "labels.tif") as made:
        labels_HW = made.read(1).astype(np.float64)
    assert np.abs(labels_HW - exact_HW)[valid_HW].max() <= 0.5 + 1e-3
