"""Make metrics.json, ledger.parquet, report.html, the STAC items and the summary again, from the ledger alone. No model
runs.
"""

from __future__ import annotations

import argparse

HELP = "make the reports again, from the ledger alone"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("output", metavar="OUTPUT", help="the run's output folder or URL")


def main(args: argparse.Namespace) -> int:
    from batchseg.reports.reporting import write_reports  # noqa: PLC0415 - --help must not wait for it
    from jobs.display import summary_lines  # noqa: PLC0415
    from jobs.folder import opened  # noqa: PLC0415

    store, _ = opened(args.output)
    for line in summary_lines(write_reports(store), args.output):
        print(line)
    return 0
