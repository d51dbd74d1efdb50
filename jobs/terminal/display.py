"""What a person sees of a run: a live line on a terminal, plain lines elsewhere, and one summary at the end."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from batchseg.runs.progress import Snapshot
    from batchseg.runs.session import Outcome

PLAIN_EVERY_S = 10.0
MAX_LISTED = 10


@contextmanager
def shown(*, quiet: bool) -> Iterator[Callable[[Snapshot], None]]:
    if quiet:
        yield lambda _: None
    elif sys.stderr.isatty():
        with _live() as show:
            yield show
    else:
        yield _PlainLines()


@contextmanager
def _live() -> Iterator[Callable[[Snapshot], None]]:
    from rich.console import Console
    from rich.live import Live

    with Live(console=Console(stderr=True), refresh_per_second=4, transient=True) as live:
        yield lambda snapshot: live.update(screen(snapshot))


def screen(s: Snapshot) -> Any:
    """A bar and the facts; of several workers a line a pool, so that a thousand fit; the last troubles."""
    from rich.console import Group
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    head = Table.grid(padding=(0, 1))
    head.add_row("chunks", ProgressBar(total=max(1, s.num_chunks), completed=s.num_done, width=30), Text(facts(s)))
    if len(s.pools) < 2 and s.num_workers < 2:
        return Group(head, *map(Text, s.happenings))
    pools = Table("pool", "ready", "starting", "leaving", "lost", "chunks", "Mpx/s", "$ an hour", box=None)
    for pool in s.pools:
        mpx_per_s = pool.valid_px / 1e6 / s.elapsed_s if s.elapsed_s > 0 else 0.0
        counts = (pool.num_ready, pool.num_starting, pool.num_draining, pool.num_lost, pool.num_done)
        pools.add_row(pool.name, *map(str, counts), f"{mpx_per_s:.2f}", f"{pool.usd_per_hour:.2f}")
    return Group(head, pools, *map(Text, s.happenings))


class _PlainLines:
    """A line now and then, and one whenever a part of the run ends or something goes otherwise than it should."""

    def __init__(self) -> None:
        self._last_s = float("-inf")
        self._ended = (False, False)
        self._told: tuple[str, ...] = ()

    def __call__(self, snapshot: Snapshot) -> None:
        for happening in snapshot.happenings:
            if happening not in self._told:
                print(happening, file=sys.stderr, flush=True)
        self._told = snapshot.happenings
        now_s, ended = time.monotonic(), (snapshot.chunks_ended, snapshot.sheets_ended)
        if now_s - self._last_s >= PLAIN_EVERY_S or ended != self._ended:
            self._last_s, self._ended = now_s, ended
            print(f"chunks {facts(snapshot)}", file=sys.stderr, flush=True)


def facts(s: Snapshot) -> str:
    workers = counted(s.num_workers, "worker")
    if s.num_draining:
        workers += f" ({s.num_draining} leaving)"
    parts = [f"{s.num_done}/{s.num_chunks}", workers, f"{s.mpx_per_s:.2f} Mpx/s", money(s.usd)]
    if s.num_preempted:
        parts.append(f"{s.num_preempted} preempted")
    if s.num_retries:
        parts.append(counted(s.num_retries, "failed attempt"))
    if s.num_failed:
        parts.append(f"{s.num_failed} given up")
    if s.chunks_ended:
        parts.append(f"{'' if s.sheets_ended else 'writing '}GeoTIFFs {s.num_sheets_done}/{s.num_sheets}")
    elif s.left_s is not None:
        parts.append(f"{duration(s.left_s)} left")
    if s.message:
        parts.append(s.message)
    return " · ".join(parts)


def duration(seconds: float) -> str:
    minutes, rest_s = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest_s:02d} s" if minutes else f"{seconds:.1f} s"


def counted(num: int, word: str) -> str:
    return f"{num} {word}{'' if num == 1 else 's'}"


def money(usd: float) -> str:
    """Cents, and two digits of whatever is less."""
    return f"${usd:.2f}" if usd >= 1 or usd <= 0 else f"${usd:.{1 - math.floor(math.log10(usd))}f}"


def stages(seconds: Mapping[str, float]) -> str:
    """`compute bulk 51%, write 11%`: what seconds or dollars went into; less than a hundredth is left out."""
    total = sum(seconds.values())
    shares = {name.replace("_", " "): part / total for name, part in seconds.items()} if total else {}
    ordered = sorted(shares.items(), key=lambda item: -item[1])
    return ", ".join(f"{name} {share:.0%}" for name, share in ordered if share >= 0.01)


def print_summary(outcome: Outcome) -> None:
    for text in summary_lines(outcome.metrics, str(outcome.output)):
        print(text)
    if outcome.exit_status == 0 and outcome.why != "complete":
        print(line("done", outcome.why))
    if outcome.exit_status:
        print(f"not complete (exit {outcome.exit_status}): {outcome.why}", file=sys.stderr)


def summary_lines(m: dict[str, Any], output: str) -> list[str]:
    """What a person wants to know at the end, from metrics.json alone."""
    chunks, tiles = m["chunks"], m["tiles"]
    lines = [
        line("ground", _ground(m)),
        line("time", f"{duration(m['wall_s'])}, {m['mpx_per_s'] or 0:.2f} Mpx/s"),
        line("chunks", ", ".join(f"{n} {word.replace('_', ' ')}" for word, n in chunks.items() if n) or "none"),
        line("tiles", f"{tiles['bulk']} bulk, {tiles['heavy']} heavy, {tiles['skipped']} skipped"),
        line("cost", _cost(m)),
    ]
    if m["miou"] is not None:
        lines.append(line("IoU", ", ".join(f"{name} {v:.3f}" for name, v in m["iou"].items() if v is not None)))
        lines.append(line("mIoU", f"{m['miou']:.3f}"))
    if m["unknown_label_px"]:
        lines.append(line("labels", f"{m['unknown_label_px']} labelled pixels hold a code that is no class"))
    lines.append(line("seams", _seams(m["seam"])))
    given_up = [f"{task}: {story[-1]}" for task, story in m["quarantined"].items()]
    files = [f"{output}/{scene}/labels.tif" for scene in m["scenes"]]
    return [*lines, *_some("given up", given_up), *_some("files", files), line("", f"{output}/metrics.json")]


def _some(name: str, texts: list[str]) -> list[str]:
    """A run may have a thousand scenes; the reports have them all."""
    more = [f"… and {len(texts) - MAX_LISTED} more"] if len(texts) > MAX_LISTED else []
    return [line(name, text) for text in [*texts[:MAX_LISTED], *more]]


def line(name: str, text: str) -> str:
    return f"{name:>9}  {text}"


def _ground(m: dict[str, Any]) -> str:
    if m["area_km2"] is None:
        notes = {s["area_note"] for s in m["scenes"].values() if s["area_note"]}
        return f"{m['valid_px'] / 1e6:.2f} Mpx, km² unknown: {'; '.join(sorted(notes))}"
    return f"{m['area_km2']:.4f} km², {m['valid_px'] / 1e6:.2f} Mpx"


def _cost(m: dict[str, Any]) -> str:
    per_km2 = f", {money(m['cost_usd_per_km2'])} per km²" if m["cost_usd_per_km2"] is not None else ""
    paid_for = stages(m["cost"])
    return f"{money(m['cost_usd'])}{per_km2}" + (f"  ({paid_for})" if paid_for else "")


def _seams(scores: dict[str, float | None]) -> str:
    """How much likelier a class changes across a border than elsewhere; `same_tier` is there to compare `tier` with."""
    known = {name: score for name, score in scores.items() if score is not None}
    if "tier" not in known:
        known.pop("same_tier", None)
    text = ", ".join(f"{name.replace('_', ' ')} {score:.2f}" for name, score in known.items())
    return f"{text} (1.00 cannot be seen)" if text else "none to speak of"
