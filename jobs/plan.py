"""Say what a run will do, take and cost. Reads headers only and writes nothing."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from batchseg.runs.estimate import Estimate, SceneEstimate

HELP = "what a run will do, take and cost; writes nothing"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("recipe", metavar="RECIPE", help="recipe file (YAML)")
    parser.add_argument("--fleet", metavar="FLEET", help="fleet file (YAML): workers and prices")


def main(args: argparse.Namespace) -> int:
    from batchseg.objectstore import open_store  # noqa: PLC0415 - --help must not wait for it
    from batchseg.recipe import load_fleet, load_recipe  # noqa: PLC0415 - --help must not wait for it
    from batchseg.runs.estimate import estimate  # noqa: PLC0415
    from batchseg.runs.resolve import resolve  # noqa: PLC0415

    recipe, fleet = load_recipe(args.recipe), load_fleet(args.fleet)
    resolved = resolve(recipe)
    found = estimate(resolved, fleet, open_store(recipe.output))
    for line in lines(found, resolved.fingerprint):
        print(line)
    return 0


def lines(e: Estimate, fingerprint: str) -> list[str]:
    from jobs.display import counted, duration, money  # noqa: PLC0415 - the command line imports this module

    return [
        *(_scene_line(scene) for scene in e.scenes),
        f"to do      {counted(e.num_to_do, 'chunk')}",
        f"memory     {e.worker_bytes / 2**30:.2f} GiB a worker",
        f"output     {e.output_bytes / 1e9:.3f} GB in {e.num_objects} objects",
        f"requests   about {e.num_reads} reads and {e.num_writes} writes; {money(e.requests_usd)} on top on S3",
        f"time       {'unknown' if e.seconds is None else duration(e.seconds)}",
        f"cost       {'unknown' if e.usd is None else money(e.usd)}",
        *(f"  assumed  {text}" for text in e.assumptions),
        f"recipe     {fingerprint}",
    ]


def _scene_line(s: SceneEstimate) -> str:
    from jobs.display import counted  # noqa: PLC0415

    area = "km² unknown" if s.area_km2 is None else f"{s.area_km2:.4f} km²"
    rows, cols = s.shape_px
    chunks = f"{counted(s.num_chunks, 'chunk')} ({s.num_committed} committed, {s.num_empty} surely empty)"
    tiles = f"{counted(s.num_tiles, 'tile')}, {s.num_priority_tiles} of them priority"
    return f"scene      {s.name}: {cols} x {rows} px, {area}; {chunks}; {tiles}"
