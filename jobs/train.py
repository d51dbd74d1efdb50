"""Train a bundle from a training recipe. Interrupted, the same command goes on from the last checkpoint."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

HELP = "train a bundle"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("recipe", metavar="RECIPE", type=Path, help="training recipe (YAML)")
    parser.add_argument("out", metavar="OUT", type=Path, help="folder of the bundle")
    parser.add_argument("--steps", type=int, metavar="N", help="instead of the recipe's")


def main(args: argparse.Namespace) -> int:
    import dataclasses  # noqa: PLC0415 - --help must not wait for the rest

    from batchseg.train.loop import train  # noqa: PLC0415
    from batchseg.train.recipe import load_train_recipe  # noqa: PLC0415

    recipe = load_train_recipe(args.recipe)
    if args.steps is not None:
        recipe = dataclasses.replace(recipe, steps=args.steps)
    made = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    train(recipe, args.out, made=made, show=_show)
    print(args.out / "item.json")
    return 0


def _show(step: int, steps: int, facts: dict[str, float]) -> None:
    if step % 20 == 0 or step == steps:
        text = ", ".join(f"{name} {value:.4g}" for name, value in facts.items())
        print(f"step {step}/{steps}: {text}", file=sys.stderr, flush=True)
