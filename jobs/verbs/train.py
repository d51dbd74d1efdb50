"""Train a bundle from a training recipe. After an interruption, the same command continues from the last checkpoint."""

from __future__ import annotations

import argparse
from pathlib import Path

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

    from batchseg.training.checks import load_train_recipe
    from batchseg.training.train import distill, train
    from jobs.terminal.progress_bar import show_progress

    changes = {name: getattr(args, name) for name in ("steps", "seed") if getattr(args, name) is not None}
    recipe = dataclasses.replace(load_train_recipe(args.recipe), **changes)
    make_bundle = distill if args.verb == "distill" else train
    with show_progress("step") as show:
        bundle = make_bundle(recipe, args.out, device=args.device, show=show)
    print(bundle.folder / "item.json")
    return 0
