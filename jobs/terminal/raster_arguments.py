"""Arguments of the raster that a bundle is tuned, calibrated or adjusted on: how it is read, as in a recipe."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from batchseg.recipe.recipe import Leave


@dataclass(frozen=True, slots=True)
class RasterReading:
    bands: tuple[int | str, ...] | None
    scale: tuple[float, float] | None
    accept: tuple[Leave, ...]


def at_least(least: int) -> Callable[[str], int]:
    """A type of argument: a whole number with a lower bound."""

    def read_number(text: str) -> int:
        if not text.strip().isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"{least} or more, not {text}")
        return int(text)

    return read_number


def share(text: str) -> float:
    """A type of argument: a share, from 0 to 1 for all."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"0 to 1, not {text}")
    return value


def add_raster_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--raster-bands",
        metavar="LIST",
        help="bands of the raster in the model's order, by index or name, like 1,2,3 (default: by name)",
    )
    parser.add_argument(
        "--scale",
        nargs=2,
        type=float,
        metavar=("LOW", "HIGH"),
        help="raw values of the raster that stand for the bundle's range (default: the same values)",
    )
    parser.add_argument(
        "--accept",
        nargs="+",
        choices=("gsd", "dtype"),
        default=[],
        help="parts of the bundle's contract to ignore on purpose, as in a recipe",
    )


def read_raster_arguments(args: argparse.Namespace) -> RasterReading:
    bands = None if args.raster_bands is None else args.raster_bands.split(",")
    return RasterReading(
        bands=None if bands is None else tuple(int(band) if band.isdigit() else band for band in bands),
        scale=None if args.scale is None else (args.scale[0], args.scale[1]),
        accept=tuple(args.accept),
    )
