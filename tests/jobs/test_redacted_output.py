"""Nothing on the terminal shows a credential, whoever writes it."""

from __future__ import annotations

import logging
import sys
import warnings

import pytest

from batchseg.runs.progress import Snapshot
from jobs.cli import main
from jobs.terminal.live import render_screen, show_run
from jobs.terminal.redacted_output import RedactedStream, redact_output

URL = "https://user:CANARY@host/x.tif?sig=CANARY"


WRITERS = {
    "print": lambda: print(URL),
    "print to stderr": lambda: print("a", URL, "b", sep="\n", file=sys.stderr, flush=True),
    "write": lambda: sys.stdout.write(f"{URL}\n"),
    "writelines": lambda: sys.stderr.writelines(["a\n", URL]),
    "a warning": lambda: sys.stderr.write(warnings.formatwarning(URL, UserWarning, "x.py", 1)),
    "a logger without a handler": lambda: logging.getLogger("rasterio").warning("failed: %s", URL),
    "an exception": lambda: sys.excepthook(OSError, OSError(URL), None),
}


@pytest.mark.parametrize("writer", WRITERS)
def test_every_writer_goes_through_the_same_place(writer: str, capsys: pytest.CaptureFixture[str]) -> None:
    with redact_output():
        WRITERS[writer]()
    told = "".join(capsys.readouterr())
    assert "***" in told or writer == "a logger without a handler"  # pytest has a handler of its own
    assert "CANARY" not in told


def test_the_streams_come_back_and_are_wrapped_once() -> None:
    before = sys.stdout
    with redact_output(), redact_output():
        assert isinstance(sys.stdout, RedactedStream)
        assert sys.stdout._behind is before
        assert sys.stdout.isatty() == before.isatty()
    assert sys.stdout is before


@pytest.mark.parametrize("argv", [["plan", "recipe.yaml", URL], ["synth", "out", "--size", URL], [URL]])
def test_the_command_line_is_not_repeated_with_its_credentials(
    argv: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(argv)
    told = capsys.readouterr().err
    assert "***" in told
    assert "CANARY" not in told


SNAPSHOT = Snapshot(
    num_chunks=2,
    num_done=1,
    num_failed=0,
    num_sheets=1,
    num_sheets_done=0,
    num_workers=1,
    num_draining=0,
    num_preempted=0,
    num_retries=0,
    message=None,
    valid_px=1,
    elapsed_s=1.0,
    usd=0.1,
    left_s=1.0,
    happenings=("task failed scene/0_0: ***",),
)


def test_the_live_screen_does_not_break_a_credential_that_others_print(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It wraps long lines, and the second half of an address looks like any text."""
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("TERM", "xterm")
    with redact_output(), show_run(quiet=False) as show:
        show(SNAPSHOT)
        print(f"https://host/a/long/path/to/scene.tif?sig={'CANARY' * 20}", file=sys.stderr)
    told = "".join(capsys.readouterr())
    assert "scene.tif" in told.replace("\n", "")
    assert "CANARY" not in told
    assert render_screen(SNAPSHOT) is not None
