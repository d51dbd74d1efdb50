"""Bring a bundle to new ground by a few labelled pixels of it.

A model that is new to a place sees much of what there is and calls some of it by the wrong name. Mixing its scores
anew, a few dozen numbers, mends a good part of that, and some hundreds of pixels tell them: points clicked in QGIS,
polygons, or a raster that is labelled here and there. Nothing else is learnt, and the bundle runs as fast as before.

Each half of the labelled places is judged with what the other half told. Where that gains nothing, nothing is written.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobs.terminal.labels_arguments import add_drawing_arguments, describe_drawing
from jobs.terminal.new_bundle import scene_name, show_comparison, unfinished
from jobs.terminal.raster_arguments import add_raster_arguments, at_least, recipe_of

if TYPE_CHECKING:
    from batchseg.adapt.mixture import Answers
    from batchseg.adapt.samples import Sample, Sampling
    from batchseg.model.bundle import Bundle
    from batchseg.model.contract import Contract
    from batchseg.model.mixing import Mixing
    from batchseg.score.gate import QualityChange
    from tiling.grid import Tile

HELP = "bring a bundle to new ground by a few labelled pixels"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bundle", metavar="BUNDLE", help="`zoo:NAME`, a folder or a URL")
    parser.add_argument("out", metavar="OUT", type=Path, help="new folder for the adjusted bundle")
    parser.add_argument("--on", required=True, metavar="RASTER", help="a scene of your ground")
    parser.add_argument(
        "--labels",
        required=True,
        metavar="FILE",
        help="of some of its pixels: points, polygons, or a raster on its grid, with 255 or its nodata elsewhere",
    )
    add_drawing_arguments(parser)
    parser.add_argument(
        "--tiles",
        type=at_least(2),
        default=1024,
        metavar="N",
        help="at most, of those with labels, spread evenly: 1024",
    )
    parser.add_argument(
        "--device", choices=("auto", "cpu", "cuda"), default="auto", help="auto: a GPU where there is one"
    )
    add_raster_arguments(parser)


def main(args: argparse.Namespace) -> int:
    with unfinished(args.out) as folder:
        _make(args, folder)
    print(args.out / "item.json")
    return 0


def _make(args: argparse.Namespace, folder: Path) -> None:
    from batchseg.adapt.mixture import check_gain, crossed, fitted
    from batchseg.model.bundle import open_bundle, write_bundle
    from batchseg.model.card import write_card
    from batchseg.model.mixing import with_mixing
    from jobs.terminal.formats import line

    bundle = open_bundle(args.bundle)
    names = tuple(c.name for c in bundle.contract.classes)
    answers, num_tiles = _asked(bundle, args)
    for text in _told(answers, names):
        print(text)
    found = crossed(answers)
    show_comparison(found.comparison, names)
    print(line("gain", f"{found.low_points:+.1f} to {found.high_points:+.1f} points where these labels were not asked"))
    check_gain(found)
    facts = {"on": scene_name(args.on), "tiles": num_tiles, "pixels": len(answers.truth_P)}
    mixing = fitted(answers)
    contract = _documented(bundle.contract, args.out.name, found.comparison, mixing, facts)
    made = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    write_bundle(folder, contract, with_mixing(bundle, mixing), made=made)
    write_card(folder, contract)


def _asked(bundle: Bundle, args: argparse.Namespace) -> tuple[Answers, int]:
    """What the bundle says of the labelled pixels, and of how many tiles."""
    from batchseg.adapt.mixture import answers_of
    from batchseg.adapt.samples import Sampling
    from batchseg.model.device import choose_device
    from batchseg.model.mixing import open_scores
    from jobs.terminal.progress_bar import show_progress

    labels = describe_drawing(args, {args.on: args.labels})[args.on]
    sampling = Sampling.of(bundle, recipe_of(args, args.on, labels))
    scores = open_scores(bundle, choose_device(args.device))
    tiles = _tiles(sampling, args)
    unknown_px: list[int] = []
    with show_progress("tile") as show:

        def samples() -> Iterator[Sample]:
            for done, tile in enumerate(tiles, start=1):
                for sample in sampling.read_tiles([tile]):
                    unknown_px.append(sample.unknown_px)
                    yield sample
                show(done, len(tiles), {})

        found = answers_of(scores, samples(), num_tiles=len(tiles), halo_px=bundle.contract.halo_px)
    if sum(unknown_px):
        print(f"{sum(unknown_px)} labelled pixels hold a code that is no class", file=sys.stderr)
    return found, len(unknown_px)


def _tiles(sampling: Sampling, args: argparse.Namespace) -> list[Tile]:
    """Those with labels, or as many of them as are wanted."""
    from batchseg.adapt.samples import spread_evenly
    from batchseg.errors import RecipeError
    from jobs.terminal.progress_bar import show_progress

    with show_progress("looked for labels in tile") as show:
        labelled = sampling.labelled_tiles(told=lambda done, all_: show(done, all_, {}))
    if not labelled:
        todo = "check that they lie on the scene"
        raise RecipeError("no pixel of the scene has a label", where=f"--labels: {args.labels}", todo=todo)
    tiles = spread_evenly(labelled, args.tiles)
    if len(tiles) < len(labelled):
        print(f"{len(tiles)} of {len(labelled)} tiles with labels are asked; --tiles takes more", file=sys.stderr)
    return tiles


def _told(answers: Answers, names: tuple[str, ...]) -> Iterator[str]:
    from jobs.terminal.formats import line

    counts = dict(zip(names, answers.counts.tolist(), strict=True))
    known = ", ".join(f"{name} {count}" for name, count in counts.items() if count)
    yield line("labels", f"{len(answers.truth_P)} px: {known}")
    if without := ", ".join(name for name, count in counts.items() if not count):
        yield line("no labels", f"{without}: what is not labelled is not judged, and keeps its score")


def _documented(original: Contract, name: str, found: QualityChange, mixing: Mixing, facts: dict[str, Any]) -> Contract:
    """Quality is what halves of the labels are worth to each other, never that of the original."""
    from batchseg.model.lineage import AdjustedLineage, MixingRecord
    from batchseg.model.quality import AdjustedQuality, JudgedPixels
    from batchseg.score.confusion import mean_iou

    assert found.before is not None
    assert found.after is not None
    names = [c.name for c in original.classes]
    iou = {name: round(value, 4) for name, value in zip(names, found.after, strict=True) if value is not None}
    quality = AdjustedQuality(
        iou=iou,
        miou=round(mean_iou(found.after), 4),
        miou_of_original=round(mean_iou(found.before), 4),
        judged_on=JudgedPixels(**facts),
    )
    record = MixingRecord(weights=mixing.weights_KK.round(4).tolist(), offsets=mixing.offsets_K.round(4).tolist())
    lineage = AdjustedLineage(adjusted_from=original.name, mixing=record, original=original.lineage)
    return replace(original, name=name, quality=quality, lineage=lineage)
