"""How long until something happens: help, a plan, the first committed chunk, a small scene.

    python -m bench.start [--rounds 3] [--model zoo:synthetic-heavy]

Every line is of whole processes, the least of so many rounds in turns. *First* means caches that hold nothing of ours:
the graph is converted and compiled. *Eager* is the same bundle with torch as its backend, which has nothing to compile.
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


def seconds_of(arguments: list[str | Path], cache: Path | None = None) -> float:
    env = os.environ | ({} if cache is None else {"BATCHSEG_CACHE": str(cache)})
    begun_s = time.perf_counter()
    subprocess.run([sys.executable, "-m", "jobs", *arguments], check=True, env=env, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begun_s


def header_only(path: Path) -> Path:
    """A scene whose blocks are all missing: planning has no business with them."""
    profile = {"driver": "GTiff", "width": HEADER_PX, "height": HEADER_PX, "count": 3, "dtype": "uint8"}
    place = {"crs": "EPSG:32632", "transform": from_origin(300_000, 5_000_000, 0.5, 0.5)}
    with rasterio.open(
        path, "w", **profile, **place, tiled=True, interleave="pixel", sparse_ok=True, bigtiff="yes", nodata=0
    ) as file:
        file.descriptions = ("red", "green", "blue")
    return path


def recipe_of(folder: Path, name: str, scene: Path, model: str) -> Path:
    path = folder / f"{name}.yaml"
    path.write_text(f"scenes: [{scene}]\noutput: {folder / name}\nmodels: {{bulk: '{model}'}}\n")
    return path


def eager(model: str, folder: Path) -> str:
    """A copy of a bundle that runs in torch as it is."""
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


def until_first_chunk(recipe: Path, output: Path) -> float:
    """From the command to the first record; without what the models took of that chunk."""
    begun_unix_s = time.time()
    seconds_of(["run", recipe, "--quiet"])
    first = min(
        (record.attempt for record in Ledger(LocalStore(output)).read_records()), key=lambda one: one.ended_unix_s
    )
    return first.ended_unix_s - begun_unix_s - first.seconds["compute_bulk"]


def lines(args: argparse.Namespace, folder: Path) -> dict[str, Callable[[int], float]]:
    for size_px in (SMALL_PX, CHUNKS_PX):
        write_scene(folder / str(size_px), size_px=size_px, seed=5)
    small, large = (folder / str(size_px) / "scene.tif" for size_px in (SMALL_PX, CHUNKS_PX))
    header, plain = header_only(folder / "header.tif"), eager(args.model, folder)

    def run(model: str, name: str, *, fresh: bool = False) -> Callable[[int], float]:
        def timed(number: int) -> float:
            recipe = recipe_of(folder, f"{name}-{number}", small, model)
            return seconds_of(["run", recipe, "--quiet"], folder / f"cache-{name}-{number}" if fresh else None)

        return timed

    def chunk(number: int) -> float:
        name = f"chunk-{number}"
        return until_first_chunk(recipe_of(folder, name, large, args.model), folder / name)

    return {
        "--help": lambda _: seconds_of(["--help"]),
        f"plan, {HEADER_PX:,}² of header": lambda _: seconds_of(["plan", recipe_of(folder, "h", header, args.model)]),
        f"first chunk of {CHUNKS_PX:,}² committed, without its forwards": chunk,
        f"run of {SMALL_PX:,}²": run(args.model, "warm"),
        f"run of {SMALL_PX:,}², first": run(args.model, "cold", fresh=True),
        f"run of {SMALL_PX:,}², eager": run(plain, "eager"),
        f"run of {SMALL_PX:,}², eager, first": run(plain, "eager-cold", fresh=True),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--model", default="zoo:synthetic-heavy")
    args = parser.parse_args()
    with TemporaryDirectory() as folder:
        timed = lines(args, Path(folder))
        found: dict[str, list[float]] = {name: [] for name in timed}
        for number in range(args.rounds):
            for name, time_it in timed.items():
                found[name].append(time_it(number))
    print(f"| {args.model} | s |\n|---|---|")
    for name, seconds in found.items():
        print(f"| {name} | {min(seconds):.2f} |")


if __name__ == "__main__":
    main()
