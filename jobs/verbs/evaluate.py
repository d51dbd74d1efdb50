"""Score the output of a run against reference labels. No model runs, and neither recipe nor scene is needed."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from typing import TYPE_CHECKING

from jobs.terminal.labels_arguments import add_labels_arguments, parse_labels

if TYPE_CHECKING:
    from batchseg.reports.evaluation import Evaluation
    from batchseg.score.scores import AccuracyScores, ReferenceScores

HELP = "score a run's output against reference labels; no model runs"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("output", metavar="OUTPUT", help="output folder or URL of the run")
    add_labels_arguments(parser, required=True)
    parser.add_argument(
        "--to",
        metavar="NAME",
        help="name to keep the scores by, in evaluations/NAME.json (default: the reference's name)",
    )


def main(args: argparse.Namespace) -> int:
    from batchseg.paths import evaluation_key
    from batchseg.reports.evaluate import evaluate

    evaluation = evaluate(args.output, parse_labels(args), name=args.to)
    for line in format_evaluation(evaluation):
        print(line)
    print(f"{args.output}/{evaluation_key(evaluation.name)}")
    return 0


def format_evaluation(evaluation: Evaluation) -> list[str]:
    """A table of the classes, the means, and the means of each part."""
    scores = evaluation.scores
    if scores.iou is None:
        return ["no pixel has both a label and a prediction"]
    columns = {"iou": scores.iou, "recall": scores.recall, "precision": scores.precision, "f1": scores.f1}
    rows = [f"{'class':<16}" + "".join(f"{name:>11}" for name in columns)]
    rows += [f"{name:<16}" + _format_cells(column[name] for column in columns.values()) for name in scores.iou]
    rows.append(
        f"mIoU {_format_score(scores.miou)}, frequency-weighted IoU {_format_score(scores.fwiou)}, "
        f"accuracy {_format_score(scores.accuracy)} over {_format_px(scores.scored_px)}"
    )
    rows += [
        f"  {name}: mIoU {_format_score(part.miou)} over {_format_px(part.scored_px)}"
        for name, part in _name_parts(scores)
        if part is not None
    ]
    if scores.unknown_label_px:
        rows.append(f"{scores.unknown_label_px} labelled pixels have a code that is no class")
    without = [name for name, recall in scores.recall.items() if recall is None]
    if without:
        rows.append(f"without a reference pixel, and left out of the means: {', '.join(without)}")
    return [*rows, *(f"note: {note}" for note in evaluation.notes)]


def _name_parts(scores: ReferenceScores) -> list[tuple[str, AccuracyScores | None]]:
    by_tier, by_priority = scores.by_tier, scores.by_priority
    return [
        ("bulk", by_tier.bulk),
        ("heavy", by_tier.heavy),
        ("inside priority", by_priority.inside),
        ("outside priority", by_priority.outside),
    ]


def _format_px(scored_px: int) -> str:
    """Reference points may be a few hundred pixels, polygons many millions."""
    return f"{scored_px} px" if scored_px < 10_000 else f"{scored_px / 1e6:.2f} Mpx"


def _format_cells(scores: Iterable[float | None]) -> str:
    return "".join(f"{_format_score(score):>11}" for score in scores)


def _format_score(score: float | None) -> str:
    return "-" if score is None else f"{score:.4f}"
