"""The summary at the end of a run, made of its metrics alone."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from jobs.terminal.formats import format_areas, format_duration, format_line, format_shares, format_usd

if TYPE_CHECKING:
    from batchseg.reports.ending import Ending
    from batchseg.reports.metrics import Metrics, SeamScores
    from batchseg.runs.session import Outcome

MAX_LISTED = 10


def print_summary(outcome: Outcome) -> None:
    from batchseg.reports.ending import read_ending

    output = str(outcome.output)
    for text in format_summary(outcome.metrics, output, read_ending(output)):
        print(text)
    if outcome.exit_status == 0 and outcome.why != "complete":
        print(format_line("done", outcome.why))
    if outcome.exit_status:
        print(f"not complete (exit {outcome.exit_status}): {outcome.why}", file=sys.stderr)


def format_summary(metrics: Metrics, output: str, ending: Ending) -> list[str]:
    """The lines of the summary: ground, areas, time, chunks, tiles, cost, accuracy, seams, and the files that exist."""
    chunks, tiles, scores = metrics.chunks, metrics.tiles, metrics.scores
    states = {"done": chunks.done, "empty": chunks.empty, "failed": chunks.failed, "not run": chunks.not_run}
    lines = [
        format_line("ground", _format_ground(metrics)),
        format_line("areas", format_areas(metrics.class_area_km2, metrics.class_px)),
        format_line("time", _format_time(metrics, ending)),
        format_line("chunks", ", ".join(f"{number} {state}" for state, number in states.items() if number) or "none"),
        format_line("tiles", f"{tiles.bulk} bulk, {tiles.heavy} heavy, {tiles.skipped} skipped"),
        format_line("cost", _format_cost(metrics)),
    ]
    if scores.iou is not None and scores.miou is not None:
        lines.append(
            format_line("IoU", ", ".join(f"{name} {v:.3f}" for name, v in scores.iou.items() if v is not None))
        )
        lines.append(format_line("mIoU", f"{scores.miou:.3f}"))
    if scores.unknown_label_px:
        lines.append(format_line("labels", f"{scores.unknown_label_px} labelled pixels have a code that is no class"))
    lines.append(format_line("seams", _format_seams(metrics.seam)))
    given_up = [f"{task}: {story[-1]}" for task, story in metrics.quarantined.items()]
    files = _list_some("", [f"{output}/{key}" for key in ending.maps])
    first, *others = [*files, format_line("", f"{output}/metrics.json")]
    return [
        *lines,
        *_list_some("given up", given_up),
        *_list_some("warning", [scene.nodata_note for scene in metrics.scenes.values() if scene.nodata_note]),
        *_list_some("labels", _list_label_notes(metrics)),
        format_line("files", first.lstrip()),
        *others,
    ]


def _list_label_notes(metrics: Metrics) -> list[str]:
    """List the limits of the scores: the ground that they are of, and an IoU that is a recall."""
    from batchseg.score.scores import ReferenceScores, find_recall_note

    scores = metrics.scores
    recall_note = find_recall_note(scores) if isinstance(scores, ReferenceScores) else None
    notes = [scene.labels_note for scene in metrics.scenes.values() if scene.labels_note]
    return [*dict.fromkeys(notes), *([] if recall_note is None else [recall_note])]


def _list_some(name: str, texts: list[str]) -> list[str]:
    """The first texts, since a run may have a thousand scenes; the reports list all of them."""
    more = [f"… and {len(texts) - MAX_LISTED} more"] if len(texts) > MAX_LISTED else []
    return [format_line(name, text) for text in [*texts[:MAX_LISTED], *more]]


def _format_ground(metrics: Metrics) -> str:
    mpx = f"{metrics.valid_px / 1e6:.2f} Mpx"
    if metrics.area_km2 is None:
        notes = {scene.area_note for scene in metrics.scenes.values() if scene.area_note}
        return f"{mpx}, km² unknown: {'; '.join(sorted(notes))}"
    return f"{metrics.area_km2:.4f} km², {mpx}"


def _format_time(metrics: Metrics, ending: Ending) -> str:
    """The time of all sessions, because speed and cost are those of all sessions too, and that of the last one."""
    num, speed = len(ending.sessions_s), f"{metrics.mpx_per_s or 0:.2f} Mpx/s"
    if num < 2:
        return f"{format_duration(metrics.wall_s)}, {speed}"
    last_s = format_duration(ending.sessions_s[-1])
    return f"{format_duration(metrics.wall_s)} in {num} sessions, {speed}; the last session took {last_s}"


def _format_cost(metrics: Metrics) -> str:
    per_km2 = f", {format_usd(metrics.cost_usd_per_km2)} per km²" if metrics.cost_usd_per_km2 is not None else ""
    paid_for = format_shares(metrics.cost.parts)
    return f"{format_usd(metrics.cost_usd)}{per_km2}" + (f"  ({paid_for})" if paid_for else "")


def _format_seams(seam: SeamScores) -> str:
    """Scores of the borders by kind. `same_tier` is there for comparison with `tier`, and left out without it."""
    scores = {"tile": seam.tile, "chunk": seam.chunk, "tier": seam.tier}
    if seam.tier is not None:
        scores["same tier"] = seam.same_tier
    text = ", ".join(f"{kind} {score:.2f}" for kind, score in scores.items() if score is not None)
    return (
        f"{text} (class changes at borders, per class change elsewhere; at 1 or less they cannot be seen)"
        if text
        else "none"
    )
