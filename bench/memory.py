"""Peak resident memory of worker and driver for growing rasters; it must not grow with them.

    python -m bench.memory [--sizes 6144 12288 24576 32768] [--folder DIR]

The model is cheap; source, sink, ledger and GeoTIFFs are real. The worker is a Ray actor, so that it and the driver are
separate processes. Each size runs in its own process. From 12k² on, peaks should lie within 10 % or 150 MB.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.transform import Affine

from batchseg.engine.segment import Model
from batchseg.ledger.ledger import Ledger
from batchseg.recipe import Fleet, Models, PoolSpec, Recipe
from batchseg.resolve.job import Job
from batchseg.runs.session import run
from batchseg.store import LocalStore
from batchseg.tiers import Tier
from batchseg.workers.worker import WorkerSpec

PATTERN_PX = 2048


class BrightnessSegmenter:
    """A very cheap model, whose labels vary like those of a map."""

    batch = 4

    def __call__(self, x_NBHW: NDArray[Any], /) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        return x_NBHW[:, 0] // 48, x_NBHW[:, 1] // 2 + 100


def open_cheap_models(job: Job, spec: WorkerSpec) -> tuple[dict[Tier, Model], dict[str, str]]:
    ids = np.array([c.id for c in job.classes], np.uint8)
    models = {tier: Model(BrightnessSegmenter(), m.halo_px, ids) for tier, m in job.models.items()}
    return models, {"device": spec.device, "model": "brightness"}


def write_raster(path: Path, size_px: int) -> None:
    """Write smooth hills with some noise, repeated: realistic for the codecs, and quick to make."""
    rows, cols = np.mgrid[:PATTERN_PX, :PATTERN_PX] * (2 * np.pi / PATTERN_PX)
    hills = 120 + 60 * np.sin(5 * rows) * np.cos(3 * cols) + 30 * np.sin(17 * cols + 4 * rows)
    noise = np.random.default_rng(0).normal(0, 4, (3, PATTERN_PX, PATTERN_PX))
    pattern = np.clip(hills + noise, 1, 255).astype(np.uint8)
    profile = {
        "driver": "GTiff", "dtype": "uint8", "count": 3, "width": size_px, "height": size_px, "tiled": True,
        "blockxsize": 512, "blockysize": 512, "compress": "deflate", "zlevel": 1, "photometric": "rgb",
        "bigtiff": "if_safer", "crs": "EPSG:32633", "transform": Affine(0.5, 0, 500_000, 0, -0.5, 5_000_000),
    }  # fmt: skip
    with rasterio.open(path, "w", **profile) as file:
        for row in range(0, size_px, PATTERN_PX):
            for col in range(0, size_px, PATTERN_PX):
                height, width = min(PATTERN_PX, size_px - row), min(PATTERN_PX, size_px - col)
                file.write(pattern[:, :height, :width], window=rasterio.windows.Window(col, row, width, height))


def measure_run(scene: Path, output: Path) -> None:
    """Run in this process, and print both peaks."""
    from jobs.cluster.pool import open_ray_pool

    recipe = Recipe(scenes=(str(scene),), output=str(output), models=Models(bulk="zoo:synthetic-bulk"))
    fleet = Fleet(pools=(PoolSpec(cpus=1.0),))
    outcome = run(recipe, fleet, open_pool=partial(open_ray_pool, open_models=open_cheap_models))
    stints = list(Ledger(LocalStore(output)).read_stints())
    print(json.dumps({
        "exit_status": outcome.exit_status,
        "worker_mb": max(stint.peak_rss_bytes for stint in stints) / 1e6,
        "driver_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6,
        "wall_s": outcome.metrics.wall_s,
        "chunks": outcome.metrics.chunks.done,
    }))  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[6144, 12288, 24576, 32768], help="sides in pixels")
    parser.add_argument("--folder", type=Path, help="folder for temporary files")
    parser.add_argument("--child", nargs=2, type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        measure_run(*args.child)
        return
    print(f"{'size':>8} {'chunks':>7} {'worker MB':>10} {'driver MB':>10} {'wall s':>8}")
    for size_px in args.sizes:
        with TemporaryDirectory(dir=args.folder) as folder:
            scene, output = Path(folder) / "scene.tif", Path(folder) / "out"
            write_raster(scene, size_px)
            child = subprocess.run(
                [sys.executable, __file__, "--child", scene, output],
                check=True,
                stdout=subprocess.PIPE,
                text=True,
                env=os.environ | {"PYTHONPATH": str(Path(__file__).parent)},
            )
        figures = json.loads(child.stdout.splitlines()[-1])
        print(
            f"{size_px:>8} {figures['chunks']:>7} {figures['worker_mb']:>10.0f} {figures['driver_mb']:>10.0f} "
            f"{figures['wall_s']:>8.1f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
