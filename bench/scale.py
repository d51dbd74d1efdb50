"""The price per km² for growing rasters, and the price of ground without data.

    python -m bench.scale [--sizes 8192 32768] [--nodata-size 8192 --rounds 3] [--model zoo:synthetic-bulk]

Both parts run the whole command, each run in its own process.

*Size*: one scene, and a mosaic (VRT) of 16 copies of it, so that ground, codec and blocks are the same. Start-up (until
a worker is ready) and the end (reports, after the last GeoTIFF) are listed apart. The rest is marginal: its seconds and
dollars per km² should differ by less than 5 %.

*Nodata*: the same scene with 90 % nodata, as a swath that crosses the border of every tile, and as one block. It should
cost 15 % of the full scene, without start-up and end. Processor seconds (user and system, all threads) hardly depend on
other programs. Those of a scene of one tile stand for start-up and end, and the remainders are compared.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.windows import Window

from batchseg.ledger.ledger import Ledger
from batchseg.reports.metrics import read_metrics
from batchseg.store import LocalStore
from batchseg.synth import write_scene

VALID_SHARE = 0.1
ONE_TILE_PX = 512


@dataclass(frozen=True, slots=True)
class RunCosts:
    wall_s: float
    start_s: float
    """Seconds until the worker was ready."""
    end_s: float
    """Seconds after the last task: reports, and the end of the process."""
    usd: float
    """Dollars without the start of the worker."""
    km2: float
    cpu_s: float
    """Processor seconds, with start-up and end."""
    num_tiles: int
    """Tiles that a model ran on."""

    @property
    def marginal_s(self) -> float:
        return self.wall_s - self.start_s - self.end_s


def measure_run(scene: Path, model: str, output: Path) -> RunCosts:
    recipe = output.with_suffix(".yaml")
    recipe.write_text(f"scenes: [{scene}]\noutput: {output}\nmodels: {{bulk: '{model}'}}\n")
    begun_unix_s, cpu_before_s = time.time(), _children_cpu_s()
    subprocess.run([sys.executable, "-m", "jobs", "run", recipe, "--quiet"], check=True, stdout=subprocess.DEVNULL)
    ended_unix_s = time.time()
    cpu_s = _children_cpu_s() - cpu_before_s
    metrics = read_metrics(LocalStore(output))
    (stint,) = Ledger(LocalStore(output)).read_stints()
    return RunCosts(
        wall_s=ended_unix_s - begun_unix_s,
        start_s=stint.begun_unix_s + stint.start_s - begun_unix_s,
        end_s=ended_unix_s - stint.beat_unix_s,
        usd=metrics.cost_usd - metrics.cost.start,
        km2=metrics.area_km2 or 0.0,
        cpu_s=cpu_s,
        num_tiles=metrics.tiles.bulk + metrics.tiles.heavy,
    )


def _children_cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def write_mosaic(scene: Path, copies: int, path: Path) -> Path:
    """Write a mosaic of `copies` x `copies` of a scene."""
    with rasterio.open(scene) as file:
        height, width, profile = file.height, file.width, file.profile
        bands = list(zip(file.descriptions, file.colorinterp, strict=True))
    root = ET.Element("VRTDataset", rasterXSize=str(copies * width), rasterYSize=str(copies * height))
    ET.SubElement(root, "SRS").text = profile["crs"].to_wkt()
    ET.SubElement(root, "GeoTransform").text = ", ".join(map(str, profile["transform"].to_gdal()))
    for number, (name, colour) in enumerate(bands, start=1):
        band = ET.SubElement(root, "VRTRasterBand", dataType="Byte", band=str(number))
        if name is not None:
            ET.SubElement(band, "Description").text = name
        ET.SubElement(band, "ColorInterp").text = colour.name.capitalize()
        if profile["nodata"] is not None:
            ET.SubElement(band, "NoDataValue").text = str(profile["nodata"])
        for row in range(copies):
            for col in range(copies):
                part = ET.SubElement(band, "SimpleSource")
                ET.SubElement(part, "SourceFilename", relativeToVRT="0").text = str(scene)
                ET.SubElement(part, "SourceBand").text = str(number)
                size = {"xSize": str(width), "ySize": str(height)}
                ET.SubElement(part, "SrcRect", {"xOff": "0", "yOff": "0", **size})
                ET.SubElement(part, "DstRect", {"xOff": str(col * width), "yOff": str(row * height), **size})
    ET.ElementTree(root).write(path)
    return path


def write_emptied(scene: Path, path: Path, shape: str) -> Path:
    """Write the scene with data in a tenth of it only."""
    with rasterio.open(scene) as file, rasterio.open(path, "w", **file.profile) as out:
        out.descriptions, out.colorinterp = file.descriptions, file.colorinterp
        for _, window in file.block_windows(1):
            pixels_BHW = file.read(window=window)
            pixels_BHW[:, ~_mark_valid(window, file.width, shape)] = 0
            out.write(pixels_BHW, window=window)
    return path


def _mark_valid(window: Window, size_px: int, shape: str) -> NDArray[np.bool_]:
    rows = np.arange(window.row_off, window.row_off + window.height)[:, None] / size_px
    cols = np.arange(window.col_off, window.col_off + window.width)[None, :] / size_px
    if shape == "block":
        return np.asarray((rows < VALID_SHARE**0.5) & (cols < VALID_SHARE**0.5))
    # A swath along the diagonal: the two triangles beside it are (1 - w)^2 of the square.
    half = 1 - (1 - VALID_SHARE) ** 0.5
    return np.asarray(np.abs(rows - cols) < half)


def print_row(name: str, one: RunCosts, base: RunCosts, *, per_km2: bool) -> None:
    """Compare with the first row: per km² where sizes differ, in total where data is missing."""
    over = (one.km2, base.km2) if per_km2 else (1.0, 1.0)
    of_s, of_usd = (
        (mine / over[0]) / (first / over[1]) for mine, first in ((one.marginal_s, base.marginal_s), (one.usd, base.usd))
    )
    print(
        f"| {name} | {one.km2:.2f} | {one.wall_s:.1f} | {one.start_s:.1f} | {one.end_s:.1f} | {one.marginal_s:.2f} | "
        f"{one.marginal_s / one.km2:.3f} | {one.usd / one.km2:.3e} | {of_s:.3f} | {of_usd:.3f} |",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--sizes", type=int, nargs="*", default=[8192, 32768], help="sides in pixels, multiples of the first one"
    )
    parser.add_argument("--nodata-size", type=int, default=8192, help="side in pixels; 0: skip this part")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of the nodata part; the least time counts")
    parser.add_argument("--model", default="zoo:synthetic-bulk", help="bundle to run")
    parser.add_argument("--folder", type=Path, help="folder for temporary files")
    args = parser.parse_args()
    # Installed packages have bytecode. Without it, each run would compile a hundred files, which takes 0.4 s.
    subprocess.run([sys.executable, "-m", "compileall", "-q", "batchseg", "jobs", "tiling"], check=True)
    print("| scene | km² valid | wall s | start s | end s | marginal s | s/km² | $/km² | s of first | $ of first |")
    print("|---" * 10 + "|")
    with TemporaryDirectory(dir=args.folder) as name:
        folder, made = Path(name), {}
        for size_px in {*args.sizes[:1], args.nodata_size} - {0}:
            write_scene(folder / str(size_px), size_px=size_px, seed=5)
            made[size_px] = folder / str(size_px) / "scene.tif"
        run_sizes(args, folder, made)
        run_nodata(args, folder, made)


def run_sizes(args: argparse.Namespace, folder: Path, made: dict[int, Path]) -> None:
    base: Any = None
    for size_px in args.sizes:
        first = args.sizes[0]
        scene = write_mosaic(made[first], size_px // first, folder / f"mosaic-{size_px}.vrt")
        costs = measure_run(scene, args.model, folder / f"size-{size_px}")
        base = base or costs
        print_row(f"{size_px}²", costs, base, per_km2=True)


def run_nodata(args: argparse.Namespace, folder: Path, made: dict[int, Path]) -> None:
    if not args.nodata_size:
        return
    full = made[args.nodata_size]
    write_scene(folder / "tile", size_px=ONE_TILE_PX, seed=5)
    scenes = {"one tile": folder / "tile" / "scene.tif", "full": full}
    scenes |= {
        f"90 % nodata, {shape}": write_emptied(full, folder / f"{shape}.tif", shape) for shape in ("swath", "block")
    }
    rounds = [
        {name: measure_run(scene, args.model, folder / f"{number}-{name[-5:]}") for name, scene in scenes.items()}
        for number in range(args.rounds)
    ]
    best = {name: min((one[name] for one in rounds), key=lambda one: one.cpu_s) for name in scenes}
    for name, one in best.items():
        print_row(name, one, best["full"], per_km2=False)
    print("\n| scene | tiles computed | of the full one | processor s | beyond one tile's | of the full one |")
    print("|---" * 6 + "|")
    full_one, start_s = best["full"], best["one tile"].cpu_s
    for name, one in best.items():
        beyond_s, share = one.cpu_s - start_s, one.num_tiles / full_one.num_tiles
        of_full = beyond_s / (full_one.cpu_s - start_s)
        print(f"| {name} | {one.num_tiles} | {share:.3f} | {one.cpu_s:.2f} | {beyond_s:.2f} | {of_full:.3f} |")


if __name__ == "__main__":
    main()
