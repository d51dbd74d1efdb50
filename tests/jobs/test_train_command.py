"""`batchseg train` and `distill` as a user meets them: signals, the summary at the end, and warnings."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from batchseg import plan
from batchseg.model.bundle import open_bundle
from batchseg.model.contract import Contract
from batchseg.model.quality import TrainedQuality
from batchseg.model.ranking import find_inversion
from batchseg.recipe import Models
from batchseg.schema import plain
from batchseg.training.provenance import make_public_ground
from jobs.cli import main
from tests.batchseg.training.small_trainings import RECIPE
from tests.runs import Workplace, noise, write_fake_bundle

pytestmark = pytest.mark.timeout(180)


def write_recipe(folder: Path, **changes: object) -> Path:
    path = folder / f"{changes.get('name', 'train')}.yaml"
    path.write_text(yaml.safe_dump(plain(replace(RECIPE, **changes))))
    return path


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_a_training_with_a_checkpoint_and_the_same_command_goes_on(
    number: signal.Signals, status: int, tmp_path: Path
) -> None:
    recipe = write_recipe(tmp_path, steps=100_000, checkpoint_every=100_000)
    command = [sys.executable, "-m", "jobs", "train", str(recipe), str(tmp_path / "net"), "--device", "cpu"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as training:
        assert training.stderr is not None
        assert training.stderr.readline().startswith("step ")
        training.send_signal(number)
        _, err = training.communicate(timeout=60)
    assert training.returncode == status
    assert f"{number.name}: finishing the step in hand; once more to leave at once" in err
    stopped = re.search(r"stopped after step (\d+) of 100000. The same command continues from there", err)
    assert stopped is not None
    num_done = int(stopped[1])
    assert "Traceback" not in err
    assert main(["train", str(recipe), str(tmp_path / "net"), "--device", "cpu", "--steps", str(num_done + 1)]) == 0
    curve = (tmp_path / "net" / "training" / "curve.csv").read_text().splitlines()
    assert len(curve) == num_done + 2


def test_a_training_ends_with_its_scores_its_time_and_the_next_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe, folder = write_recipe(tmp_path), tmp_path / "net"
    begun_s = time.perf_counter()
    assert main(["train", str(recipe), str(folder), "--device", "cpu"]) == 0
    spent_s = time.perf_counter() - begun_s
    text = capsys.readouterr().out
    quality = open_bundle(str(folder)).contract.quality
    for name, iou in quality.iou.items():
        assert re.search(rf"{name} +{iou:.3f} +{quality.recall[name]:.3f} +", text)
    assert re.search(rf"mean +{quality.miou:.3f}", text)
    time_said = re.search(r"time  ([\d.]+) s; weights of step 6, 6 of them now", text)
    assert time_said is not None
    assert 0 < float(time_said[1]) <= spent_s + 0.1
    assert f"batchseg model tune {folder}" in text
    assert f"models: {{bulk: {folder}}}" in text
    assert main(["train", str(recipe), str(folder), "--device", "cpu"]) == 0
    again = capsys.readouterr().out
    assert "finished before; nothing was done now" in again
    assert f"{quality.miou:.3f}" in again


def measured(name: str, miou: float, seed: int = 2000) -> TrainedQuality:
    on = make_public_ground(replace(RECIPE.validate, seeds=(seed, seed + 1)))
    return TrainedQuality(iou={"water": miou}, miou=miou, on=on)


@pytest.mark.parametrize(
    ("heavy", "bulk", "is_worse"),
    [
        (measured("heavy", 0.5), measured("bulk", 0.6), True),
        (measured("heavy", 0.6), measured("bulk", 0.6), False),
        (measured("heavy", 0.7), measured("bulk", 0.6), False),
        (measured("heavy", 0.5, seed=2001), measured("bulk", 0.6), False),  # other ground says nothing
    ],
)
def test_a_heavy_model_that_is_worse_than_its_bulk_model_is_said_in_the_plan(
    heavy: TrainedQuality, bulk: TrainedQuality, is_worse: bool, tmp_path: Path
) -> None:
    place = Workplace.of(tmp_path, noise(64, 64))
    bundles = {
        tier: write_fake_bundle(tmp_path / f"my-{tier}", tier=tier, quality=quality)
        for tier, quality in (("heavy", heavy), ("bulk", bulk))
    }
    warnings = plan(place.recipe(models=Models(**bundles))).warnings
    assert any("my-heavy should be better than my-bulk" in text for text in warnings) == is_worse


def test_a_student_that_beats_its_teacher_and_a_start_that_beats_its_heir_are_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = write_recipe(tmp_path, name="first", steps=30)
    assert main(["train", str(first), str(tmp_path / "first"), "--device", "cpu"]) == 0
    # A learning rate that destroys what the start knew.
    heir = write_recipe(tmp_path, name="heir", start=str(tmp_path / "first"), learning_rate=5.0)
    assert main(["train", str(heir), str(tmp_path / "heir"), "--device", "cpu"]) == 0
    worse, better = (open_bundle(str(tmp_path / name)).contract for name in ("heir", "first"))
    assert worse.quality.miou < better.quality.miou, "otherwise this test shows nothing"
    assert "heir should be better than first" in capsys.readouterr().err
    start, teacher = str(tmp_path / "first"), str(tmp_path / "heir")
    student = write_recipe(tmp_path, name="student", start=start, teacher=teacher, learning_rate=1e-6, soft_share=0.0)
    assert main(["distill", str(student), str(tmp_path / "student"), "--device", "cpu"]) == 0
    pupil: Contract = open_bundle(str(tmp_path / "student")).contract
    warning = find_inversion(worse, pupil)
    assert warning is not None
    assert warning in capsys.readouterr().err
