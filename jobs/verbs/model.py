"""Bundles: what one promises, whether it runs here, models of others made into one, and the best way to run it.

  batchseg model show zoo:synthetic-bulk
  batchseg model check my-bundle
  batchseg model import segformer-b0-finetuned my-bundle --bands red,green,blue --gsd 0.3 0.8
  batchseg model tune my-bundle --on scene.tif

`tune` writes what it found into the bundle, as its numerics for this kind of device; runs obey them and never decide.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from batchseg.model.device import choose_device
from batchseg.tiers import DeviceKind
from jobs.terminal.raster_arguments import add_raster_arguments, at_least, recipe_of, share
from jobs.verbs.model_import import add_import_arguments, imported

if TYPE_CHECKING:
    from batchseg.adapt.tune import Tried
    from batchseg.model.bundle import Bundle
    from batchseg.model.contract import Contract, Numerics

HELP = "show, check, import or tune a bundle"
DEVICES = ("auto", "cpu", "cuda")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(
        dest="action", metavar="ACTION", required=True, title="actions", help="what to do with it"
    )
    show = _action(actions, "show", "print the contract")
    show.add_argument("bundle", metavar="BUNDLE", help="`zoo:NAME`, a folder or a URL")
    check = _action(actions, "check", "run it on a synthetic tile: shapes, seconds a tile, memory")
    check.add_argument("bundle", metavar="BUNDLE", help="`zoo:NAME`, a folder or a URL")
    check.add_argument("--device", choices=DEVICES, default="auto", help="auto: a GPU where there is one")
    tune = _action(actions, "tune", "measure every way to run it here, and write the best into it")
    tune.add_argument(
        "bundle", metavar="BUNDLE", help="a folder; what is found is written into it (with --dry-run any)"
    )
    tune.add_argument("--device", choices=DEVICES, default="auto", help="auto: a GPU where there is one")
    tune.add_argument("--on", metavar="RASTER", help="real tiles to compare labels on; by default synthetic ones")
    tune.add_argument("--tiles", type=at_least(1), default=4, metavar="N", help="tiles that are compared: 4")
    tune.add_argument("--threads", type=at_least(1), metavar="N", help="CPU threads of a worker; by default all")
    tune.add_argument(
        "--min-agreement", type=share, default=0.99, metavar="SHARE", help="labels that are as in float32: 0.99"
    )
    tune.add_argument("--dry-run", action="store_true", help="measure, and leave the bundle as it is")
    add_raster_arguments(tune)
    add_import_arguments(_action(actions, "import", "make a bundle of a transformers SegFormer folder or an ONNX file"))


def _action(actions: Any, name: str, does: str) -> argparse.ArgumentParser:
    """Says what it does in the list of actions and on its own page."""
    parser: argparse.ArgumentParser = actions.add_parser(name, help=does, description=f"{does[0].upper()}{does[1:]}.")
    return parser


def main(args: argparse.Namespace) -> int:
    status: int = {"show": _show, "check": _check, "import": _import, "tune": _tune}[args.action](args)
    return status


def _show(args: argparse.Namespace) -> int:
    from batchseg.model.bundle import open_bundle

    for text in lines(open_bundle(args.bundle)):
        print(text)
    return 0


def lines(bundle: Bundle) -> Iterator[str]:
    from batchseg.schema import plain
    from jobs.terminal.formats import line

    contract = bundle.contract
    low_m, high_m = contract.gsd_m
    yield line("name", f"{contract.name}, for the {contract.tier} tier; {bundle.folder}")
    bands = (f"{b.name} ({b.common})" if b.common not in (None, b.name) else b.name for b in contract.bands)
    yield line("bands", ", ".join(bands))
    yield line("values", f"{contract.dtype}, {contract.range[0]:g} to {contract.range[1]:g}")
    yield line("mean", ", ".join(f"{v:g}" for v in contract.mean))
    yield line("deviation", ", ".join(f"{v:g}" for v in contract.std))
    yield line("pixels", f"{low_m:g} to {high_m:g} m")
    yield line("classes", ", ".join("{} {} #{:02x}{:02x}{:02x}".format(c.id, c.name, *c.rgb) for c in contract.classes))
    side = f"{contract.tile_px} px" if contract.tile_px else f"a multiple of {contract.stride_px} px"
    yield line("tile", f"{side}, of it {contract.halo_px} px of context on each side")
    yield line("network", ", ".join(f"{key} {value}" for key, value in plain(contract.architecture).items()))
    for kind, numerics in sorted(contract.numerics.items()):
        yield line(kind, told(numerics, contract))
    quality = plain(contract.quality)
    if "agreement_with_original" in quality:
        original = plain(contract.lineage).get("quantized_from", "the original")
        yield line(
            "agreement", f"{quality['agreement_with_original']:.2%} of labels as {original} gives them in float32"
        )
    if "miou" in quality:
        each = ", ".join(f"{name} {value:.3f}" for name, value in quality.get("iou", {}).items())
        yield line("mean IoU", f"{quality['miou']:.3f}: {each}")
    yield line("weights", f"{bundle.weights.name}, {bundle.weights.stat().st_size} bytes, sha256 as promised")
    yield line("digest", bundle.digest)


def told(numerics: Numerics, contract: Contract) -> str:
    from batchseg.model.lineage import QuantizedLineage

    parts = [str(numerics)]
    if numerics.seconds_per_tile is not None:
        parts.append(f"{1000 * numerics.seconds_per_tile:.1f} ms a tile")
    if numerics.memory_bytes is not None:
        parts.append(f"{numerics.memory_bytes / 2**30:.2f} GiB")
    if numerics.agreement is not None:
        quantised = isinstance(contract.lineage, QuantizedLineage)
        exact = "its own quantised weights give them" if quantised else "in float32"
        parts.append(f"{numerics.agreement:.2%} of labels as {exact}")
    return ", ".join(parts) + (f" ({numerics.measured_on})" if numerics.measured_on else ", not measured")


def _check(args: argparse.Namespace) -> int:
    from batchseg.model.bundle import open_bundle

    return check(open_bundle(args.bundle), choose_device(args.device))


def check(bundle: Bundle, device: DeviceKind) -> int:
    """Run it once as a run would, and say what came out."""
    from batchseg.adapt.trial import synthetic_tiles, try_out, usual_tile_px
    from jobs.terminal.formats import line

    contract = bundle.contract
    numerics, side_px = contract.find_numerics(device), usual_tile_px(contract)
    x = synthetic_tiles(bundle, numerics.batch, side_px)
    trial = try_out(bundle, numerics, device, x)
    counts = [int((trial.index_NHW == i).sum()) for i in range(len(contract.classes))]
    shares = sorted(zip(counts, contract.classes, strict=True), key=lambda pair: -pair[0])
    print(line("in", f"{' x '.join(map(str, x.shape))} {x.dtype}"))
    print(line("out", f"{' x '.join(map(str, trial.index_NHW.shape))} labels and confidences"))
    print(line("labels", ", ".join(f"{c.name} {count / trial.index_NHW.size:.1%}" for count, c in shares if count)))
    print(line("device", f"{device}: {numerics}"))
    print(line("start", f"{trial.start_s:.1f} s"))
    print(line("tile", f"{1000 * trial.seconds_per_tile:.1f} ms, {1 / trial.seconds_per_tile:.1f} tiles a second"))
    print(line("memory", f"{trial.memory_bytes / 2**30:.2f} GiB"))
    return 0


def _import(args: argparse.Namespace) -> int:
    for text in lines(imported(args)):
        print(text)
    print(f"next: batchseg model check {args.out}, then batchseg model tune {args.out}", file=sys.stderr)
    return 0


def _tune(args: argparse.Namespace) -> int:
    import os

    from batchseg.adapt.samples import sample_tiles
    from batchseg.adapt.trial import synthetic_tiles, usual_tile_px
    from batchseg.adapt.tune import best, try_all, write_numerics
    from batchseg.model.bundle import open_bundle

    bundle, device = open_bundle(args.bundle), choose_device(args.device)
    if not args.dry_run:
        _check_own(args.bundle, bundle)
    if args.on is None:
        print("compared on synthetic tiles; --on RASTER compares on real ones", file=sys.stderr)
        x_NBHW = synthetic_tiles(bundle, args.tiles, usual_tile_px(bundle.contract))
    else:
        x_NBHW = sample_tiles(bundle, recipe_of(args, args.on, None), args.tiles).x_NBHW
    threads = args.threads or (len(os.sched_getaffinity(0)) if device == "cpu" else 1)
    tried = try_all(bundle, device, x_NBHW, threads=threads, show=_show_tried)
    chosen = best(tried, min_agreement=args.min_agreement)
    print(f"best on {device}: {told(chosen, bundle.contract)}")
    if not args.dry_run:
        write_numerics(bundle, device, chosen)
        print(f"written into {bundle.folder / 'item.json'}; digest {open_bundle(args.bundle).digest}")
    return 0


def _check_own(ref: str, bundle: Bundle) -> None:
    """What is behind these names is the same on all machines: a change of this one's copy would be another bundle."""
    import shlex

    from batchseg.errors import BundleError
    from batchseg.remote import is_remote

    if is_remote(ref) or ref.startswith("zoo:"):
        folder, own = shlex.quote(str(bundle.folder)), shlex.quote(f"my-{bundle.folder.name}")
        raise BundleError(
            "what tuning finds is written into the bundle, and this one is not yours alone",
            where=ref,
            expected="a folder",
            todo=f"copy it first: `cp -r {folder} {own}`, then tune {own}; --dry-run measures and changes nothing",
        )


def _show_tried(tried: Tried) -> None:
    n = tried.numerics
    facts = (
        tried.problem
        or f"{1000 * (n.seconds_per_tile or 0):8.1f} ms a tile  {n.agreement:8.3%} as float32  "
        f"{(n.memory_bytes or 0) / 2**30:5.2f} GiB  start {tried.start_s:.1f} s"
    )
    streams = "" if n.streams == 1 else f"in {n.streams} streams  "
    print(f"{n.backend:>12} {n.precision:<9} batch {n.batch:<3} {streams}{facts}", flush=True)
