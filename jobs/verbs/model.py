"""Bundles: show one, check that it runs here, import a model from elsewhere, find the best way to run one.

  batchseg model show zoo:synthetic-bulk
  batchseg model check my-bundle
  batchseg model import segformer-b0-finetuned my-bundle --bands red,green,blue --gsd 0.3 0.8
  batchseg model tune my-bundle --on scene.tif

`tune` writes its result into the bundle, as the numerics for this kind of device. Runs obey them and never choose.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from jobs.terminal.raster_arguments import add_raster_arguments, at_least, read_raster_arguments, share
from jobs.verbs.model_import import add_import_arguments, read_model_facts

if TYPE_CHECKING:
    from batchseg.adapt.candidates import Candidate
    from batchseg.model.bundle import Bundle
    from batchseg.model.contract import Contract, Numerics
    from batchseg.model.quality import AdjustedQuality, QuantizedQuality, TrainedQuality

HELP = "show, check, import or tune a bundle"
DEVICES = ("auto", "cpu", "cuda")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(
        dest="action", metavar="ACTION", required=True, title="actions", help="what to do with the bundle"
    )
    show = _add_action(actions, "show", "print the contract of a bundle")
    show.add_argument("bundle", metavar="BUNDLE", help="`zoo:NAME`, a folder or a URL")
    check = _add_action(actions, "check", "run a bundle on synthetic tiles: shapes, seconds per tile, memory")
    check.add_argument("bundle", metavar="BUNDLE", help="`zoo:NAME`, a folder or a URL")
    _add_device_argument(check)
    tune = _add_action(actions, "tune", "measure every way to run a bundle here, and write the best one into it")
    tune.add_argument(
        "bundle", metavar="BUNDLE", help="the folder of the bundle; with --dry-run also `zoo:NAME` or a URL"
    )
    _add_device_argument(tune)
    tune.add_argument(
        "--on", metavar="RASTER", help="compare labels on tiles of this raster (default: synthetic tiles)"
    )
    tune.add_argument("--tiles", type=at_least(1), default=4, metavar="N", help="tiles to compare (default: 4)")
    tune.add_argument("--threads", type=at_least(1), metavar="N", help="CPU threads of a worker (default: all)")
    tune.add_argument(
        "--min-agreement",
        type=share,
        default=0.99,
        metavar="SHARE",
        help="share of labels that must be those of float32 (default: 0.99)",
    )
    tune.add_argument("--dry-run", action="store_true", help="measure, and leave the bundle as it is")
    add_raster_arguments(tune)
    add_import_arguments(
        _add_action(actions, "import", "make a bundle of a transformers SegFormer folder or an ONNX file")
    )


def _add_action(actions: Any, name: str, does: str) -> argparse.ArgumentParser:
    """The same sentence stands in the list of actions and on the action's own page."""
    parser: argparse.ArgumentParser = actions.add_parser(name, help=does, description=f"{does[0].upper()}{does[1:]}.")
    return parser


def _add_device_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--device",
        choices=DEVICES,
        default="auto",
        help="device to run on; auto takes a GPU if there is one (default: auto)",
    )


def main(args: argparse.Namespace) -> int:
    {"show": _show, "check": _check, "import": _import, "tune": _tune}[args.action](args)
    return 0


def _show(args: argparse.Namespace) -> None:
    from batchseg.model.bundle import open_bundle

    for text in format_bundle(open_bundle(args.bundle)):
        print(text)


def format_bundle(bundle: Bundle) -> Iterator[str]:
    from batchseg.schema import plain
    from jobs.terminal.formats import format_line

    contract = bundle.contract
    low_m, high_m = contract.gsd_m
    yield format_line("name", f"{contract.name}, for the {contract.tier} tier; {bundle.folder}")
    bands = (f"{b.name} ({b.common})" if b.common not in (None, b.name) else b.name for b in contract.bands)
    yield format_line("bands", ", ".join(bands))
    yield format_line("values", f"{contract.dtype}, {contract.range[0]:g} to {contract.range[1]:g}")
    yield format_line("mean", ", ".join(f"{v:g}" for v in contract.mean))
    yield format_line("deviation", ", ".join(f"{v:g}" for v in contract.std))
    yield format_line("pixels", f"{low_m:g} to {high_m:g} m")
    yield format_line(
        "classes", ", ".join("{} {} #{:02x}{:02x}{:02x}".format(c.id, c.name, *c.rgb) for c in contract.classes)
    )
    side = f"{contract.tile_px} px" if contract.tile_px else f"a multiple of {contract.stride_px} px"
    yield format_line("tile", f"{side}, with a halo of {contract.halo_px} px on each side")
    yield format_line("network", ", ".join(f"{key} {value}" for key, value in plain(contract.architecture).items()))
    for kind, numerics in sorted(contract.numerics.items()):
        yield format_line(kind, format_numerics(numerics, contract))
    yield from _format_quality(contract)
    yield format_line(
        "weights", f"{bundle.weights.name}, {bundle.weights.stat().st_size} bytes, SHA-256 as in the contract"
    )
    yield format_line("digest", bundle.digest)


