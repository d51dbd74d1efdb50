"""Say what a run will do, take and cost. Reads headers and a sample of pixels, and writes nothing.

With --pilot, both models run on a sample of tiles. A table then shows what each share of heavy tiles would cost per
km², and how good the labels would be: their mIoU where the recipe has labels, else the share of pixels that have the
same label as with the heavy model alone.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from jobs.terminal.fleet_arguments import add_fleet_arguments, load_limited_fleet

if TYPE_CHECKING:
    from batchseg.budget.curve import CurvePoint
    from batchseg.budget.preview import PilotPreview
    from batchseg.budget.scene_estimate import SceneEstimate
    from batchseg.runs.estimate import Plan

HELP = "say what a run will do, take and cost; writes nothing"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("recipe", metavar="RECIPE", help="recipe file (YAML)")
    add_fleet_arguments(parser)
    parser.add_argument(
        "--pilot", action="store_true", help="run both models on a sample of tiles, and price each share of heavy tiles"
    )
    parser.add_argument("--json", action="store_true", help="print the whole plan as JSON")


def main(args: argparse.Namespace) -> int:
    from batchseg.egress import format_json
    from batchseg.runs.estimate import plan
    from batchseg.schema import plain
    from jobs.runner import find_placement

    fleet = load_limited_fleet(args.fleet, args.workers)
    placement = find_placement(fleet, has_fleet_file=args.fleet is not None)
    run_plan = plan(args.recipe, fleet, pilot=args.pilot, placement=placement)
    if args.json:
        print(format_json(plain(run_plan), indent=1))
    else:
        print("\n".join([*format_plan(run_plan), *([] if run_plan.pilot is None else format_pilot(run_plan.pilot))]))
    return 0


def format_plan(plan: Plan) -> list[str]:
    from jobs.terminal.formats import format_count, format_duration, format_usd

    return [
        *(_format_scene(scene) for scene in plan.scenes),
        f"to do      {format_count(plan.num_to_do, 'chunk')}",
        f"memory     {plan.worker_bytes / 2**30:.2f} GiB per worker",
        f"output     {plan.output_bytes / 1e9:.3f} GB in {format_count(plan.num_objects, 'object')}",
        (
            f"requests   about {plan.num_reads} reads and {plan.num_writes} writes; "
            f"on S3 they add {format_usd(plan.requests_usd)} to the cost"
        ),
        f"time       {'unknown' if plan.seconds is None else format_duration(plan.seconds)}",
        f"cost       {'unknown' if plan.usd is None else format_usd(plan.usd)}",
        *(f"  assumed  {text}" for text in plan.assumptions),
        *(f"warning    {text}" for text in plan.warnings),
        f"recipe     {plan.fingerprint}",
    ]


def _format_scene(scene: SceneEstimate) -> str:
    from jobs.terminal.formats import format_count

    area = "km² unknown" if scene.area_km2 is None else f"{scene.area_km2:.4f} km²"
    rows, cols = scene.shape_px
    chunks = format_count(scene.num_chunks, "chunk")
    tiles = format_count(scene.num_tiles, "tile")
    return (
        f"scene      {scene.name}: {cols} x {rows} px, {area}; "
        f"{chunks} ({scene.num_committed} committed, {scene.num_empty} surely empty); "
        f"{tiles}, {scene.num_priority_tiles} of them priority"
    )


def format_pilot(pilot: PilotPreview) -> list[str]:
    """A table of the curve, in which the point that the recipe takes has a mark."""
    from jobs.terminal.formats import format_count, format_usd

    measure = "mIoU" if pilot.measure == "miou" else "agrees"
    return [
        f"pilot      {format_count(pilot.num_tiles, 'tile')}, {pilot.priority_share:.1%} of them priority",
        f"  {'heavy':>8}{'uncertain from':>16}{'$ per km²':>14}{'$ in total':>14}{measure:>10}",
        *(_format_point(point, pilot) for point in pilot.curve),
        *(
            ["  agrees: share of pixels with the label of the heavy model alone; only labels can say which is right"]
            if pilot.measure == "agreement"
            else []
        ),
        f"  these costs leave out the pilot; this one cost {format_usd(pilot.pilot_usd)}",
    ]


def _format_point(point: CurvePoint, pilot: PilotPreview) -> str:
    from batchseg.engine.route import NEVER, SCORE_TOP
    from jobs.terminal.formats import format_usd

    usd_per_km2 = "unknown" if point.usd_per_km2 is None else format_usd(point.usd_per_km2)
    uncertain_from = "never" if point.threshold > SCORE_TOP else f"{point.threshold / SCORE_TOP:.4f}"
    quality = point.miou if pilot.measure == "miou" else point.agreement
    threshold = NEVER if pilot.threshold is None else pilot.threshold
    mark = "  <- this recipe" if point.threshold == threshold else ""
    return (
        f"  {point.heavy_share:>8.1%}{uncertain_from:>16}{usd_per_km2:>14}{format_usd(point.usd):>14}"
        f"{quality:>10.4f}{mark}"
    )
