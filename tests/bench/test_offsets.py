"""Offsets that undo what was done to a network's scores."""

from __future__ import annotations

import numpy as np
import pytest

from bench.offsets import Answers, best_offsets, from_few

NUM_CLASSES, NUM_PIXELS = 4, 4000


def answers(shift: tuple[float, ...], seed: int = 0) -> Answers:
    """Scores that are right for nine in ten pixels before they are shifted by class."""
    random = np.random.default_rng(seed)
    truth_P = random.integers(0, NUM_CLASSES, NUM_PIXELS)
    scores_KP = random.normal(0.0, 1.0, (NUM_CLASSES, NUM_PIXELS))
    scores_KP[truth_P, np.arange(NUM_PIXELS)] += 3.0
    return Answers((scores_KP + np.array(shift)[:, None]).astype(np.float32), truth_P)


@pytest.mark.parametrize("shift", [(0.0, 2.0, -1.5, 0.5), (0.0, -3.0, 0.0, 3.0)])
def test_what_was_added_to_classes_is_found_and_taken_away(shift):
    shifted, zero = answers(shift), np.zeros(NUM_CLASSES)
    plain = answers((0.0,) * NUM_CLASSES).miou(zero)
    found = best_offsets([shifted])
    assert shifted.miou(zero) < plain - 0.1
    assert shifted.miou(found) > plain - 0.02
    assert from_few(shifted, 400) > plain - 0.03


def test_offsets_for_several_scenes_are_never_worse_than_none():
    scenes = [answers((0.0, 2.0, 0.0, 0.0)), answers((0.0, -2.0, 0.0, 1.0), seed=1)]
    found, zero = best_offsets(scenes), np.zeros(NUM_CLASSES)
    assert sum(one.miou(found) for one in scenes) >= sum(one.miou(zero) for one in scenes)
    assert found[0] == 0.0


def test_a_class_that_is_nowhere_does_not_count():
    scene = Answers(np.array([[1.0, 0.0], [0.0, 1.0], [-9.0, -9.0]], np.float32), np.array([0, 1]))
    assert scene.miou(np.zeros(3)) == 1.0
    assert scene.miou(np.array([0.0, 0.0, 20.0])) == 0.0
