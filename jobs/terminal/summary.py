"""The summary at the end of a run, made of metrics.json alone."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from jobs.terminal.formats import format_duration, format_shares, format_usd, line

if TYPE_CHECKING:
    from batchseg.runs.session import Outcome

MAX_LISTED = 10


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
        line("time", f"{format_duration(m['wall_s'])}, {m['mpx_per_s'] or 0:.2f} Mpx/s"),
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


def _ground(m: dict[str, Any]) -> str:
    if m["area_km2"] is None:
        notes = {s["area_note"] for s in m["scenes"].values() if s["area_note"]}
        return f"{m['valid_px'] / 1e6:.2f} Mpx, km² unknown: {'; '.join(sorted(notes))}"
    return f"{m['area_km2']:.4f} km², {m['valid_px'] / 1e6:.2f} Mpx"


def _cost(m: dict[str, Any]) -> str:
    per_km2 = f", {format_usd(m['cost_usd_per_km2'])} per km²" if m["cost_usd_per_km2"] is not None else ""
    paid_for = format_shares(m["cost"])
    return f"{format_usd(m['cost_usd'])}{per_km2}" + (f"  ({paid_for})" if paid_for else "")


def _seams(scores: dict[str, float | None]) -> str:
    """How much likelier a class changes across a border than elsewhere; `same_tier` is there to compare `tier` with."""
    known = {name: score for name, score in scores.items() if score is not None}
    if "tier" not in known:
        known.pop("same_tier", None)
    text = ", ".join(f"{name.replace('_', ' ')} {score:.2f}" for name, score in known.items())
    return f"{text} (1.00 cannot be seen)" if text else "none to speak of"
