"""The random forest: its scores are in the order of the classes, and belong to the drawn pixels."""

from __future__ import annotations

import numpy as np
import pytest

from batchseg.training.ground import TrainingGround
from batchseg.training.rasters import UNLABELLED
from bench import random_forest

NAMES = ("dark", "never learnt", "bright")


def ground(seed: int, *classes: int) -> TrainingGround:
    """Two windows, whose pixels are as bright as their class; a corner has no label."""
    random = np.random.default_rng(seed)
    labels_WHW = random.choice(classes, (2, 8, 8)).astype(np.uint8).repeat(16, 1).repeat(16, 2)
    pixels_WBHW = (100 * labels_WHW[:, None] + random.integers(0, 20, (2, 3, 128, 128))).astype(np.uint8)
    labels_WHW[:, :5, :5] = UNLABELLED
    zeros, inside_W2 = np.zeros(3), np.full((2, 2), 128)
    return TrainingGround(pixels_WBHW, labels_WHW, {}, zeros, np.ones(3), fill=zeros, inside_W2=inside_W2, names=NAMES)


def test_pixels_have_the_number_of_their_square() -> None:
    one = ground(0, 0, 2)
    pixels = random_forest.draw_samples(one, np.random.default_rng(0), balanced=False)
    assert len(pixels.labels_N) == (one.labels_WHW != UNLABELLED).sum()
    assert len(np.unique(pixels.place_N)) == 2 * 2 * 2, "of each window four squares of 64 px"
    assert pixels.x_NF.shape[0] == len(pixels.place_N)


def test_a_class_that_other_scenes_lack_does_not_shift_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(random_forest, "TREES", 5)
    scenes = {"a": ground(0, 0, 2), "b": ground(1, 0, 2), "c": ground(2, 0, 1, 2)}
    scores = dict(random_forest.leave_out(scenes))
    predicted_P, truth_P = scores["c"].scores_KP.argmax(0), scores["c"].truth_P
    assert (predicted_P[truth_P != 1] == truth_P[truth_P != 1]).mean() > 0.95
    assert not (predicted_P == 1).any()
