"""Say what a run will do, take and cost. Reads headers only and writes nothing.

With --pilot both models run on a sample of tiles in this process: what each share of heavy tiles would cost a km², and
what it would bring: mIoU where the recipe has labels, else how far the map agrees with that of the heavy model alone.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from batchseg.budget.preview import PilotPreview
    from batchseg.runs.estimate import Estimate, SceneEstimate

HELP = "what a run will do, take and cost; writes nothing"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("recipe", metavar="RECIPE", help="recipe file (YAML)")
    parser.add_argument("--fleet", metavar="FLEET", help="fleet file (YAML): workers and prices")
    parser.add_argument("--pilot", action="store_true", help="run both models on a sample; heavy share against cost")
    parser.add_argument("--json", action="store_true", help="print all of it as JSON")


def main(args: argparse.Namespace) -> int:
    from batchseg.budget.preview import preview_pilot
    from batchseg.objectstore import open_store
    from batchseg.recipe import load_fleet, load_recipe
    from batchseg.resolve.resolve import resolve
    from batchseg.runs.estimate import estimate
    from batchseg.schema import plain
    from jobs.runner import find_placement

    recipe, fleet = load_recipe(args.recipe), load_fleet(args.fleet)
    resolved, store = resolve(recipe), open_store(recipe.output)
    found = estimate(resolved, fleet, store)
    pilot = (
        preview_pilot(resolved, fleet, store, find_placement(fleet, has_fleet_file=args.fleet is not None))
        if args.pilot
        else None
    )
    if args.json:
        print(json.dumps({"recipe": resolved.fingerprint, **asdict(found), "pilot": plain(pilot)}, indent=1))
        return 0
    for line in [*lines(found, resolved.fingerprint), *([] if pilot is None else pilot_lines(pilot))]:
        print(line)
    return 0


def pilot_lines(pilot: PilotPreview) -> list[str]:
    """A table; the point that the recipe takes has a mark."""
    from jobs.terminal.formats import format_usd

    measure = "mIoU" if pilot.measure == "miou" else "agrees"
    rows = [f"pilot      {pilot.num_tiles} tiles, {pilot.priority_share:.1%} of them priority"]
    rows.append(f"  {'heavy':>8}{'uncertain from':>16}{'$ a km²':>14}{'$ in all':>14}{measure:>10}")
    for point in pilot.curve:
        per_km2 = "unknown" if point.usd_per_km2 is None else format_usd(point.usd_per_km2)
        above = "never" if point.threshold > 10_000 else f"{point.threshold / 10_000:.4f}"
        mark = "  <- this recipe" if point.threshold == pilot.threshold else ""
        rows.append(
            f"  {point.heavy_share:>8.1%}{above:>16}{per_km2:>14}{format_usd(point.usd):>14}"
            f"{getattr(point, pilot.measure):>10.4f}{mark}"
        )
    if pilot.measure == "agreement":
        rows.append("  agrees: with the heavy model alone; it does not say which one is right, labels do")
    rows.append(f"  without pilots; this one cost {format_usd(pilot.pilot_usd)}")
    return rows


def lines(e: Estimate, fingerprint: str) -> list[str]:
    from jobs.terminal.formats import format_count, format_duration, format_usd

    return [
        *(_scene_line(scene) for scene in e.scenes),
        f"to do      {format_count(e.num_to_do, 'chunk')}",
        f"memory     {e.worker_bytes / 2**30:.2f} GiB a worker",
        f"output     {e.output_bytes / 1e9:.3f} GB in {e.num_objects} objects",
        f"requests   about {e.num_reads} reads and {e.num_writes} writes; {format_usd(e.requests_usd)} on top on S3",
        f"time       {'unknown' if e.seconds is None else format_duration(e.seconds)}",
        f"cost       {'unknown' if e.usd is None else format_usd(e.usd)}",
        *(f"  assumed  {text}" for text in e.assumptions),
        *(f"warning    {text}" for text in e.warnings),
        f"recipe     {fingerprint}",
    ]


def _scene_line(s: SceneEstimate) -> str:
    from jobs.terminal.formats import format_count

    area = "km² unknown" if s.area_km2 is None else f"{s.area_km2:.4f} km²"
    rows, cols = s.shape_px
    chunks = f"{format_count(s.num_chunks, 'chunk')} ({s.num_committed} committed, {s.num_empty} surely empty)"
    tiles = f"{format_count(s.num_tiles, 'tile')}, {s.num_priority_tiles} of them priority"
    return f"scene      {s.name}: {cols} x {rows} px, {area}; {chunks}; {tiles}"
