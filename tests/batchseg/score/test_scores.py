"""Accuracy is what others compute: every score is that of scikit-learn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score, jaccard_score, precision_recall_fscore_support

from batchseg.score.agreement import count_agreement, index_classes
from batchseg.score.confusion import count_confusion, iou_from_counts, iou_per_class
from batchseg.score.scores import compute_scores, find_recall_note
from tests.strategies import quick
from tiling.span import Window


@dataclass(frozen=True)
class DrawnLabels:
    """A reference in memory."""

    raw_HW: NDArray[Any]
    labelled_HW: NDArray[np.bool_]
    id: str = "drawn"

    def read(self, window: Window) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        rows, cols = window.within(Window.of(0, self.raw_HW.shape[0], 0, self.raw_HW.shape[1]))
        return self.raw_HW[rows, cols], self.labelled_HW[rows, cols]


@quick
@given(st.lists(st.integers(0, 40), min_size=1, max_size=7, unique=True), st.integers(0, 2**32 - 1))
def test_iou_is_that_of_scikit_learn(ids: list[int], seed: int) -> None:
    random = np.random.default_rng(seed)
    predicted_HW = random.choice([*ids, 255], (24, 30))
    # Some classes of the bundle are rare, some codes are none.
    reference_HW = np.where(random.random((24, 30)) < 0.5, predicted_HW, random.choice([*ids, 77, 255], (24, 30)))
    labels = DrawnLabels(reference_HW, random.random((24, 30)) > 0.2)
    total = np.zeros((len(ids), len(ids)), np.int64)
    unknown_px = 0
    for rows in ((0, 16), (16, 24)):
        window = Window.of(*rows, 0, 30)
        index_HW = index_classes(predicted_HW[slice(*rows)], tuple(ids), 255)
        found = count_agreement(index_HW, labels, window, ids=ids, nodata=255)
        total += np.array(found.confusion)
        unknown_px += found.unknown_px
    both_HW = labels.labelled_HW & (predicted_HW != 255)
    known_HW = both_HW & np.isin(reference_HW, ids)
    assert unknown_px == int((both_HW & ~known_HW).sum())
    truth, answer = reference_HW[known_HW], predicted_HW[known_HW]
    present = [i for i in ids if i in truth or i in answer]
    wanted = dict(
        zip(present, jaccard_score(truth, answer, labels=present, average=None) if present else (), strict=True)
    )
    for class_id, iou in zip(ids, iou_per_class(total), strict=True):
        assert iou == (pytest.approx(wanted[class_id]) if class_id in wanted else None)
    scores = compute_scores(total, [str(i) for i in ids])
    if not truth.size:
        assert (scores.miou, scores.fwiou, scores.scored_px) == (None, None, 0)
        return
    of_sklearn = precision_recall_fscore_support(truth, answer, labels=ids, zero_division=np.nan)
    for name, values in zip(("precision", "recall", "f1"), of_sklearn[:3], strict=True):
        by_class = getattr(scores, name)
        given = [np.nan if by_class[str(i)] is None else by_class[str(i)] for i in ids]
        expected = [value if i in truth else np.nan for i, value in zip(ids, values, strict=True)]
        assert given == pytest.approx(expected, abs=1e-5, nan_ok=True), "a class without reference has no score"
    assert scores.accuracy == pytest.approx(accuracy_score(truth, answer), abs=1e-5)
    weighted = jaccard_score(truth, answer, labels=present, average="weighted")
    assert scores.fwiou == pytest.approx(weighted, abs=1e-5)
    assert scores.miou == pytest.approx(np.mean([wanted[i] for i in present if i in truth]), abs=1e-5)


@quick
@given(st.integers(1, 300), st.integers(0, 2**32 - 1))
def test_pixels_without_a_label_or_a_prediction_are_not_in_the_confusion(num_classes: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    reference_HW, predicted_HW = random.integers(0, num_classes + 3, (2, 5, 7), dtype=np.uint16)
    weights_HW = random.integers(0, 4, (5, 7))
    expected = np.zeros((num_classes, num_classes))
    for reference, predicted, weight in zip(reference_HW.flat, predicted_HW.flat, weights_HW.flat, strict=True):
        if max(reference, predicted) < num_classes:
            expected[reference, predicted] += weight
    assert np.array_equal(count_confusion(reference_HW, predicted_HW, num_classes, weights=weights_HW), expected)
    whole = count_confusion(reference_HW, predicted_HW, num_classes)
    assert whole.sum() == ((reference_HW < num_classes) & (predicted_HW < num_classes)).sum()


def test_iou_from_counts_takes_arrays_of_any_shape() -> None:
    iou = iou_from_counts(np.array([[1.0, 0.0]]), np.array([[2.0, 0.0]]), np.array([[3.0, 0.0]]))
    assert iou == pytest.approx(np.array([[0.25, np.nan]]), nan_ok=True)


@pytest.mark.parametrize(
    ("confusion", "miou", "note"),
    [
        ([[90, 10, 0], [0, 0, 0], [0, 0, 0]], 0.9, "only a has reference pixels, so its IoU is its recall"),
        ([[90, 10, 0], [5, 95, 0], [0, 0, 0]], None, None),
        ([[0, 0, 0], [0, 0, 0], [0, 0, 0]], None, None),
        ([[7]], 1.0, None),
    ],
)
def test_an_iou_that_is_a_recall_is_said(confusion: list[list[int]], miou: float | None, note: str | None) -> None:
    scores = compute_scores(np.array(confusion), "abc"[: len(confusion)])
    assert miou is None or scores.miou == miou
    found = find_recall_note(scores)
    assert (found is None) == (note is None)
    assert note is None or str(found).startswith(note)