def _format_quality(contract: Contract) -> Iterator[str]:
    from batchseg.model.lineage import QuantizedLineage
    from batchseg.model.quality import QuantizedQuality, UnknownQuality
    from jobs.terminal.formats import format_line

    quality, lineage = contract.quality, contract.lineage
    if isinstance(quality, UnknownQuality):
        return
    if isinstance(quality, QuantizedQuality):
        original = lineage.quantized_from if isinstance(lineage, QuantizedLineage) else "the original"
        yield format_line(
            "agreement", f"{quality.agreement_with_original:.2%} of labels as {original} gives them in float32"
        )
    if quality.iou is not None and quality.miou is not None:
        per_class = ", ".join(f"{name} {value:.3f}" for name, value in quality.iou.items())
        yield format_line("mean IoU", f"{quality.miou:.3f}: {per_class}")
        yield format_line("", f"on {_describe_judged_ground(quality)}")


def _describe_judged_ground(quality: TrainedQuality | AdjustedQuality | QuantizedQuality) -> str:
    from batchseg.model.card import describe_ground
    from batchseg.model.quality import AdjustedQuality, TrainedQuality

    if isinstance(quality, TrainedQuality):
        return f"{describe_ground(quality.on)}, which it was never trained on"
    if isinstance(quality, AdjustedQuality):
        return f"{quality.judged_on.pixels} labelled pixels of {quality.judged_on.on}, by cross-validation"
    return f"{quality.judged_on.tiles} tiles of {quality.judged_on.on}, which the original may have been trained on"


def format_numerics(numerics: Numerics, contract: Contract) -> str:
    from batchseg.model.lineage import QuantizedLineage

    parts = [str(numerics)]
    if numerics.seconds_per_tile is not None:
        parts.append(f"{1000 * numerics.seconds_per_tile:.1f} ms per tile")
    if numerics.memory_bytes is not None:
        parts.append(f"{numerics.memory_bytes / 2**30:.2f} GiB")
    if numerics.agreement is not None:
        is_quantized = isinstance(contract.lineage, QuantizedLineage)
        exact = "its own quantised weights give them" if is_quantized else "in float32"
        parts.append(f"{numerics.agreement:.2%} of labels as {exact}")
    return ", ".join(parts) + (f" ({numerics.measured_on})" if numerics.measured_on else ", not measured")


def _check(args: argparse.Namespace) -> None:
    from batchseg.adapt.check import check_bundle
    from jobs.terminal.formats import format_line

    check = check_bundle(args.bundle, device=args.device)
    shares = sorted(check.class_shares.items(), key=lambda pair: -pair[1])
    print(format_line("in", f"{' x '.join(map(str, check.input_shape))} {check.input_type}"))
    print(format_line("out", f"{' x '.join(map(str, check.output_shape))} labels and confidences"))
    print(format_line("labels", ", ".join(f"{name} {share:.1%}" for name, share in shares if share)))
    print(format_line("device", f"{check.device}: {check.numerics}"))
    print(format_line("start", f"{check.start_s:.1f} s"))
    print(
        format_line(
            "tile", f"{1000 * check.seconds_per_tile:.1f} ms, {1 / check.seconds_per_tile:.1f} tiles per second"
        )
    )
    print(format_line("memory", f"{check.memory_bytes / 2**30:.2f} GiB"))


def _import(args: argparse.Namespace) -> None:
    from batchseg.model.importing import import_bundle

    for text in format_bundle(import_bundle(args.path, args.out, read_model_facts(args))):
        print(text)
    print(f"next: batchseg model check {args.out}, then batchseg model tune {args.out}", file=sys.stderr)


def _tune(args: argparse.Namespace) -> None:
    from batchseg.adapt.tune import tune_bundle

    if args.on is None:
        print("labels are compared on synthetic tiles; --on RASTER compares them on real ones", file=sys.stderr)
    reading = read_raster_arguments(args)
    tuning = tune_bundle(
        args.bundle,
        device=args.device,
        on=args.on,
        tiles=args.tiles,
        threads=args.threads,
        min_agreement=args.min_agreement,
        dry_run=args.dry_run,
        bands=reading.bands,
        scale=reading.scale,
        accept=reading.accept,
        show=_print_candidate,
    )
    print(f"best on {tuning.device}: {format_numerics(tuning.best, tuning.bundle.contract)}")
    if not args.dry_run:
        print(f"written into {tuning.bundle.folder / 'item.json'}; digest {tuning.bundle.digest}")


def _print_candidate(candidate: Candidate) -> None:
    n = candidate.numerics
    facts = (
        candidate.problem
        or f"{1000 * (n.seconds_per_tile or 0):8.1f} ms per tile  {n.agreement:8.3%} as float32  "
        f"{(n.memory_bytes or 0) / 2**30:5.2f} GiB  start {candidate.start_s:.1f} s"
    )
    streams = "" if n.streams == 1 else f"in {n.streams} streams  "
    print(f"{n.backend:>12} {n.precision:<9} batch {n.batch:<3} {streams}{facts}", flush=True)
