"""Train a bundle from a training recipe. Interrupted, the same command goes on from the last checkpoint."""

from __future__ import annotations

import argparse
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HELP = "train a bundle"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("recipe", metavar="RECIPE", type=Path, help="training recipe (YAML)")
    parser.add_argument("out", metavar="OUT", type=Path, help="folder of the bundle")
    parser.add_argument("--steps", type=int, metavar="N", help="instead of the recipe's")
    parser.add_argument("--seed", type=int, metavar="N", help="instead of the recipe's")
    parser.add_argument(
        "--device", choices=("auto", "cpu", "cuda"), default="auto", help="auto: a GPU where there is one"
    )


def main(args: argparse.Namespace) -> int:
    import dataclasses

    from batchseg.model.device import choose_device
    from batchseg.training.checks import load_train_recipe
    from batchseg.training.loop import train
    from jobs.terminal.progress_bar import show_progress

    recipe = load_train_recipe(args.recipe)
    given = {name: getattr(args, name) for name in ("steps", "seed") if getattr(args, name) is not None}
    recipe = dataclasses.replace(recipe, **given)
    check_kind(recipe.teacher, args)
    check_out(args.out)
    made = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    device = choose_device(args.device)
    with show_progress("step") as show, written(args.out):
        train(recipe, args.out, made=made, commit=_commit(), device=device, show=show)
    print(args.out / "item.json")
    return 0


def check_kind(teacher: str | None, args: argparse.Namespace) -> None:
    """`distill` is `train` with a teacher; that it has one is no accident of the recipe."""
    from batchseg.errors import RecipeError

    if args.verb == "distill" and teacher is None:
        raise RecipeError(
            "there is nobody to learn from",
            where=str(args.recipe),
            todo="add a line `teacher: …`, a bundle, or take `batchseg train`",
        )


def check_out(out: Path) -> None:
    """A place where no bundle can be written must not show after hours."""
    from batchseg.errors import BundleError

    try:
        there = next(path for path in (out, *out.absolute().parents) if path.exists())
        got = None if there.is_dir() else f"{there}, a file"
        if got is None and not os.access(there, os.W_OK | os.X_OK):
            got = f"{there}, where you may not write"
    except OSError as error:
        got = str(error)
    if got is not None:
        raise BundleError("no bundle can be written there", where=str(out), got=got, todo="give another folder")


@contextmanager
def written(out: Path) -> Iterator[None]:
    """A disk that is full is no loss: what was done by the last checkpoint is kept."""
    from safetensors import SafetensorError

    from batchseg.errors import BundleError

    try:
        yield
    except BrokenPipeError:
        raise  # of the screen, not of the disk
    except (OSError, SafetensorError) as error:
        todo = "when there is room, the same command goes on from the last checkpoint"
        raise BundleError("the training cannot be written", where=str(out), got=str(error), todo=todo) from error


def _commit() -> str | None:
    """Of the code that trains, where it is a checkout; changes that are in no commit are said."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()  # noqa: S603
    except (OSError, subprocess.CalledProcessError):
        return None
