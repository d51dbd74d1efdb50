"""Models of others made into bundles: what a user says of them on the command line."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from batchseg.classes import ClassInfo
    from batchseg.model.bundle import Bundle


def add_import_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", metavar="PATH", type=Path, help="folder with config.json, or ONNX file")
    parser.add_argument("out", metavar="OUT", type=Path, help="new folder for the bundle")
    parser.add_argument(
        "--bands", required=True, metavar="NAMES", help="in the model's order: red,green,blue, or B04=red,B8A=nir08"
    )
    parser.add_argument(
        "--classes", metavar="NAMES", help="in the order of the outputs: water,forest or 7=snow:#ffffff,…; a file too"
    )
    parser.add_argument(
        "--gsd", required=True, nargs=2, type=float, metavar=("LOW", "HIGH"), help="metres a pixel that it knows"
    )
    parser.add_argument("--mean", type=_numbers, metavar="NUMBERS", help="a band, in raw values")
    parser.add_argument("--std", type=_numbers, metavar="NUMBERS", help="a band, in raw values")
    parser.add_argument("--dtype", choices=("uint8", "uint16", "float32"), default="uint8", help="of raw values")
    parser.add_argument(
        "--range", nargs=2, type=float, metavar=("LOW", "HIGH"), help="of raw values; of uint8 by default 0 255"
    )
    parser.add_argument("--tier", choices=("bulk", "heavy"), default="heavy", help="the slot it suits")
    parser.add_argument(
        "--halo",
        type=int,
        metavar="PX",
        help="context around a core, in pixels; by default an eighth of the side of an "
        "ONNX network that takes tiles of one size only, else 64",
    )
    parser.add_argument("--stride", type=int, default=32, metavar="PX", help="tile sides are a multiple of it: 32")
    parser.add_argument("--name", help="of the bundle; by default that of OUT")


def imported(args: argparse.Namespace) -> Bundle:
    """The new bundle, whole or not at all."""
    from batchseg.model.importing import import_bundle
    from batchseg.model.model_facts import ModelFacts

    facts = ModelFacts(
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
    return import_bundle(args.path, args.out, facts)


def _numbers(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"numbers like 90.5,100, not {text!r}") from error


def parse_bands(text: str) -> tuple[Any, ...]:
    """`red,green` or `B04=red`; a name that is a common name stands for itself."""
    from batchseg.scene.bands import BandWanted

    pairs = (part.strip().partition("=") for part in text.split(","))
    return tuple(BandWanted(name=name, common=common or name) for name, _, common in pairs)


def parse_classes(text: str) -> tuple[ClassInfo, ...]:
    """`[ID=]NAME[:#RRGGBB]` with commas between, or a file with one a line."""
    from batchseg.classes import ClassInfo
    from batchseg.errors import InputError
    from batchseg.model.model_facts import choose_colour

    try:
        parts = Path(text).read_text("utf-8").splitlines() if _is_file(text) else text.split(",")
    except (OSError, ValueError) as error:
        raise InputError("this file cannot be read", where=f"--classes: {text}", got=str(error)) from error
    found = []
    for number, part in enumerate(one.strip() for one in parts if one.strip()):
        match = re.fullmatch(r"(?:(\d+)=)?([^=:]+)(?::#([0-9a-fA-F]{6}))?", part)
        if match is None:
            raise InputError("this is no class", where="--classes", expected="[ID=]NAME[:#RRGGBB]", got=part)
        own_id, name, rgb = match.groups()
        red, green, blue = bytes.fromhex(rgb) if rgb else choose_colour(number)
        found.append(ClassInfo(id=int(own_id or number), name=name.strip(), rgb=(red, green, blue)))
    return tuple(found)


def _is_file(text: str) -> bool:
    try:
        return Path(text).is_file()
    except OSError:
        return False  # a long list of classes is longer than any name of a file
