"""Students, early stopping and curves."""

from __future__ import annotations

import resource
import struct
from dataclasses import replace
from pathlib import Path

import google_crc32c
import numpy as np
import pytest
import torch
import yaml
from numpy.typing import NDArray
from safetensors.torch import load_file

from batchseg.errors import BundleError
from batchseg.model.bundle import open_bundle
from batchseg.schema import plain
from batchseg.synth import CLASSES
from batchseg.training import loop, sources
from batchseg.training import train as training
from batchseg.training.crops import CropSampler
from batchseg.training.ground import read_ground
from batchseg.training.losses import compute_hard_loss, compute_soft_loss
from batchseg.training.rasters import UNLABELLED
from batchseg.training.state import TrainingState
from batchseg.training.teacher import make_soft_labels
from jobs.cli import main
from tests.batchseg.model.model_bundles import write_random
from tests.batchseg.training.small_trainings import RECIPE, quietly, square_ground, train_on_cpu


def check_step(step: int, steps: int, facts: dict[str, float]) -> None:
    assert step <= steps


def test_soft_labels_belong_to_the_pixels_of_the_crop() -> None:
    """The logits are the ground itself, so that a crop that is turned or moved wrongly fails."""
    ground = square_ground()
    x_W1hw = ground.pixels_WBHW[:, :1].reshape(1, 1, 24, 4, 24, 4).mean((3, 5))
    sampler = CropSampler(ground, 48, 8, 0.5, np.random.default_rng(0), soft=lambda _: x_W1hw[0].astype(np.float16))
    unseen = 0
    for _ in range(20):
        batch = sampler.draw()
        assert batch.soft_NKhw.shape == (8, 1, 12, 12)
        small = batch.pixels_NBHW.mean(1).reshape(8, 12, 4, 12, 4).mean((2, 4))
        for got, soft, seen in zip(small, batch.soft_NKhw[:, 0], batch.seen_Nhw, strict=True):
            assert np.corrcoef(got[seen], soft[seen])[0, 1] > 0.99
            unseen += not seen.all()
    assert unseen > 5


def test_a_teacher_runs_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ground = read_ground(RECIPE.train, RECIPE)
    bundle = write_random(tmp_path / "teacher")
    computed: list[int] = []
    first = make_soft_labels(bundle, ground, tmp_path / "kept", show=lambda done, _: computed.append(done))
    again = make_soft_labels(bundle, ground, tmp_path / "kept", show=lambda done, _: computed.append(done))
    assert computed == [1, 2]
    for window in range(2):
        assert first(window).shape == (4, 32, 32)
        np.testing.assert_array_equal(first(window), again(window))
    other = replace(ground, pixels_WBHW=255 - ground.pixels_WBHW)
    make_soft_labels(bundle, other, tmp_path / "kept", show=lambda done, _: computed.append(done))
    assert computed == [1, 2, 1, 2]


def test_the_distance_to_a_teacher() -> None:
    torch.manual_seed(0)
    soft = torch.randn(1, 6, 8, 8) * 3
    scores = torch.nn.functional.interpolate(soft, scale_factor=4.0, mode="nearest")
    seen = torch.ones(1, 8, 8, dtype=torch.bool)
    same, other = (float(compute_soft_loss(s, soft, seen, 2.0)) for s in (scores, scores.flip(1)))
    assert abs(same) < 1e-4
    assert other > 1.0
    seen[:, :4] = False
    hidden = scores.clone()
    hidden[:, :, :16] = 0
    assert float(compute_soft_loss(hidden, soft, seen, 2.0)) == pytest.approx(same, abs=1e-4)


@pytest.mark.parametrize("kind", ["dice", "focal"])
def test_a_batch_without_labels_costs_nothing(kind: str) -> None:
    scores = torch.randn(1, 6, 8, 8)
    assert float(compute_hard_loss(scores, torch.full((1, 8, 8), UNLABELLED), kind)) == pytest.approx(0.0, abs=1e-6)  # type: ignore[arg-type]


def test_a_student_learns_what_only_its_teacher_knows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The student's own ground has no labels, so it learns from its teacher only."""
    monkeypatch.setattr(sources, "read_ground", lambda *_, **__: square_ground())
    recipe = replace(RECIPE, steps=160, checkpoint_every=200, batch=4)
    teacher = train_on_cpu(recipe, tmp_path / "teacher", show=quietly)

    def without_labels(spec: object, *_: object) -> object:
        ground = square_ground()
        if spec is RECIPE.train:
            ground.labels_WHW[:] = UNLABELLED
            ground = replace(ground, places={})
        return ground

    monkeypatch.setattr(sources, "read_ground", without_labels)
    recipe = replace(recipe, teacher=str(teacher.folder), soft_share=1.0, temperature=1.0)
    student = train_on_cpu(recipe, tmp_path / "student", show=check_step)
    assert student.contract.quality.miou > 0.8 * teacher.contract.quality.miou > 0.4
    assert student.contract.lineage.teacher == teacher.graph_digest
    assert "soft labels" in (tmp_path / "student" / "README.md").read_text()


