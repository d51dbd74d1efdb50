"""Make a smaller, faster bundle of a bundle, and refuse it where it loses more than is allowed.

Tiles of a real scene, spread evenly, say which values occur; other tiles of it judge the result. With --labels, IoU is
compared class by class; without, the labels that changed count as lost.

int8 is for CPUs; bfloat16 and float16 are for GPUs. Nothing is written unless the result passes.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobs.terminal.new_bundle import scene_name, show_comparison, unfinished
from jobs.terminal.raster_arguments import add_raster_arguments, at_least, recipe_of

if TYPE_CHECKING:
    from batchseg.adapt.samples import Samples
    from batchseg.adapt.trial import Trial
    from batchseg.model.bundle import Bundle
    from batchseg.model.contract import Contract, Numerics
    from batchseg.score.gate import QualityChange

HELP = "make a bundle smaller and faster, within an allowed loss"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bundle", metavar="BUNDLE", help="`zoo:NAME` or a folder")
    parser.add_argument("out", metavar="OUT", type=Path, help="new folder for the quantised bundle")
    parser.add_argument("--calibrate", required=True, metavar="RASTER", help="a scene like those of your runs")
    parser.add_argument("--labels", metavar="RASTER", help="its reference labels, to compare IoU")
    parser.add_argument(
        "--to",
        choices=("int8", "bfloat16", "float16"),
        default="int8",
        help="int8 for CPUs, the others for GPUs too: int8",
    )
    parser.add_argument("--tiles", type=at_least(2), default=32, metavar="N", help="half calibrate, half judge: 32")
    parser.add_argument("--max-loss-points", type=float, default=0.5, metavar="POINTS", help="of mean IoU: 0.5")
    parser.add_argument("--max-class-loss-points", type=float, default=2.0, metavar="POINTS", help="of any class: 2")
    add_raster_arguments(parser)


def main(args: argparse.Namespace) -> int:
    with unfinished(args.out) as folder:
        _make(args, folder)
    print(args.out / "item.json")
    return 0


def _make(args: argparse.Namespace, folder: Path) -> None:
    from batchseg.adapt.quantize import even_and_odd, quantized
    from batchseg.adapt.samples import sample_tiles
    from batchseg.model.bundle import open_bundle, write_bundle
    from batchseg.model.card import write_card
    from batchseg.score.gate import check_gate

    bundle = open_bundle(args.bundle)
    samples = sample_tiles(bundle, recipe_of(args, args.calibrate, args.labels), args.tiles)
    calibrating, judging = even_and_odd(samples.x_NBHW)
    with contextlib.redirect_stdout(sys.stderr):  # nncf shows its progress there
        contract, weights = quantized(bundle, args.to, calibrating, args.out.name)
    made = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    write_bundle(folder, contract, weights, made=made)
    found, contract = _judged(bundle, open_bundle(str(folder)), judging, samples)
    names = tuple(c.name for c in contract.classes)
    show_comparison(found, names)
    check_gate(found, names, max_loss=args.max_loss_points, max_class_loss=args.max_class_loss_points)
    facts = {"on": scene_name(args.calibrate), "tiles": len(judging)}
    contract = _documented(bundle.contract, contract, found, facts)
    write_bundle(folder, contract, weights, made=made)
    write_card(folder, contract)


def _judged(bundle: Bundle, made: Bundle, x_NBHW: Any, samples: Samples) -> tuple[QualityChange, Contract]:
    """How the result compares with float32, and its contract with the numerics that it was judged in."""
    from batchseg.adapt.quantize import even_and_odd, exact
    from batchseg.adapt.trial import try_out
    from batchseg.model.device import choose_device
    from batchseg.score.gate import measure_change
    from jobs.terminal.formats import line

    before = try_out(bundle, exact(bundle.contract), "cpu", x_NBHW)
    contract = made.contract
    if contract.is_onnx:
        contract = replace(contract, numerics={"cpu": _fastest(made, x_NBHW)})
        after = try_out(made, contract.numerics["cpu"], "cpu", x_NBHW)
    else:
        # Where there is no GPU, the same precision on a CPU: weights and activations are rounded alike.
        device = choose_device("auto")
        threads = before.numerics.threads
        here = contract.numerics["cuda"] if device == "cuda" else replace(contract.numerics["cuda"], threads=threads)
        after = try_out(made, here, device, x_NBHW)
    print(line("speed", f"{1000 * before.seconds_per_tile:.1f} ms a tile in float32, {told(after)}"))
    reference = None if samples.reference_NHW is None else even_and_odd(samples.reference_NHW)[1]
    judged_NHW = even_and_odd(samples.judged_NHW)[1]
    found = measure_change(before.index_NHW, after.index_NHW, judged_NHW, reference, len(contract.classes))
    return found, contract


def told(trial: Trial) -> str:
    n = trial.numerics
    return f"{1000 * trial.seconds_per_tile:.1f} ms in {n}"


def _fastest(made: Bundle, x_NBHW: Any) -> Numerics:
    from batchseg.adapt.tune import best, try_all

    threads = next(iter(made.contract.numerics.values())).threads
    return best(try_all(made, "cpu", x_NBHW, threads=threads, show=lambda _: None), min_agreement=0.99)


def _documented(original: Contract, contract: Contract, found: QualityChange, facts: dict[str, Any]) -> Contract:
    """Quality is what was measured of this bundle, never that of the original."""
    from batchseg.model.lineage import QuantizedLineage
    from batchseg.model.quality import JudgedTiles, QuantizedQuality
    from batchseg.score.confusion import mean_iou

    quality = QuantizedQuality(agreement_with_original=round(found.agreement, 5), judged_on=JudgedTiles(**facts))
    if found.after is not None and found.before is not None:
        iou = {c.name: v for c, v in zip(contract.classes, found.after, strict=True) if v is not None}
        quality = replace(
            quality,
            iou={name: round(value, 4) for name, value in iou.items()},
            miou=round(mean_iou(found.after), 4),
            miou_of_original=round(mean_iou(found.before), 4),
        )
    lineage = QuantizedLineage(quantized_from=original.name, original=original.lineage)
    return replace(contract, quality=quality, lineage=lineage)
