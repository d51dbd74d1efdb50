"""Start-up times: help, a plan, the first committed chunk, a small scene.

    python -m bench.startup [--rounds 3] [--model zoo:synthetic-heavy]

Every line times whole processes; the least of several rounds counts. *First* means empty caches, so that the graph is
converted and compiled. *Eager* is the same bundle with torch as its backend, which compiles nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import rasterio
from rasterio.transform import from_origin

from batchseg.ledger.ledger import Ledger
from batchseg.model.bundle import open_bundle
from batchseg.store import LocalStore
from batchseg.synth import write_scene

SMALL_PX, CHUNKS_PX, HEADER_PX = 2048, 8192, 200_000


def time_command(arguments: list[str | Path], cache: Path | None = None) -> float:
    env = os.environ | ({} if cache is None else {"BATCHSEG_CACHE": str(cache)})
    begun_s = time.perf_counter()
    subprocess.run([sys.executable, "-m", "jobs", *arguments], check=True, env=env, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begun_s


def write_header_only(path: Path) -> Path:
    """Write a scene without any blocks: planning reads the header only."""
    profile = {"driver": "GTiff", "width": HEADER_PX, "height": HEADER_PX, "count": 3, "dtype": "uint8"}
    place = {"crs": "EPSG:32632", "transform": from_origin(300_000, 5_000_000, 0.5, 0.5)}
    with rasterio.open(
        path, "w", **profile, **place, tiled=True, interleave="pixel", sparse_ok=True, bigtiff="yes", nodata=0
    ) as file:
        file.descriptions = ("red", "green", "blue")
    return path


def write_recipe(folder: Path, name: str, scene: Path, model: str) -> Path:
    path = folder / f"{name}.yaml"
    path.write_text(f"scenes: [{scene}]\noutput: {folder / name}\nmodels: {{bulk: '{model}'}}\n")
    return path


def copy_eager(model: str, folder: Path) -> str:
    """Make a copy of a bundle that runs in torch."""
    copy = folder / "eager"
    shutil.copytree(open_bundle(model).folder, copy)
    item = json.loads((copy / "item.json").read_text())
    item["properties"]["batchseg:numerics"]["cpu"] = {
        "backend": "torch",
        "precision": "bfloat16",
        "batch": 2,
        "threads": 2,
    }
    (copy / "item.json").write_text(json.dumps(item))
    return str(copy)


def time_first_chunk(recipe: Path, output: Path) -> float:
    """Seconds from the command to the first record, without the models' time for that chunk."""
    begun_unix_s = time.time()
    time_command(["run", recipe, "--quiet"])
    first = min(
        (record.attempt for record in Ledger(LocalStore(output)).read_records()), key=lambda one: one.ended_unix_s
    )
    return first.ended_unix_s - begun_unix_s - first.seconds["compute_bulk"]


def make_measurements(args: argparse.Namespace, folder: Path) -> dict[str, Callable[[int], float]]:
    for size_px in (SMALL_PX, CHUNKS_PX):
        write_scene(folder / str(size_px), size_px=size_px, seed=5)
    small, large = (folder / str(size_px) / "scene.tif" for size_px in (SMALL_PX, CHUNKS_PX))
    header, plain = write_header_only(folder / "header.tif"), copy_eager(args.model, folder)

    def run(model: str, name: str, *, fresh: bool = False) -> Callable[[int], float]:
        def timed(number: int) -> float:
            recipe = write_recipe(folder, f"{name}-{number}", small, model)
            return time_command(["run", recipe, "--quiet"], folder / f"cache-{name}-{number}" if fresh else None)

        return timed

    def chunk(number: int) -> float:
        name = f"chunk-{number}"
        return time_first_chunk(write_recipe(folder, name, large, args.model), folder / name)

    return {
        "--help": lambda _: time_command(["--help"]),
        f"plan, {HEADER_PX:,}² of header": lambda _: time_command(
            ["plan", write_recipe(folder, "h", header, args.model)]
        ),
        f"first chunk of {CHUNKS_PX:,}² committed, without its forwards": chunk,
        f"run of {SMALL_PX:,}²": run(args.model, "warm"),
        f"run of {SMALL_PX:,}², first": run(args.model, "cold", fresh=True),
        f"run of {SMALL_PX:,}², eager": run(plain, "eager"),
        f"run of {SMALL_PX:,}², eager, first": run(plain, "eager-cold", fresh=True),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="rounds; the least time counts (default 3)")
    parser.add_argument("--model", default="zoo:synthetic-heavy", help="bundle to run")
    args = parser.parse_args()
    with TemporaryDirectory() as folder:
        timed = make_measurements(args, Path(folder))
        times_s: dict[str, list[float]] = {name: [] for name in timed}
        for number in range(args.rounds):
            for name, time_it in timed.items():
                times_s[name].append(time_it(number))
    print(f"| {args.model} | s |\n|---|---|")
    for name, seconds in times_s.items():
        print(f"| {name} | {min(seconds):.2f} |")


if __name__ == "__main__":
    main()