def test_a_teacher_of_other_classes_is_refused_before_any_work(tmp_path: Path) -> None:
    write_random(tmp_path / "teacher")
    with pytest.raises(BundleError, match="other classes"):
        train_on_cpu(replace(RECIPE, teacher=str(tmp_path / "teacher")), tmp_path / "out", show=quietly)
    assert not (tmp_path / "out").exists()


def right_in(share: float) -> NDArray[np.int64]:
    """The confusion matrix of a classifier that calls this share of the water water, and the rest forest."""
    confusion = np.zeros((len(CLASSES), len(CLASSES)), np.int64)
    confusion[0, :2] = round(1000 * share), round(1000 * (1 - share))
    return confusion


def test_the_best_step_becomes_the_bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The IoU of the watched ground rises twice and then falls; training ends after two measurements without a rise."""
    miou = iter([0.2, 0.5, 0.4, 0.3, 0.9])
    kept: dict[int, dict[str, torch.Tensor]] = {}
    real = loop.save_best

    def save_best(state: TrainingState, folder: Path) -> None:
        kept[state.step] = {k: v.clone() for k, v in state.graph.network.state_dict().items()}
        real(state, folder)

    monkeypatch.setattr(loop, "measure_iou", lambda *_, **__: {"water": next(miou)})
    monkeypatch.setattr(training, "measure_confusion", lambda *_, **__: right_in(next(miou)))
    monkeypatch.setattr(loop, "save_best", save_best)
    watch = replace(RECIPE.validate, seeds=(3000, 3001))
    recipe = replace(RECIPE, steps=40, watch=watch, watch_every=2, patience=2)
    bundle = train_on_cpu(recipe, tmp_path, show=quietly)
    assert list(kept) == [2, 4]
    assert bundle.contract.lineage.steps == 4
    assert bundle.contract.quality.miou == 0.9  # of the ground that was never looked at
    looks = (tmp_path / "training" / "watched.csv").read_text().splitlines()
    seen = ["2,0.20000", "4,0.50000", "6,0.40000", "8,0.30000"]
    assert [",".join(line.split(",")[:2]) for line in looks[1:]] == seen
    stored = load_file(tmp_path / "weights.safetensors")
    assert torch.equal(stored["out.weight"], kept[4]["out.weight"].half())


def test_tensorboard_can_read_the_curves(tmp_path: Path) -> None:
    """The file follows the format: every record has a length and a message, each with its masked checksum."""
    train_on_cpu(replace(RECIPE, steps=3), tmp_path, show=quietly)
    (path,) = (tmp_path / "training").glob("events.out.tfevents.*")
    data, messages = path.read_bytes(), []
    while data:
        (length,) = struct.unpack("<Q", data[:8])
        for part, crc in ((data[:8], data[8:12]), (data[12 : 12 + length], data[12 + length : 16 + length])):
            value = google_crc32c.value(part)
            assert struct.unpack("<I", crc)[0] == (((value >> 15) | (value << 17)) + 0xA282EAD8) % 2**32
        messages.append(data[12 : 12 + length])
        data = data[16 + length :]
    assert b"brain.Event:2" in messages[0]
    assert messages[1][9:] == b"\x10\x01\x3a\x02\x08\x01", "TensorBoard hides what another try wrote from step 1 on"
    assert [message[9:11] for message in messages[2:]] == [b"\x10\x01", b"\x10\x02", b"\x10\x03"]
    assert all(b"learning_rate" in message for message in messages[2:])


def test_a_full_disk_ends_a_training_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A limit on the size of files stands for a full disk."""
    path, out = tmp_path / "recipe.yaml", tmp_path / "out"
    path.write_text(yaml.safe_dump(plain(RECIPE)))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
    try:
        assert main(["train", str(path), str(out)]) == 2
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    error = capsys.readouterr().err
    assert f"{out}: the training cannot be written; got " in error
    assert "File too large" in error
    assert "the same command goes on from the last checkpoint" in error
    assert main(["train", str(path), str(out)]) == 0
    assert open_bundle(str(out)).contract.lineage.steps == RECIPE.steps


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_missing_gpu_is_reported_before_any_work(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = Path(__file__).parents[3] / "configs" / "train" / "synthetic-heavy-base.yaml"
    assert main(["train", str(recipe), str(tmp_path / "out"), "--device", "cuda"]) == 2
    assert "torch finds no GPU here; got cuda. Install a torch with CUDA" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_distilling_without_a_teacher_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = Path(__file__).parents[3] / "configs" / "train" / "synthetic-heavy.yaml"
    assert main(["distill", str(recipe), str(tmp_path / "out")]) == 2
    assert "a recipe for distillation must name a teacher" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
