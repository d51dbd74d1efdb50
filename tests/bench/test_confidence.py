"""The table of how often labels are right, by their confidence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bench.confidence import main
from tests.runs import write_scene


def write_layer(path: Path, *values: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_scene(path, np.array(values, np.uint8).reshape(1, 1, -1))


def test_pixels_are_counted_by_confidence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, labels, confidence, truth in (
        ("a", (1, 1, 2, 255), (254, 250, 130, 255), (1, 2, 2, 1)),
        ("b", (0, 3, 3, 3), (60, 140, 140, 140), (0, 3, 3, 255)),
    ):
        write_layer(tmp_path / name / "labels.tif", *labels)
        write_layer(tmp_path / name / "confidence.tif", *confidence)
        write_layer(tmp_path / f"{name}.tif", *truth)
    assert main([f"{tmp_path / name}={tmp_path / name}.tif" for name in ("a", "b")]) == 0
    assert capsys.readouterr().out.splitlines()[2:] == [
        "| 0% to 40% | 16.7% | 23.6% | 100.0% |",
        "| 50% to 60% | 50.0% | 53.8% | 100.0% |",
        "| 95% to 100% | 33.3% | 99.2% | 50.0% |",
    ]
