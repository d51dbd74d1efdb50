"""Compare two runs over the same scenes: cost, time, IoU with its bootstrap interval, agreement, and the differences.

The last line is `verdict` with `key=value` pairs for a script. Quality is `better`, `worse` or `same`: B against A, by
the 95 % interval of the difference of mIoU over resampled blocks of 1024 px. Without labels it is `unknown`.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from jobs.terminal.labels_arguments import add_labels_arguments, parse_labels

if TYPE_CHECKING:
    from batchseg.reports.comparison import Comparison

HELP = "compare two runs: cost, IoU, agreement, and where they differ most"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("first", metavar="OUT_A", help="output folder or URL of one run")
    parser.add_argument("second", metavar="OUT_B", help="output folder or URL of the other run")
    add_labels_arguments(parser, required=False)
    parser.add_argument(
        "--to",
        metavar="FOLDER",
        type=Path,
        help="local folder for compare.json and pictures (default: OUT_B/compare/NAME, NAME being OUT_A's)",
    )


def main(args: argparse.Namespace) -> int:
    from batchseg.reports.compare import compare

    labels = parse_labels(args) if args.labels else None
    comparison = compare(args.first, args.second, labels, folder=args.to or _default_folder(args.first, args.second))
    for line in format_comparison(comparison):
        print(line)
    print(f"verdict {comparison.verdict}")
    return 0


def _default_folder(first: str, second: str) -> Path:
    """A folder of its own for each run A, so that comparisons with several runs stay."""
    from batchseg.errors import InputError
    from batchseg.paths import COMPARISONS_FOLDER
    from batchseg.remote import is_remote

    if is_remote(second):
        raise InputError("the pictures need a local folder", where=second, todo="name one with --to")
    name = Path(first.rstrip("/").rpartition("/")[2]).name if is_remote(first) else Path(first).resolve().name
    return Path(second) / COMPARISONS_FOLDER / name


def format_comparison(comparison: Comparison) -> list[str]:
    """The costs, the agreement, a table of IoU, and the pictures of the blocks that differ most."""
    from jobs.terminal.formats import format_duration, format_usd

    rows = []
    for name, cost in (("A", comparison.cost.a), ("B", comparison.cost.b)):
        per_km2 = "" if cost.cost_usd_per_km2 is None else f", {format_usd(cost.cost_usd_per_km2)} per km²"
        rows.append(f"{name}  {format_usd(cost.cost_usd)}{per_km2}, {format_duration(cost.wall_s)}")
    rows.append(f"agreement  {comparison.agreement} of the pixels, over {comparison.num_blocks} blocks")
    if comparison.iou is not None and comparison.miou is not None:
        rows.append(f"{'IoU':<16}{'A':>26}{'B':>26}{'B - A':>26}")
        for name, sides in {**comparison.iou, "mean": comparison.miou}.items():
            rows.append(f"{name:<16}{sides.a!s:>26}{sides.b!s:>26}{sides.difference!s:>26}")
    for block in comparison.differences:
        place = f"{block.scene}, row {block.window.rows.start}, column {block.window.cols.start}"
        rows.append(f"{block.picture}  {place}: {block.differing_share:.1%} of the pixels differ")
    return rows
