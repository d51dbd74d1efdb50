"""Make the reports of a run again: metrics.json, ledger.parquet, report.html, the STAC items and the summary.

They come from the ledger alone; no model runs.
"""

from __future__ import annotations

import argparse

HELP = "make the reports of a run again, from its ledger alone"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("output", metavar="OUTPUT", help="output folder or URL of the run")


def main(args: argparse.Namespace) -> int:
    from batchseg.reports.ending import read_ending
    from batchseg.reports.evaluation import describe_evaluation, find_newest, replace_scores
    from batchseg.reports.write import report
    from batchseg.resolve.output_folder import open_output
    from jobs.terminal.formats import format_line
    from jobs.terminal.summary import format_summary

    metrics = report(args.output)
    newest = find_newest(open_output(args.output))
    if newest is not None:
        metrics = replace_scores(metrics, newest)
    for line in format_summary(metrics, args.output, read_ending(args.output)):
        print(line)
    if newest is not None:
        print(format_line("scores", describe_evaluation(newest)))
    return 0
