"""`batchseg quantize`: the gate, and that nothing is left of what does not pass."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from batchseg.adapt import candidates
from batchseg.errors import BundleError
from batchseg.model.architecture import OnnxSpec
from batchseg.model.bundle import open_bundle, write_bundle
from batchseg.model.segmenter import open_segmenter
from batchseg.score.gate import check_gate, measure_change
from jobs.cli import main
from tests.batchseg.model.model_bundles import contract, on_cpu
from tests.stac import problems_of

NAMES = ("land", "water", "road")


def labels(*values: int) -> np.ndarray:
    return np.array(values, np.uint8).reshape(1, 1, -1)


REFERENCE = labels(0, 0, 0, 0, 1, 1, 1, 1, 3, 3)
WORSE = labels(0, 0, 0, 0, 1, 1, 1, 0, 0, 0)
ALL = np.ones((1, 1, 10), bool)


def test_iou_is_compared_where_there_are_labels() -> None:
    found = measure_change(REFERENCE % 3, WORSE, ALL, REFERENCE, 3)
    assert found.before == (1.0, 1.0, None)
    assert found.after == (0.8, 0.75, None)
    assert found.agreement == pytest.approx(0.9)
    assert found.loss_points == pytest.approx(22.5)
    assert found.worst_class == (1, pytest.approx(25.0))


def test_a_class_that_vanishes_does_not_hide_what_others_lost() -> None:
    """The original predicts a class that is not there, once; the other does not, and is worse at what is there."""
    reference, judged = labels(*[0] * 50, *[1] * 50), np.ones((1, 1, 100), bool)
    before, after = labels(*[0] * 50, *[1] * 49, 2), labels(*[0] * 53, *[1] * 47)
    found = measure_change(before, after, judged, reference, 3)
    assert found.before == (1.0, 49 / 50, None)
    assert found.after == (50 / 53, 47 / 50, None)
    assert found.loss_points == pytest.approx(50 * (1 - 50 / 53 + 2 / 50))
    with pytest.raises(BundleError, match="mean IoU"):
        check_gate(found, NAMES, max_loss=0.5, max_class_loss=10.0)
    assert measure_change(after, before, judged, reference, 3).loss_points == -found.loss_points


def test_pixels_that_are_not_judged_do_not_count() -> None:
    judged = ALL.copy()
    judged[0, 0, 7] = False
    assert measure_change(REFERENCE % 3, WORSE, judged, REFERENCE, 3).loss_points == 0.0


def test_the_gate_refuses_what_lost_more_than_is_allowed() -> None:
    found = measure_change(REFERENCE % 3, WORSE, ALL, REFERENCE, 3)
    check_gate(found, NAMES, max_loss=23.0, max_class_loss=26.0)
    with pytest.raises(BundleError, match=r"mean IoU.*expected 22 at most, got 22\.50"):
        check_gate(found, NAMES, max_loss=22.0, max_class_loss=26.0)
    with pytest.raises(BundleError, match=r"IoU of water.*got 25\.00"):
        check_gate(found, NAMES, max_loss=23.0, max_class_loss=24.0)


def test_without_labels_every_changed_label_counts_as_lost() -> None:
    found = measure_change(REFERENCE % 3, WORSE, ALL, None, 3)
    assert found.loss_points == pytest.approx(10.0)
    with pytest.raises(BundleError, match="agreement"):
        check_gate(found, NAMES, max_loss=9.0, max_class_loss=0.0)


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setenv("BATCHSEG_CACHE", str(tmp_path / "cache"))
    assert main(["synth", str(tmp_path / "scene"), "--size", "1100", "--seed", "9"]) == 0
    return ["--calibrate", str(tmp_path / "scene/scene.tif"), "--labels", str(tmp_path / "scene/labels.tif")]


@pytest.mark.real
def test_eight_bits_pass_the_gate_and_run(
    tmp_path: Path, scene: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(candidates.BATCHES, "cpu", (2,))  # what is tried for its speed; one shape will do here
    out = tmp_path / "eight-bits"
    assert main(["quantize", "zoo:synthetic-bulk", str(out), *scene, "--tiles", "8"]) == 0
    assert "mean IoU" in capsys.readouterr().out
    made, original = open_bundle(str(out)), open_bundle("zoo:synthetic-bulk")
    assert problems_of(json.loads((out / "item.json").read_text())) == []
    assert not list(tmp_path.glob("*.unfinished*"))
    assert b"QuantizeLinear" in made.weights.read_bytes()
    assert made.weights.stat().st_size < 0.75 * 4 * 168_000  # bytes of its weights in float32
    assert made.contract.quality.agreement_with_original > 0.97
    assert made.contract.quality.miou > made.contract.quality.miou_of_original - 0.005
    assert made.contract.lineage.quantized_from == original.contract.name
    assert made.digest != original.digest
    assert f"| **mean** | **{made.contract.quality.miou:.3f}** |" in (out / "README.md").read_text()
    numerics = made.contract.numerics["cpu"]
    assert numerics.seconds_per_tile is not None
    segmenter = open_segmenter(made, device="cpu", tile_px=576)
    index, confidence = segmenter(np.full((numerics.batch, 3, 576, 576), 100, np.uint8))
    assert index.shape == confidence.shape == (numerics.batch, 576, 576)


@pytest.mark.real
def test_what_loses_too_much_is_refused_and_leaves_nothing(
    tmp_path: Path, scene: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["quantize", "zoo:synthetic-bulk", str(tmp_path / "half"), *scene, "--tiles", "2", "--to", "bfloat16"]
    assert main([*command, "--max-loss-points", "-50"]) == 2
    assert "loses too many points of mean IoU" in capsys.readouterr().err
    assert not list(tmp_path.glob("half*"))
    assert main(command) == 0
    assert list(open_bundle(str(tmp_path / "half")).contract.numerics) == ["cuda"]


def test_what_cannot_be_quantised_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    taken = tmp_path / "taken"
    taken.mkdir()
    assert main(["quantize", "zoo:synthetic-bulk", str(taken), "--calibrate", "scene.tif"]) == 2
    assert "there is something already" in capsys.readouterr().err
    taken.rmdir()
    made = contract(architecture=OnnxSpec(quantized="int8"), numerics=on_cpu())
    write_bundle(tmp_path / "net", made, b"\x3a\x00", created_at="2026-01-31T00:00:00Z")
    assert main(["synth", str(tmp_path / "scene"), "--size", "600"]) == 0
    scene = str(tmp_path / "scene/scene.tif")
    assert main(["quantize", str(tmp_path / "net"), str(taken), "--calibrate", scene, "--tiles", "2"]) == 2
    assert "quantised already" in capsys.readouterr().err


def test_one_tile_cannot_both_calibrate_and_judge(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["synth", str(tmp_path / "scene"), "--size", "512"]) == 0
    scene = ["--calibrate", str(tmp_path / "scene/scene.tif"), "--to", "bfloat16"]
    assert main(["quantize", "zoo:synthetic-bulk", str(tmp_path / "half"), *scene]) == 2
    told = capsys.readouterr().err
    assert "expected 2 tiles with data or more, got 1" in told
    assert not list(tmp_path.glob("half*"))
