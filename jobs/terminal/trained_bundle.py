"""The summary at the end of a training: quality, time, and the next command."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from jobs.terminal.formats import format_duration, format_line

if TYPE_CHECKING:
    from batchseg.model.bundle import Bundle
    from batchseg.model.quality import TrainedQuality


def format_trained(bundle: Bundle, *, seconds: float, num_steps_now: int) -> Iterator[str]:
    """Describe a trained bundle.

    Args:
        bundle: The bundle.
        seconds: Duration of this call.
        num_steps_now: Number of steps that this call did; 0 if the bundle was finished before.
    """
    from batchseg.model.lineage import TrainedLineage
    from batchseg.model.quality import TrainedQuality

    contract = bundle.contract
    if isinstance(contract.quality, TrainedQuality):
        yield from _format_quality(contract.quality)
    assert isinstance(contract.lineage, TrainedLineage), "a training makes a trained bundle"
    now = f"{num_steps_now} of them now" if num_steps_now else "finished before; nothing was done now"
    yield format_line("time", f"{format_duration(seconds)}; weights of step {contract.lineage.steps}, {now}")
    yield format_line("bundle", str(bundle.folder / "item.json"))
    yield format_line("next", f"batchseg model tune {bundle.folder}     finds the fastest way to run it here")
    yield format_line("", f"models: {{{contract.tier}: {bundle.folder}}}     in a recipe for `batchseg run`")


def _format_quality(quality: TrainedQuality) -> Iterator[str]:
    recall, precision = quality.recall or {}, quality.precision or {}
    yield format_line("scenes", "those of `validate`, which the training never saw")
    width = max(map(len, (*quality.iou, "mean")))
    yield format_line("", f"{'class':<{width}}{'IoU':>8}{'recall':>8}{'precision':>11}")
    for name, iou in quality.iou.items():
        scores = f"{iou:>8.3f}{_format_score(recall.get(name)):>8}{_format_score(precision.get(name)):>11}"
        yield format_line("", f"{name:<{width}}{scores}")
    yield format_line("", f"{'mean':<{width}}{quality.miou:>8.3f}")


def _format_score(score: float | None) -> str:
    return "none" if score is None else f"{score:.3f}"
