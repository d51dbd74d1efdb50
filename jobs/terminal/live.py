"""Display of a run while it works: a live screen on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from jobs.terminal.formats import format_count, format_duration, format_usd
from jobs.terminal.redacted_output import redact_output

if TYPE_CHECKING:
    from batchseg.runs.progress import Snapshot

PLAIN_EVERY_S = 10.0


@contextmanager
def show_run(*, quiet: bool) -> Iterator[Callable[[Snapshot], None]]:
    """Yields a function that shows the progress of a run: live on a terminal, as lines elsewhere, or not at all."""
    if quiet:
        yield lambda _: None
    elif sys.stderr.isatty():
        with _show_live() as show:
            yield show
    else:
        yield _PlainLines()


@contextmanager
def _show_live() -> Iterator[Callable[[Snapshot], None]]:
    from rich.console import Console
    from rich.live import Live

    # What others print goes through the live screen, which would break a line inside of a credential.
    with Live(console=Console(stderr=True), refresh_per_second=4, transient=True) as live, redact_output():
        yield lambda snapshot: live.update(render_screen(snapshot))


def render_screen(s: Snapshot) -> Any:
    """The live screen: a bar with the facts, one line per pool where there are several workers, and the last troubles.

    With one line per pool, a thousand workers fit on a screen.
    """
    from rich.console import Group
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    head = Table.grid(padding=(0, 1))
    head.add_row(
        "chunks", ProgressBar(total=max(1, s.num_chunks), completed=s.num_done, width=30), Text(format_facts(s))
    )
    if len(s.pools) < 2 and s.num_workers < 2:
        return Group(head, *map(Text, s.happenings))
    pools = Table("pool", "ready", "starting", "leaving", "lost", "chunks", "Mpx/s", "$ per hour", box=None)
    for pool in s.pools:
        mpx_per_s = pool.valid_px / 1e6 / s.elapsed_s if s.elapsed_s > 0 else 0.0
        counts = (pool.num_ready, pool.num_starting, pool.num_draining, pool.num_lost, pool.num_done)
        pools.add_row(pool.name, *map(str, counts), f"{mpx_per_s:.2f}", f"{pool.usd_per_hour:.2f}")
    return Group(head, pools, *map(Text, s.happenings))


class _PlainLines:
    """Prints a line now and then, and one for every trouble and for the end of each part of the run."""

    def __init__(self) -> None:
        self._last_s = float("-inf")
        self._ended = (False, False)
        self._printed: tuple[str, ...] = ()

    def __call__(self, snapshot: Snapshot) -> None:
        for happening in snapshot.happenings:
            if happening not in self._printed:
                print(happening, file=sys.stderr, flush=True)
        self._printed = snapshot.happenings
        now_s, ended = time.monotonic(), (snapshot.chunks_ended, snapshot.sheets_ended)
        if now_s - self._last_s >= PLAIN_EVERY_S or ended != self._ended:
            self._last_s, self._ended = now_s, ended
            print(f"chunks {format_facts(snapshot)}", file=sys.stderr, flush=True)


def format_facts(s: Snapshot) -> str:
    """One line: chunks, workers, speed, money, troubles, and the time left."""
    workers = format_count(s.num_workers, "worker")
    if s.num_draining:
        workers += f" ({s.num_draining} leaving)"
    parts = [f"{s.num_done}/{s.num_chunks}", workers, f"{s.mpx_per_s:.2f} Mpx/s", format_usd(s.usd)]
    if s.num_preempted:
        parts.append(f"{s.num_preempted} preempted")
    if s.num_retries:
        parts.append(format_count(s.num_retries, "failed attempt"))
    if s.num_failed:
        parts.append(f"{s.num_failed} given up")
    if s.chunks_ended:
        parts.append(f"{'' if s.sheets_ended else 'writing '}GeoTIFFs {s.num_sheets_done}/{s.num_sheets}")
    elif s.left_s is not None:
        parts.append(f"{format_duration(s.left_s)} left")
    if s.message:
        parts.append(s.message)
    return " · ".join(parts)
