"""Make a smaller, faster bundle, and refuse it if it loses more than is allowed.

Tiles of a real scene, spread evenly, show which values occur; other tiles of it judge the result. With --labels, IoU is
compared class by class. Without, every label that changes counts as lost.

int8 is for CPUs; bfloat16 and float16 are for GPUs. Nothing is written unless the result passes.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from jobs.terminal.quality_change import format_change
from jobs.terminal.raster_arguments import add_raster_arguments, at_least, read_raster_arguments

if TYPE_CHECKING:
    from batchseg.adapt.quantize import QuantizationResult

HELP = "make a bundle smaller and faster, within an allowed loss"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bundle", metavar="BUNDLE", help="`zoo:NAME`, a folder or a URL")
    parser.add_argument("out", metavar="OUT", type=Path, help="new folder for the quantised bundle")
    parser.add_argument("--calibrate", required=True, metavar="RASTER", help="a scene like those of your runs")
    parser.add_argument("--labels", metavar="RASTER", help="the scene's reference labels, to compare IoU")
    parser.add_argument(
        "--to",
        choices=("int8", "bfloat16", "float16"),
        default="int8",
        help="type of the weights: int8 for CPUs, the others for GPUs (default: int8)",
    )
    parser.add_argument(
        "--tiles",
        type=at_least(2),
        default=32,
        metavar="N",
        help="tiles of the scene; half of them calibrate, the other half judge (default: 32)",
    )
    parser.add_argument(
        "--max-loss-points",
        type=float,
        default=0.5,
        metavar="POINTS",
        help="percentage points of mean IoU that may be lost (default: 0.5)",
    )
    parser.add_argument(
        "--max-class-loss-points",
        type=float,
        default=2.0,
        metavar="POINTS",
        help="percentage points of any class's IoU that may be lost (default: 2)",
    )
    add_raster_arguments(parser)


def main(args: argparse.Namespace) -> int:
    from batchseg.adapt.quantize import QuantizationResult, quantize
    from batchseg.adapt.refusal import RefusedBundleError

    reading = read_raster_arguments(args)
    try:
        quantization = quantize(
            args.bundle,
            args.out,
            calibrate=args.calibrate,
            labels=args.labels,
            to=args.to,
            tiles=args.tiles,
            max_loss_points=args.max_loss_points,
            max_class_loss_points=args.max_class_loss_points,
            bands=reading.bands,
            scale=reading.scale,
            accept=reading.accept,
        )
    except RefusedBundleError as error:
        if isinstance(error.measured, QuantizationResult):
            _print(error.measured, args.to)
        raise
    _print(quantization.result, args.to)
    print(args.out / "item.json")
    return 0


def _print(result: QuantizationResult, to: str) -> None:
    from jobs.terminal.formats import format_line

    exact_ms, ms = 1000 * result.exact_seconds_per_tile, 1000 * result.seconds_per_tile
    print(
        format_line(
            "speed",
            f"{exact_ms:.1f} ms per tile for the original in float32, {ms:.1f} ms for weights in {to}, run by "
            f"{result.numerics}",
        )
    )
    for text in format_change(result.change, result.class_names):
        print(text)
