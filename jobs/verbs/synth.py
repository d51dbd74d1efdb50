"""Make a synthetic scene with its ground truth: scene.tif, labels.tif and priority.geojson.

The same seed gives the same pixels on every machine. Memory does not grow with the size of the scene.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

HELP = "make a synthetic scene with labels and priority polygons"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("out", metavar="OUT", type=Path, help="folder for the three files")
    parser.add_argument(
        "--size", type=int, default=8192, metavar="PX", help="side of the scene in pixels (default 8192)"
    )
    parser.add_argument("--seed", type=int, default=1, help="seed of the scene (default 1)")
    parser.add_argument(
        "--bands", type=int, default=3, help="3 for red, green and blue, 4 to add near infrared (default 3)"
    )
    parser.add_argument("--dtype", default="uint8", help="data type: uint8 or uint16 (default uint8)")


def main(args: argparse.Namespace) -> int:
    from batchseg.synth import write_scene

    def show(done: int, total: int) -> None:
        if sys.stderr.isatty():
            print(f"\r{done}/{total} rows", end="" if done < total else "\n", file=sys.stderr, flush=True)

    write_scene(args.out, size_px=args.size, seed=args.seed, bands=args.bands, dtype=args.dtype, progress=show)
    print(f"{args.out}/scene.tif\n{args.out}/labels.tif\n{args.out}/priority.geojson")
    return 0
