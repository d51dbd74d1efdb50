"""Nights as lines for people: what each scene cost, why it was computed, and why it failed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from jobs.terminal.formats import format_usd

if TYPE_CHECKING:
    from batchseg.runs.night_files import NightSummary, SceneResult


def format_cost(usd: float | None) -> str:
    return "" if usd is None else f", {format_usd(usd)}"


def format_scene(result: SceneResult) -> str:
    """The state of a scene, the reason why it was computed, its cost, and the cause of a failure."""
    facts = ", ".join(
        part for part in (result.reason, None if result.cost_usd is None else format_usd(result.cost_usd)) if part
    )
    error = f": {result.error}" if result.error else ""
    return f"{result.state}  {result.name}{f' ({facts})' if facts else ''}{error}"


def format_nights(newest: NightSummary | None) -> Iterator[str]:
    """The last night that ended, scene by scene where there is something to say."""
    if newest is None:
        yield "no night has ended yet"
        return
    counts = ", ".join(f"{num} {state}" for state, num in sorted(newest.counts.items())) or "no scene"
    yield f"last night: {newest.began} to {newest.ended}, exit status {newest.exit_status}: {newest.why}"
    yield f"  {counts}{format_cost(newest.cost_usd)}{f', in {newest.run}' if newest.run else ''}"
    for result in newest.scenes:
        if result.error or result.reason:
            yield f"  {format_scene(result)}"
