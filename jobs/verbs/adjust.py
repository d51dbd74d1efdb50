"""Adjust a bundle to new ground with a few labelled pixels.

A model that is new to a place recognises much of it but calls some of it by the wrong name. Mixing its scores anew, a
few dozen numbers, corrects a good part of that. Some hundreds of labelled pixels determine those numbers: points
clicked in QGIS, polygons, or a raster that is labelled in some places. The network stays as it is, and as fast.

The result is judged by cross-validation: each half of the labelled places is scored with the mixture that was fitted to
the other half. A bundle that is not better is not written.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from jobs.terminal.labels_arguments import add_drawing_arguments, describe_drawing
from jobs.terminal.quality_change import format_change
from jobs.terminal.raster_arguments import add_raster_arguments, at_least, read_raster_arguments

if TYPE_CHECKING:
    from batchseg.adapt.adjust import LabelEvidence

HELP = "adjust a bundle to new ground with a few labelled pixels"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bundle", metavar="BUNDLE", help="`zoo:NAME`, a folder or a URL")
    parser.add_argument("out", metavar="OUT", type=Path, help="new folder for the adjusted bundle")
    parser.add_argument("--on", required=True, metavar="RASTER", help="a scene of the new ground")
    parser.add_argument(
        "--labels",
        required=True,
        metavar="FILE",
        help="labels of some of its pixels: points, polygons, or a raster on its grid with 255 or nodata elsewhere",
    )
    add_drawing_arguments(parser)
    parser.add_argument(
        "--tiles",
        type=at_least(2),
        default=1024,
        metavar="N",
        help="largest number of labelled tiles to use, spread evenly (default: 1024)",
    )
    parser.add_argument(
        "--device",
        choices=("auto", "cpu", "cuda"),
        default="auto",
        help="device to run on; auto takes a GPU if there is one (default: auto)",
    )
    add_raster_arguments(parser)


def main(args: argparse.Namespace) -> int:
    from batchseg.adapt.adjust import LabelEvidence, adjust
    from batchseg.adapt.refusal import RefusedBundleError
    from jobs.terminal.progress_bar import show_progress

    reading = read_raster_arguments(args)
    try:
        with show_progress("tile") as show:
            adjustment = adjust(
                args.bundle,
                args.out,
                on=args.on,
                labels=describe_drawing(args, {args.on: args.labels})[args.on],
                tiles=args.tiles,
                device=args.device,
                bands=reading.bands,
                scale=reading.scale,
                accept=reading.accept,
                show=lambda done, total: show(done, total, {}),
            )
    except RefusedBundleError as error:
        if isinstance(error.measured, LabelEvidence):
            _print(error.measured)
        raise
    _print(adjustment.evidence)
    print(args.out / "item.json")
    return 0


def _print(evidence: LabelEvidence) -> None:
    if evidence.tiles < evidence.labelled_tiles:
        used = f"{evidence.tiles} of {evidence.labelled_tiles} tiles with labels are used; --tiles takes more"
        print(used, file=sys.stderr)
    if evidence.unknown_px:
        print(f"{evidence.unknown_px} labelled pixels hold a code that is not a class", file=sys.stderr)
    for text in _format(evidence):
        print(text)


def _format(evidence: LabelEvidence) -> Iterator[str]:
    from jobs.terminal.formats import format_line

    labelled = {name: count for name, count in evidence.labelled_px.items() if count}
    counts = ", ".join(f"{name} {count}" for name, count in labelled.items())
    yield format_line("labels", f"{sum(labelled.values())} px: {counts}")
    if without := ", ".join(name for name in evidence.labelled_px if name not in labelled):
        yield format_line("no labels", f"{without}: a class without labels is not judged, and keeps its score")
    gain = evidence.gain
    yield from format_change(gain.change, evidence.labelled_px)
    yield format_line(
        "gain", f"{gain.low_points:+.1f} to {gain.high_points:+.1f} points on held-out labels, 95 % confidence"
    )
