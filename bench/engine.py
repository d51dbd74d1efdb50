"""The share of the bare model's speed that a whole run keeps, and where the rest goes.

    python -m bench.engine [--size 12288] [--models zoo:synthetic-heavy zoo:synthetic-bulk] [--folder DIR]

It measures on one scene, in one run: the bare forward over as many tiles as the scene has, decoding alone, encoding
alone (the Zarr and the GeoTIFFs), and the whole command in its own process, with start-up and reports. The last figures
are the shares of the bare forward's speed that are left: with the whole command, and without its start-up.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from batchseg.ledger.ledger import Ledger
from batchseg.model.bundle import open_bundle
from batchseg.model.segmenter import open_segmenter
from batchseg.output.sheet import make_sheet
from batchseg.output.stored import read_chunk, write_chunk
from batchseg.recipe import Models, Recipe
from batchseg.reports.metrics import read_metrics
from batchseg.resolve.resolve import Resolved, resolve
from batchseg.store import LocalStore
from batchseg.synth import write_scene

RECIPE = """scenes: [{scene}]
output: {output}
models: {{bulk: "{model}"}}
"""


def measure_forward_s(ref: str, num_tiles: int, core_px: int) -> float:
    """Time of full batches of noise, one after the other.

    It is measured before and after the whole run. If the two differ much, another program used the machine, and the
    ratios mean nothing.
    """
    bundle = open_bundle(ref)
    side_px = core_px + 2 * bundle.contract.halo_px
    segmenter = open_segmenter(bundle, device="cpu", tile_px=side_px, halo_px=bundle.contract.halo_px)
    x = np.random.default_rng(0).integers(1, 255, (segmenter.batch, 3, side_px, side_px), dtype=np.uint8)
    for _ in range(3):
        segmenter(x)
    num_batches = -(-num_tiles // segmenter.batch)
    begun_s = time.perf_counter()
    for _ in range(num_batches):
        segmenter(x)
    return time.perf_counter() - begun_s


def measure_decode_s(resolved: Resolved) -> float:
    job = resolved.job
    scene = next(iter(job.scenes.values()))
    source = scene.open_source()
    begun_s = time.perf_counter()
    for key in job.list_chunks(scene):
        source.read(job.window(key).grow(job.halo_px).clip(scene.shape_px))
    return time.perf_counter() - begun_s


def measure_encode_s(resolved: Resolved, output: Path, scratch: Path) -> float:
    """Write the Zarr of the run again, then its GeoTIFFs."""
    job = resolved.job
    scene = next(iter(job.scenes.values()))
    there, again = LocalStore(output), LocalStore(scratch)
    records = {record.key: record for record in Ledger(there).read_records()}
    spent_s = 0.0
    for key, record in records.items():
        window = job.window(key)
        layers = {one.name: read_chunk(there, scene.zarr, one, window, record.objects) for one in scene.zarr.layers}
        begun_s = time.perf_counter()
        write_chunk(again, scene.zarr, window, layers)
        spent_s += time.perf_counter() - begun_s
    begun_s = time.perf_counter()
    make_sheet(again, job.make_sheet_work(job.list_sheets(scene)[0], records.values()), records)
    return spent_s + time.perf_counter() - begun_s


def measure_model(model: str, scene: Path, folder: Path) -> None:
    output = folder / "out"
    recipe_path = folder / "recipe.yaml"
    recipe_path.write_text(RECIPE.format(scene=scene, output=output, model=model))
    resolved = resolve(Recipe(scenes=(str(scene),), output=str(output), models=Models(bulk=model)))
    num_tiles = len(resolved.job.lattice(next(iter(resolved.job.scenes.values()))))
    before_s = measure_forward_s(model, num_tiles, resolved.job.core_px)
    begun_s = time.perf_counter()
    subprocess.run([sys.executable, "-m", "jobs", "run", recipe_path, "--quiet"], check=True, stdout=subprocess.DEVNULL)
    whole_s = time.perf_counter() - begun_s
    after_s = measure_forward_s(model, num_tiles, resolved.job.core_px)
    forward_s = (before_s + after_s) / 2
    read_s = measure_decode_s(resolved)
    write_s = measure_encode_s(resolved, output, folder / "again")
    metrics = read_metrics(LocalStore(output))
    stint = next(Ledger(LocalStore(output)).read_stints())
    print(f"{model}: bare forward before {before_s:.1f} s, after {after_s:.1f} s")
    print_figures(model, num_tiles, metrics.valid_px / 1e6, forward_s, read_s, write_s, whole_s, stint.start_s)
    price = metrics.cost_usd / (stint.beat_unix_s - stint.begun_unix_s)
    stages = ", ".join(f"{part} {usd / price:.1f} s" for part, usd in metrics.cost.parts.items() if usd)
    outside_s = whole_s - (stint.beat_unix_s - stint.begun_unix_s)
    print(f"  inside the worker: {stages}; outside of it (imports, resolve, reports): {outside_s:.1f} s", flush=True)


def print_figures(  # noqa: PLR0913, PLR0917 - one number per column
    model: str, tiles: int, mpx: float, forward_s: float, read_s: float, write_s: float, whole_s: float, start_s: float
) -> None:
    print(
        f"{model}: {tiles} tiles, {mpx:.1f} Mpx; bare forward {forward_s:.1f} s ({mpx / forward_s:.2f} Mpx/s), "
        f"decode {read_s:.1f} s, encode {write_s:.1f} s, whole {whole_s:.1f} s ({mpx / whole_s:.2f} Mpx/s), of it "
        f"start {start_s:.1f} s\n  whole / bare forward {forward_s / whole_s:.3f}, without start "
        f"{forward_s / (whole_s - start_s):.3f}; forward + decode + encode / whole "
        f"{(forward_s + read_s + write_s) / whole_s:.3f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=12288, help="side of the scene in pixels (default 12288)")
    parser.add_argument(
        "--models", nargs="+", default=["zoo:synthetic-heavy", "zoo:synthetic-bulk"], help="bundles to run"
    )
    parser.add_argument("--folder", type=Path, help="folder for temporary files")
    args = parser.parse_args()
    # Installed packages have bytecode. Without it, each run would compile a hundred files, which takes 0.4 s.
    subprocess.run([sys.executable, "-m", "compileall", "-q", "batchseg", "jobs", "tiling"], check=True)
    with TemporaryDirectory(dir=args.folder) as folder:
        write_scene(Path(folder) / "input", size_px=args.size, seed=5)
        os.sync()  # otherwise the scene would still be written to the disk while a run writes its own files
        for number, model in enumerate(args.models):
            place = Path(folder) / str(number)
            place.mkdir()
            measure_model(model, Path(folder) / "input" / "scene.tif", place)


if __name__ == "__main__":
    main()
