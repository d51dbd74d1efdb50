"""Facts about a model of others, as the user gives them on the command line."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from batchseg.classes import ClassInfo
    from batchseg.model.model_facts import ModelFacts
    from batchseg.scene.bands import BandWanted


def add_import_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", metavar="PATH", type=Path, help="folder with config.json, or ONNX file")
    parser.add_argument("out", metavar="OUT", type=Path, help="new folder for the bundle")
    parser.add_argument(
        "--bands",
        required=True,
        metavar="NAMES",
        help="bands in the model's order: red,green,blue, or with their common names: B04=red,B8A=nir08",
    )
    parser.add_argument(
        "--classes",
        metavar="NAMES",
        help="classes in the order of the outputs: water,forest or 7=snow:#ffffff,…; or a file with one per line",
    )
    parser.add_argument(
        "--gsd",
        required=True,
        nargs=2,
        type=float,
        metavar=("LOW", "HIGH"),
        help="smallest and largest ground size of a pixel that the model knows, in metres",
    )
    parser.add_argument("--mean", type=_read_numbers, metavar="NUMBERS", help="mean of each band, in raw values")
    parser.add_argument("--std", type=_read_numbers, metavar="NUMBERS", help="deviation of each band, in raw values")
    parser.add_argument(
        "--dtype",
        choices=("uint8", "uint16", "float32"),
        default="uint8",
        help="type of the raw values (default: uint8)",
    )
    parser.add_argument(
        "--range",
        nargs=2,
        type=float,
        metavar=("LOW", "HIGH"),
        help="raw values that the model knows (default: 0 255, for uint8 only)",
    )
    parser.add_argument(
        "--tier", choices=("bulk", "heavy"), default="heavy", help="tier that the model suits (default: heavy)"
    )
    parser.add_argument(
        "--halo",
        type=int,
        metavar="PX",
        help="context around a core, in pixels (default: an eighth of the side of an ONNX network that takes tiles "
        "of one size only, else 64)",
    )
    parser.add_argument(
        "--stride",
        type=int,
        default=32,
        metavar="PX",
        help="tile sides must be a multiple of this, for an ONNX network that takes tiles of any size (default: 32)",
    )
    parser.add_argument("--name", help="name of the bundle (default: that of OUT)")


def read_model_facts(args: argparse.Namespace) -> ModelFacts:
    from batchseg.model.model_facts import ModelFacts

    return ModelFacts(
        name=args.name,
        bands=parse_bands(args.bands),
        classes=None if args.classes is None else parse_classes(args.classes),
        gsd_m=tuple(args.gsd),
        tier=args.tier,
        dtype=args.dtype,
        range=None if args.range is None else tuple(args.range),
        mean=args.mean,
        std=args.std,
        halo_px=args.halo,
        stride_px=args.stride,
    )


def _read_numbers(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"numbers like 90.5,100, not {text!r}") from error


def parse_bands(text: str) -> tuple[BandWanted, ...]:
    """Parse `red,green` or `B04=red`. A name alone is its own common name."""
    from batchseg.scene.bands import BandWanted

    pairs = (part.strip().partition("=") for part in text.split(","))
    return tuple(BandWanted(name=name.strip(), common=common.strip() or name.strip()) for name, _, common in pairs)


def parse_classes(text: str) -> tuple[ClassInfo, ...]:
    """Parse `[ID=]NAME[:#RRGGBB]`, separated by commas, or read a file with one per line."""
    from batchseg.classes import ClassInfo
    from batchseg.errors import InputError
    from batchseg.model.model_facts import choose_colour

    try:
        parts = Path(text).read_text("utf-8").splitlines() if _is_file(text) else text.split(",")
    except (OSError, ValueError) as error:
        raise InputError("this file cannot be read", where=f"--classes: {text}", got=str(error)) from error
    classes = []
    for number, part in enumerate(text.strip() for text in parts if text.strip()):
        match = re.fullmatch(r"(?:(\d+)=)?([^=:]+)(?::#([0-9a-fA-F]{6}))?", part)
        if match is None:
            raise InputError("this is not a class", where="--classes", expected="[ID=]NAME[:#RRGGBB]", got=part)
        own_id, name, rgb = match.groups()
        red, green, blue = bytes.fromhex(rgb) if rgb else choose_colour(number)
        classes.append(ClassInfo(id=int(own_id or number), name=name.strip(), rgb=(red, green, blue)))
    return tuple(classes)


def _is_file(text: str) -> bool:
    try:
        return Path(text).is_file()
    except OSError:
        return False  # a long list of classes is longer than any file name
