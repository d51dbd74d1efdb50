"""The raster that a bundle is tuned or calibrated on: the part of a recipe that says how it is read."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from batchseg.recipe import LabelPolygons
    from batchseg.recipe.recipe import Recipe


def at_least(least: int) -> Callable[[str], int]:
    """A type of argument: how many of something."""

    def number_of(text: str) -> int:
        if not text.strip().isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"{least} or more, not {text}")
        return int(text)

    return number_of


def share(text: str) -> float:
    """A type of argument: a part of something, 1 for all of it."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"0 to 1, not {text}")
    return value


def add_raster_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--raster-bands", metavar="LIST", help="of the raster, in the model's order: 1,2,3 or names")
    parser.add_argument(
        "--scale", nargs=2, type=float, metavar=("LOW", "HIGH"), help="raw range that the bundle's range stands for"
    )
    parser.add_argument("--accept", nargs="+", choices=("gsd", "dtype"), default=[], help="as in a recipe")


def recipe_of(args: argparse.Namespace, raster: str, labels: str | LabelPolygons | None) -> Recipe:
    from batchseg.recipe.recipe import Models, Recipe

    bands = None if args.raster_bands is None else args.raster_bands.split(",")
    return Recipe(
        scenes=(raster,),
        output="nothing is written",
        models=Models(bulk=args.bundle),
        labels=() if labels is None else (labels,),
        bands=None if bands is None else tuple(int(one) if one.isdigit() else one for one in bands),
        scale=None if args.scale is None else (args.scale[0], args.scale[1]),
        accept=tuple(args.accept),
    )
