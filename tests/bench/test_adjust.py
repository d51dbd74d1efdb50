"""The table of the gain from labels: drawn pixels are not scored, and labels of other scenes help."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from batchseg.adapt.mixture import LabelledScores
from batchseg.model.bundle import open_bundle
from batchseg.model.mixing import Mixture
from batchseg.schema import plain
from batchseg.training.checks import load_train_recipe
from bench import adjust
from bench.leave_one_out import make_folds
from jobs.cli import main

MIXED_UP = Mixture(np.eye(3) + np.array([[0, 0, 0], [0.5, 0, 0], [0, 0.8, -0.4]]), np.array([0.0, 2.0, -1.0]))


def scene(seed: int, mixing: Mixture | None = None) -> LabelledScores:
    """Scores of 40 squares with 50 pixels each."""
    random = np.random.default_rng(seed)
    truth_P = random.integers(0, 3, 2000)
    scores_KP = random.normal(0.0, 1.0, (3, 2000)).astype(np.float32)
    scores_KP[truth_P, np.arange(2000)] += 3.0
    return LabelledScores(scores_KP if mixing is None else mixing.apply(scores_KP), truth_P, np.arange(2000) // 50)


def test_the_numbers_of_pixels_and_squares_are_drawn() -> None:
    one, random = scene(0), np.random.default_rng(0)
    assert adjust.draw_pixels(one, 70, random).sum() == 70
    drawn_P = adjust.draw_squares(one, 3, random)
    assert drawn_P.sum() == 150
    assert len(np.unique(one.place_P[drawn_P])) == 3


def test_drawn_pixels_are_not_scored(monkeypatch: pytest.MonkeyPatch) -> None:
    one = scene(0)
    wrong_P = one.scores_KP.argmax(0) != one.truth_P
    assert wrong_P.any()
    monkeypatch.setattr(adjust, "fit_mixture", lambda _: Mixture(np.eye(3), np.zeros(3)))
    assert adjust.score_with_drawn(one, wrong_P) == 1.0
    assert adjust.score_with_drawn(one, ~wrong_P) == 0.0


def test_similar_scenes_adjust_each_other(capsys: pytest.CaptureFixture[str]) -> None:
    alike = {f"scene_{seed}": scene(seed, MIXED_UP) for seed in range(3)}
    right = adjust.compute_miou(scene(0), scene(0).scores_KP)
    assert adjust.score_with_others(alike["scene_0"], [alike["scene_1"], alike["scene_2"]]) > right - 0.03
    adjust.print_table(alike, [200], [10])
    head, _, *rows, mean = capsys.readouterr().out.splitlines()
    assert head == "| scene | as it is | from the others | from 200 px | from 10 squares | from all |"
    assert len(rows) == 3
    values = [float(text) for text in mean.split("|")[2:-1]]
    assert values[0] < right - 0.1
    assert min(values[1:]) > right - 0.05


def test_a_bundle_runs_on_the_scene_that_its_recipe_leaves_out(tmp_path: Path) -> None:
    statuses = [main(["synth", str(tmp_path / name), "--size", "640", "--seed", "5"]) for name in ("a", "b")]
    assert statuses == [0, 0]
    bundle = open_bundle("zoo:synthetic-bulk")
    rasters = [
        {"image": str(tmp_path / n / "scene.tif"), "labels": str(tmp_path / n / "labels.tif")} for n in ("a", "b")
    ]
    (tmp_path / "recipe.yaml").write_text(
        json.dumps(
            {
                "name": "left-out",
                "tier": "bulk",
                "architecture": plain(bundle.contract.architecture),
                "halo_px": bundle.contract.halo_px,
                "classes": [plain(one) for one in bundle.contract.classes],
                "train": {"rasters": rasters[:1]},
                "validate": {"rasters": rasters[1:]},
            }
        )
    )
    for name, fold in make_folds(load_train_recipe(tmp_path / "recipe.yaml")).items():
        assert name == "scene"
        scores = adjust.read_answers(bundle.folder, fold)
    assert scores.num_classes == len(bundle.contract.classes)
    assert len(scores.truth_P) > 50_000
    assert adjust.compute_miou(scores, scores.scores_KP) > 0.5
