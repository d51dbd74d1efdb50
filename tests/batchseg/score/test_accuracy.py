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

from batchseg.score.accuracy import agree, class_index, iou_of, scores
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
        index_HW = class_index(predicted_HW[slice(*rows)], tuple(ids), 255)
        found = agree(index_HW, labels, window, ids=ids, nodata=255)
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
    for class_id, iou in zip(ids, iou_of(total), strict=True):
        assert iou == (pytest.approx(wanted[class_id]) if class_id in wanted else None)
    found = scores(total, [str(i) for i in ids])
    if not truth.size:
        assert (found["miou"], found["fwiou"], found["scored_px"]) == (None, None, 0)
        return
    of_sklearn = precision_recall_fscore_support(truth, answer, labels=ids, zero_division=np.nan)
    for name, values in zip(("precision", "recall", "f1"), of_sklearn[:3], strict=True):
        given = [np.nan if found[name][str(i)] is None else found[name][str(i)] for i in ids]
        assert given == pytest.approx(values, abs=1e-5, nan_ok=True)
    assert found["accuracy"] == pytest.approx(accuracy_score(truth, answer), abs=1e-5)
    weighted = jaccard_score(truth, answer, labels=present, average="weighted")
    assert found["fwiou"] == pytest.approx(weighted, abs=1e-5)
    assert found["miou"] == pytest.approx(np.mean(list(wanted.values())), abs=1e-5)
