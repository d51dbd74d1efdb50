"""How far something is that takes minutes: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

PLAIN_EVERY = 20


@contextmanager
def show_progress(word: str) -> Iterator[Callable[[int, int, dict[str, float]], None]]:
    """What is yielded is told how many are done, of how many, and facts."""
    if not sys.stderr.isatty():

        def plain_line(done: int, all_: int, facts: dict[str, float]) -> None:
            if done % PLAIN_EVERY == 0 or done == all_:
                text = f": {_words(facts)}" if facts else ""
                print(f"{word} {done}/{all_}{text}", file=sys.stderr, flush=True)

        yield plain_line
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (MofNCompleteColumn(), BarColumn(), TimeRemainingColumn(), TextColumn("{task.fields[facts]}"))
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(word, total=None, facts="")

        def show(done: int, all_: int, facts: dict[str, float]) -> None:
            bar.update(task, total=all_, completed=done, facts=_words(facts))

        yield show


def _words(facts: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in facts.items())
