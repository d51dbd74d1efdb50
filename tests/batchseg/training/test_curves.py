"""Curves of a training that goes on after a process was killed: every whole line stays, half a line does not."""

from __future__ import annotations

from pathlib import Path

import pytest

from batchseg.training.curves import open_curves

WHOLE = [f"{step},{step / 100:.5f},0.00100" for step in range(1, 13)]


def continue_from(folder: Path, step: int, figures: tuple[str, ...] = ("loss", "learning_rate")) -> list[str]:
    with open_curves(folder, step, figures, ("water",)) as (steps, _):
        steps.add(step + 1, [0.5, 0.1])
    return (folder / "curve.csv").read_text("utf-8").splitlines()


@pytest.mark.parametrize(
    "torn",
    [
        "1",  # of 13
        "1,0.5",
        "12,0.120000,0.00",
        "12,0.120000,0.00100,",
        "\n",
        ",,",
        "step,loss",
        "nan,1.00000,1.00000",
        "9" * 5000,
        "\0" * 40,
        "-1,1.00000,1.00000",
        "1.0,1.00000,1.00000",
        "²,1.00000,1.00000",
    ],
)
def test_half_a_line_is_dropped(tmp_path: Path, torn: str) -> None:
    (tmp_path / "curve.csv").write_text("\n".join(["step,loss,learning_rate", *WHOLE, torn]), "utf-8")
    lines = continue_from(tmp_path, 12)
    assert lines == ["step,loss,learning_rate", *WHOLE, "13,0.50000,0.10000"]


@pytest.mark.parametrize("content", [b"", b"step", b"\xff\xfe\0", b"step,loss,learning_rate\n\xff\xff"])
def test_a_file_without_a_whole_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "curve.csv").write_bytes(content)
    assert continue_from(tmp_path, 0) == ["step,loss,learning_rate", "1,0.50000,0.10000"]


def test_losses_that_were_no_numbers_stay(tmp_path: Path) -> None:
    (tmp_path / "curve.csv").write_text("step,loss,learning_rate\n1,nan,0.10000\n2,inf,0.10000\n")
    assert continue_from(tmp_path, 2)[1:3] == ["1,nan,0.10000", "2,inf,0.10000"]


def test_event_files_are_in_order_even_where_the_clock_steps_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, time_ns in enumerate((2_000_000_000_000_000_000, 1_000_000_000_000_000_000)):
        monkeypatch.setattr("batchseg.training.curves.time.time_ns", lambda time_ns=time_ns: time_ns)
        continue_from(tmp_path, number)
    assert [path.name for path in sorted(tmp_path.glob("events.*"))] == [
        "events.out.tfevents.2000000000000.batchseg",
        "events.out.tfevents.2000000000001.batchseg",
    ]
