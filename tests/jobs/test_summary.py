"""What the summary of a run and `report` say: areas, time over sessions, and only files that exist."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from batchseg.recipe import Tiling
from batchseg.reports.ending import Ending, read_ending
from batchseg.runs.session import Options, run
from jobs.cli import main
from jobs.terminal.formats import format_areas, format_km2
from jobs.terminal.summary import format_summary
from tests.batchseg.reports.small_run import small_metrics
from tests.jobs.command_line import alone
from tests.runs import Workplace, fake_pool, noise, write_scene

__all__ = ["alone"]
SHEETS = Tiling(core=16, chunk=32, sheet=64)


def list_named_files(lines: list[str]) -> list[str]:
    begin = next(i for i, line in enumerate(lines) if line.lstrip().startswith("files  "))
    return [line.replace("files", "").strip() for line in lines[begin:]]


@pytest.mark.parametrize(
    ("num_chunks", "tiling", "expected"),
    [
        (None, Tiling(core=16, chunk=32), ["first/labels.tif", "second/labels.tif"]),
        (None, SHEETS, ["first/labels.vrt", "second/labels.tif"]),
        (0, SHEETS, []),
        (1, Tiling(core=16, chunk=32), ["first/labels.tif"]),
        (1, SHEETS, ["first/labels.vrt"]),
    ],
)
def test_every_file_that_a_summary_names_exists(
    tmp_path: Path,
    num_chunks: int | None,
    tiling: Tiling,
    expected: list[str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    scenes = (write_scene(tmp_path / "first.tif", noise(100, 150)), write_scene(tmp_path / "second.tif", noise(30, 30)))
    recipe = Workplace(tmp_path, scenes).recipe(tiling=tiling)
    left = iter(range(num_chunks or 0))
    wanted = None if num_chunks is None else lambda key: key.scene == "first" and next(left, None) is not None
    outcome = run(recipe, open_pool=fake_pool, options=Options(wanted=wanted))
    output = str(outcome.output)
    named = list_named_files(format_summary(outcome.metrics, output, read_ending(output)))
    assert named == [*(f"{output}/{key}" for key in expected), f"{output}/metrics.json"]
    assert all(Path(path).exists() for path in named)
    assert main(["report", output]) == 0
    assert list_named_files(capsys.readouterr().out.splitlines()) == named


def test_the_time_of_several_sessions_is_called_so() -> None:
    metrics = replace(small_metrics(), wall_s=12.1, mpx_per_s=2.0)
    one, two = (Ending(maps=(), sessions_s=sessions) for sessions in ((12.1,), (1.0, 11.1)))
    (line,) = (line for line in format_summary(metrics, "out", one) if line.startswith("     time"))
    assert line == "     time  12.1 s, 2.00 Mpx/s"
    (line,) = (line for line in format_summary(metrics, "out", two) if line.startswith("     time"))
    assert line == "     time  12.1 s in 2 sessions, 2.00 Mpx/s; the last session took 11.1 s"


def test_a_resume_says_what_it_took_itself(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = Workplace.of(tmp_path, noise(64, 64))
    place.run()
    place.run()
    assert main(["report", str(place.output)]) == 0
    told = capsys.readouterr().out
    assert re.search(
        r"^ +time +\d+\.\d s in 2 sessions, \S+ Mpx/s; the last session took \d+\.\d s$", told, re.MULTILINE
    )


@pytest.mark.parametrize(
    ("km2", "px", "expected"),
    [
        ({"a": 1.0, "b": 3.0}, {"a": 10, "b": 10}, "a 1.0000 km² (25.0%), b 3.0000 km² (75.0%)"),
        (None, {"a": 3_000_000, "b": 1_000_000}, "a 3.00 Mpx (75.0%), b 1.00 Mpx (25.0%)"),
        ({"a": 0.0, "b": 0.0}, {"a": 0, "b": 0}, "none yet"),
        ({"a": 0.0, "b": 0.00012345}, {"a": 0, "b": 5}, "a 0.0000 km² (0.0%), b 0.000123 km² (100.0%)"),
    ],
)
def test_areas(km2: dict[str, float] | None, px: dict[str, int], expected: str) -> None:
    assert format_areas(km2, px) == expected


def test_of_many_classes_the_largest_are_listed() -> None:
    px = {f"c{i}": i for i in range(1, 31)}
    text = format_areas({name: float(num) for name, num in px.items()}, px)
    assert text.startswith("c30 30.0000 km² (6.5%), c29 ")
    assert text.endswith(", c19 19.0000 km² (4.1%), and 18 more")
    assert format_km2(0.0) == "0.0000 km²"


def test_areas_of_a_run_are_those_of_its_metrics(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = Workplace.of(tmp_path, np.full((3, 64, 64), 90, np.uint8))
    metrics = place.run().metrics
    assert main(["report", str(place.output)]) == 0
    told = capsys.readouterr().out
    assert metrics.class_area_km2 is not None
    for name, km2 in metrics.class_area_km2.items():
        assert f"{name} {format_km2(km2)} (" in told
