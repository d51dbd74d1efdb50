"""Make metrics.json, ledger.parquet, report.html, the STAC items and the summary again, from the ledger alone. No model
runs.
"""

from __future__ import annotations

import argparse

HELP = "make the reports again, from the ledger alone"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("output", metavar="OUTPUT", help="the run's output folder or URL")


def main(args: argparse.Namespace) -> int:
    from batchseg.reports.write import write_reports
    from jobs.terminal.output_folder import opened
    from jobs.terminal.summary import summary_lines

    store, _ = opened(args.output)
    for line in summary_lines(write_reports(store), args.output):
        print(line)
    return 0
