"""Train a bundle from a training recipe, and measure it on scenes that it has never seen.

Ctrl-C and SIGTERM write a checkpoint after the step in hand. The same command continues from the last checkpoint.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from batchseg.model.bundle import Bundle
    from batchseg.training.train_recipe import TrainRecipe

HELP = "train a bundle on labelled rasters or synthetic scenes"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("recipe", metavar="RECIPE", type=Path, help="training recipe (YAML)")
    parser.add_argument("out", metavar="OUT", type=Path, help="folder of the bundle")
    parser.add_argument("--steps", type=int, metavar="N", help="number of steps, instead of the recipe's")
    parser.add_argument("--seed", type=int, metavar="N", help="seed, instead of the recipe's")
    parser.add_argument(
        "--device",
        choices=("auto", "cpu", "cuda"),
        default="auto",
        help="device to train on; auto takes a GPU if there is one (default: auto)",
    )


def main(args: argparse.Namespace) -> int:
    import dataclasses
    import sys
    import time

    from batchseg.errors import StoppedError
    from batchseg.runs.drive import Stop
    from batchseg.training.checks import load_train_recipe
    from batchseg.training.train import distill, train
    from jobs.terminal.progress_bar import show_progress
    from jobs.terminal.signals import stop_on_signals
    from jobs.terminal.trained_bundle import format_trained

    changes = {name: getattr(args, name) for name in ("steps", "seed") if getattr(args, name) is not None}
    recipe = dataclasses.replace(load_train_recipe(args.recipe), **changes)
    make_bundle = distill if args.verb == "distill" else train
    stop, begun_s, num_steps = Stop(), time.perf_counter(), 0
    with stop_on_signals(stop, unit="step"), show_progress("step") as show_bar:

        def show(num_done: int, num_all: int, figures: dict[str, float]) -> None:
            nonlocal num_steps
            num_steps += "loss" in figures
            show_bar(num_done, num_all, figures)

        try:
            bundle = make_bundle(
                recipe, args.out, device=args.device, show=show, should_stop=lambda: stop.why is not None
            )
        except StoppedError as error:
            print(f"batchseg: {error}", file=sys.stderr)
            return stop.exit_status
    for text in format_trained(bundle, seconds=time.perf_counter() - begun_s, num_steps_now=num_steps):
        print(text)
    for warning in find_inversions(bundle, recipe):
        print(f"batchseg: {warning}", file=sys.stderr)
    return 0


def find_inversions(bundle: Bundle, recipe: TrainRecipe) -> Iterator[str]:
    """Warn of a bundle that is worse than the one it started with, and of a teacher that is worse than its student."""
    from batchseg.model.bundle import open_bundle
    from batchseg.model.ranking import find_inversion

    if recipe.start is not None:
        start = open_bundle(recipe.start, check_weights=False)
        warning = find_inversion(bundle.contract, start.contract)
        if warning is not None:
            yield f"{warning}; it started with those weights, so try a lower `learning_rate` or more `steps`"
    if recipe.teacher is not None:
        teacher = open_bundle(recipe.teacher, check_weights=False)
        warning = find_inversion(teacher.contract, bundle.contract)
        if warning is not None:
            yield f"{warning}; a run with both would get worse labels from the teacher"
