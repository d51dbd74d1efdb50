"""Progress of work that takes minutes: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from jobs.terminal.redacted_output import redact_output

PLAIN_EVERY = 20
"""Steps per line where there is no terminal."""


@contextmanager
def show_progress(word: str) -> Iterator[Callable[[int, int, dict[str, float]], None]]:
    """Yields a function that shows progress.

    It takes the number of finished steps, the number of all steps, and facts to print.
    """
    if not sys.stderr.isatty():

        def print_line(num_done: int, num_all: int, facts: dict[str, float]) -> None:
            if num_done % PLAIN_EVERY == 0 or num_done == num_all:
                text = f": {_format_facts(facts)}" if facts else ""
                print(f"{word} {num_done}/{num_all}{text}", file=sys.stderr, flush=True)

        yield print_line
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
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar, redact_output():
        task = bar.add_task(word, total=None, facts="")

        def show(num_done: int, num_all: int, facts: dict[str, float]) -> None:
            bar.update(task, total=num_all, completed=num_done, facts=_format_facts(facts))

        yield show


def _format_facts(facts: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in facts.items())
