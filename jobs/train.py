"""Train a bundle from a training recipe. Interrupted, the same command goes on from the last checkpoint."""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

HELP = "train a bundle"
PLAIN_EVERY_STEPS = 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("recipe", metavar="RECIPE", type=Path, help="training recipe (YAML)")
    parser.add_argument("out", metavar="OUT", type=Path, help="folder of the bundle")
    parser.add_argument("--steps", type=int, metavar="N", help="instead of the recipe's")
    parser.add_argument("--seed", type=int, metavar="N", help="instead of the recipe's")


def main(args: argparse.Namespace) -> int:
    import dataclasses  # noqa: PLC0415 - --help must not wait for the rest

    from batchseg.train.loop import train  # noqa: PLC0415
    from batchseg.train.recipe import load_train_recipe  # noqa: PLC0415

    recipe = load_train_recipe(args.recipe)
    given = {name: getattr(args, name) for name in ("steps", "seed") if getattr(args, name) is not None}
    recipe = dataclasses.replace(recipe, **given)
    check_kind(recipe.teacher, args)
    made = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    with _shown() as show:
        train(recipe, args.out, made=made, commit=_commit(), show=show)
    print(args.out / "item.json")
    return 0


def check_kind(teacher: str | None, args: argparse.Namespace) -> None:
    """`distill` is `train` with a teacher; that it has one is no accident of the recipe."""
    from batchseg.errors import RecipeError  # noqa: PLC0415

    if args.verb == "distill" and teacher is None:
        raise RecipeError(
            "there is nobody to learn from",
            where=str(args.recipe),
            todo="add a line `teacher: …`, a bundle, or take `batchseg train`",
        )


def _commit() -> str | None:
    """Of the code that trains, where it is a checkout; changes that are in no commit are said."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()  # noqa: S603
    except (OSError, subprocess.CalledProcessError):
        return None


@contextmanager
def _shown() -> Iterator[Callable[[int, int, dict[str, float]], None]]:
    """A bar on a terminal, a line now and then elsewhere."""
    if not sys.stderr.isatty():
        yield _plain_line
        return
    from rich.console import Console  # noqa: PLC0415 - only a terminal needs it
    from rich.progress import (  # noqa: PLC0415
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (MofNCompleteColumn(), BarColumn(), TimeRemainingColumn(), TextColumn("{task.fields[facts]}"))
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("steps", total=None, facts="")

        def show(step: int, steps: int, facts: dict[str, float]) -> None:
            bar.update(task, total=steps, completed=step, facts=_words(facts))

        yield show


def _plain_line(step: int, steps: int, facts: dict[str, float]) -> None:
    if step % PLAIN_EVERY_STEPS == 0 or step == steps:
        print(f"step {step}/{steps}: {_words(facts)}", file=sys.stderr, flush=True)


def _words(facts: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in facts.items())
