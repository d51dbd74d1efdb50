"""An A/B trial of two runs over the same scenes: cost, time, IoU with its range, agreement, and where they differ most.

The last line is `verdict` with `key=value` pairs for a script: quality is `better`, `worse` or `same` (B against A, by
the range of the difference of mIoU over resampled blocks of 1024 px), or `unknown` without labels.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from jobs.terminal.labels_arguments import add_labels_arguments, parse_labels

HELP = "two runs side by side: cost, IoU, agreement, and where they differ most"
NUM_CROPS = 6


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("first", metavar="OUT_A", help="output folder or URL of one run")
    parser.add_argument("second", metavar="OUT_B", help="output folder or URL of the other")
    add_labels_arguments(parser, required=False)
    parser.add_argument("--to", metavar="FOLDER", type=Path, help="for compare.json and crops; default: OUT_B/compare")


def main(args: argparse.Namespace) -> int:
    from batchseg.reports.compare import StoredLabels, compare
    from batchseg.reports.disagreement_crops import write_crop
    from batchseg.reports.evaluate import assign_labels
    from batchseg.resolve.plan_file import read_plan
    from jobs.terminal.output_folder import opened

    (first, _), (second, _) = opened(args.first), opened(args.second)
    plans = read_plan(first), read_plan(second)
    folder = args.to or _beside(args.second)
    found, blocks = compare(first, second, assign_labels(plans[0], parse_labels(args)) if args.labels else {})
    folder.mkdir(parents=True, exist_ok=True)
    crops = [block for block in blocks[:NUM_CROPS] if block.agreeing_px < block.both_px]
    for number, block in enumerate(crops, start=1):
        sides = (StoredLabels.of(store, plan, block.scene) for store, plan in zip((first, second), plans, strict=True))
        write_crop(folder / f"crop_{number}.png", block, *sides)
    (folder / "compare.json").write_text(json.dumps(found, indent=1))
    for line in lines(found):
        print(line)
    for number, block in enumerate(crops, start=1):
        rows, cols = block.window.rows, block.window.cols
        share = 1 - block.agreeing_px / block.both_px
        print(f"{folder}/crop_{number}.png  {block.scene}, row {rows.start}, column {cols.start}: {share:.1%} differ")
    print(f"verdict {found['verdict']}")
    return 0


def _beside(output: str) -> Path:
    from batchseg.errors import InputError
    from batchseg.remote import is_remote

    if is_remote(output):
        raise InputError("pictures go into a local folder", where=output, todo="name one with --to")
    return Path(output) / "compare"


def lines(found: dict[str, Any]) -> list[str]:
    from jobs.terminal.formats import format_duration, format_usd

    rows = []
    for name in ("a", "b"):
        cost = found["cost"][name]
        per_km2 = "" if cost["cost_usd_per_km2"] is None else f", {format_usd(cost['cost_usd_per_km2'])} per km²"
        rows.append(f"{name.upper()}  {format_usd(cost['cost_usd'])}{per_km2}, {format_duration(cost['wall_s'])}")
    rows.append(f"agreement  {_ranged(found['agreement'])} over {found['blocks']} blocks")
    if found["iou"] is not None:
        rows.append(f"{'IoU':<16}{'A':>26}{'B':>26}{'B - A':>26}")
        for name, sides in {**found["iou"], "mean": found["miou"]}.items():
            rows.append(f"{name:<16}" + "".join(f"{_ranged(sides[side]):>26}" for side in ("a", "b", "difference")))
    return rows


def _ranged(value: dict[str, float | None]) -> str:
    if value["value"] is None:
        return "-"
    return f"{value['value']:.4f} [{value['low']:.4f}, {value['high']:.4f}]"
