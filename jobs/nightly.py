"""`python -m jobs.nightly NIGHT --fleet FLEET`, for a scheduler. Never imported: `jobs.nightly` is the function."""

from __future__ import annotations

from jobs.terminal.redacted_output import redact_streams
from jobs.terminal.signals import exit_process
from jobs.verbs.nightly import run_main

if __name__ == "__main__":
    redact_streams()
    exit_process(run_main())
