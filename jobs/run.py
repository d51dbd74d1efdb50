"""`python -m jobs.run RECIPE --fleet FLEET`, for `ray job submit`. Never imported: `jobs.run` is the function."""

from __future__ import annotations

from jobs.terminal.redacted_output import redact_streams
from jobs.terminal.signals import exit_process
from jobs.verbs.run import run_main

if __name__ == "__main__":
    redact_streams()
    exit_process(run_main())
