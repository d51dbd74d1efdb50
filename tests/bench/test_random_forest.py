"""The forest that networks are compared with: what it says lies in the classes' order, and where it was asked."""

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


def test_pixels_are_known_by_the_square_that_they_lie_in() -> None:
    one = ground(0, 0, 2)
    found = random_forest.draw_samples(one, np.random.default_rng(0), balanced=False)
    assert len(found.labels_N) == (one.labels_WHW != UNLABELLED).sum()
    assert len(np.unique(found.place_N)) == 2 * 2 * 2, "of each window four squares of 64 px"
    assert found.x_NF.shape[0] == len(found.place_N)


def test_a_class_that_other_scenes_do_not_have_shifts_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(random_forest, "TREES", 5)
    scenes = {"a": ground(0, 0, 2), "b": ground(1, 0, 2), "c": ground(2, 0, 1, 2)}
    found = dict(random_forest.leave_out(scenes))
    said_P, truth_P = found["c"].scores_KP.argmax(0), found["c"].truth_P
    assert (said_P[truth_P != 1] == truth_P[truth_P != 1]).mean() > 0.95
    assert not (said_P == 1).any()
