"""The command `batchseg`. Each verb imports what it needs when it runs, so that --help answers at once."""

from __future__ import annotations

import argparse
import gc
import importlib
import sys
from collections.abc import Sequence
from typing import NoReturn

from batchseg.atomic import limit_new_files
from batchseg.egress import redact_errors
from batchseg.errors import BatchsegError
from batchseg.known_secrets import learn_credentials
from jobs.terminal.redacted_output import redact_output, redact_streams
from jobs.terminal.signals import exit_process

VERBS = {
    "synth": "jobs.verbs.synth",
    "plan": "jobs.verbs.plan",
    "run": "jobs.verbs.run",
    "status": "jobs.verbs.status",
    "inspect": "jobs.verbs.inspect",
    "report": "jobs.verbs.report",
    "evaluate": "jobs.verbs.evaluate",
    "compare": "jobs.verbs.compare",
    "train": "jobs.verbs.train",
    "distill": "jobs.verbs.distill",
    "model": "jobs.verbs.model",
    "adjust": "jobs.verbs.adjust",
    "quantize": "jobs.verbs.quantize",
}
"""Verb -> module with `HELP`, `add_arguments(parser)` and `main(args) -> exit status`."""

EPILOG = """\
a first run, from nothing:
  batchseg synth demo --size 4096 --seed 1        make a scene with labels and priority polygons
  batchseg plan recipe.yaml                       say what a run will do, take and cost; writes nothing
  batchseg run recipe.yaml                        run it; after an interruption, the same command resumes it
  batchseg status out/demo                        say how far it is, from another terminal

a minimal recipe.yaml (docs/recipe.md has every key):
  scenes: [demo/scene.tif]
  output: out/demo
  models: {bulk: zoo:synthetic-bulk}

exit status:
  0  complete
  1  no worker could work, or a server failed for too long
  2  bad input, or a damaged file of an earlier run; nothing has been computed
  3  finished, but some chunks were given up
  4  stopped by the budget
  5  storage refuses: rights, credentials, or a full disk
  130 / 143  interrupted
  the same command resumes a run after 1, 4, 5, 130, 143 and any crash; after 3, add --retry-quarantined

docs: README.md, ARCHITECTURE.md, docs/recipe.md
"""


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="batchseg",
        description="Segment large rasters with two tiers of models: a heavy one for priority ground, a fast one for\n"
        "the rest. Memory is bounded, runs resume, output is byte-identical, and cost per km² and IoU are data.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="store_true", help="print the version and exit")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", title="verbs")
    for verb, module_name in VERBS.items():
        module = importlib.import_module(module_name)
        sub = verbs.add_parser(
            verb, help=module.HELP, description=module.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        module.add_arguments(sub)
        sub.set_defaults(main=module.main)
    return parser


@redact_output()
def main(argv: Sequence[str] | None = None) -> int:
    parser = build_parser()
    args = parse_arguments(parser, argv)
    if args.version:
        from importlib.metadata import version  # noqa: PLC0415 - only needed here

        print(f"batchseg {version('batchseg')}")
        return 0
    if args.verb is None:
        parser.print_help()
        return 2
    return run_verb(args)


def parse_arguments(parser: argparse.ArgumentParser, argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line; the credentials in it are hidden from now on."""
    learn_credentials(*(sys.argv[1:] if argv is None else argv))
    return parser.parse_args(argv)


def process() -> NoReturn:
    """Run `main` as a process of its own, which leaves its memory to the system."""
    redact_streams()
    # Libraries make a million objects that live until the end. The garbage collector takes a third of a second to look
    # through them during the imports and once more at the exit.
    gc.set_threshold(50_000, 20, 20)
    # Rasterio imports boto3 where it is installed, for addresses that batchseg never passes to it. That would take a
    # sixth of a second.
    modules: dict[str, object] = sys.modules  # type: ignore[assignment]
    modules.setdefault("boto3", None)
    status = main()
    gc.freeze()
    exit_process(status)


@redact_errors
def run_verb(args: argparse.Namespace) -> int:
    """Run a verb. An error that batchseg raises on purpose becomes one line. New files are for user and group only."""
    try:
        with limit_new_files():
            status: int = args.main(args)
    except BatchsegError as error:
        print(f"batchseg: {error}", file=sys.stderr)
        return error.exit_status
    except KeyboardInterrupt:
        print("batchseg: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        sys.stderr.close()
        return 141
    return status


if __name__ == "__main__":
    process()
