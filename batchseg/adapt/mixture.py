"""Fitting a bundle's scores to ground that is new to it, with a few labelled pixels.

Theory of operation
-------------------
A network that was trained on other scenes recognises much of a new one but calls some of it by the wrong name. Another
labeller, another season and other roofs move the borders between classes and mix some classes up. So the scores are
mixed anew: the new score of a class is a weighted sum of all old scores, plus an offset. Those are a few dozen numbers,
and some hundreds of labelled pixels determine them. The network itself stays as it is.

The fit minimises cross-entropy plus one minus the soft IoU on the labelled pixels. A Gaussian prior holds the mixture
near the original scores, and weighs as much as one labelled place. Neighbouring pixels carry the same information, so
the evidence against the prior is counted in *places*, squares of ground that hold labels, and not in pixels. A class
without labels keeps its score and is not judged: the labels of others do not say that it is absent.

Labels always look well fitted by the mixture that was fitted to them. The mixture is therefore judged by two-fold
cross-validation: each half of the places is scored with the mixture that was fitted to the other half.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batchseg.adapt.samples import Sample
from batchseg.errors import BundleError, RecipeError
from batchseg.model.mixing import Mixture, Scores
from batchseg.score.confusion import count_confusion, iou_per_labelled_class, mean_iou
from batchseg.score.gate import QualityChange

MAX_SCORES = 500_000
"""Scores kept from all tiles and classes together: 100,000 pixels of five classes. More do not improve the fit."""
MIN_PLACES = 10
"""With 2 places, one useless mixture in eight looked like a gain by chance; with 16, one in a hundred."""
PLACE_PX = 64
"""Side of the squares that count as one place."""
WEIGHT_SPREAD, OFFSET_SPREAD = 0.5, 1.5
"""Standard deviations of the prior. Results hardly change with them (docs/decisions/0012)."""
MAX_ITERATIONS = 100
RESAMPLES = 400


@dataclass(frozen=True, slots=True)
class LabelledScores:
    """A network's scores at labelled pixels."""

    scores_KP: NDArray[np.float32]
    truth_P: NDArray[np.int64]
    place_P: NDArray[np.int64]
    """Number of the square that each pixel lies in."""

    @staticmethod
    def concatenate(parts: Sequence[LabelledScores]) -> LabelledScores:
        return LabelledScores(
            np.concatenate([part.scores_KP for part in parts], axis=1),
            np.concatenate([part.truth_P for part in parts]),
            np.concatenate([part.place_P for part in parts]),
        )

    @property
    def num_classes(self) -> int:
        return len(self.scores_KP)

    @property
    def counts(self) -> NDArray[np.int64]:
        """Labelled pixels per class."""
        return np.bincount(self.truth_P, minlength=self.num_classes)

    def select(self, chosen_P: NDArray[Any]) -> LabelledScores:
        return LabelledScores(self.scores_KP[:, chosen_P], self.truth_P[chosen_P], self.place_P[chosen_P])

    def compute_iou(
        self, index_P: NDArray[np.int64], weights_P: NDArray[np.int64] | None = None
    ) -> tuple[float | None, ...]:
        """IoU of predicted class indexes; None for a class without labels. Each pixel counts as often as its weight."""
        return iou_per_labelled_class(count_confusion(self.truth_P, index_P, self.num_classes, weights=weights_P))


def collect_scores(scores: Scores, samples: Iterable[Sample], *, num_tiles: int, halo_px: int) -> LabelledScores:
    """The scores at labelled pixels of tiles. Of many labels, the same number is drawn from each tile."""
    per_tile = (_collect_from_tile(scores, sample, MAX_SCORES // num_tiles, halo_px) for sample in samples)
    parts = [part for part in per_tile if part is not None]
    if not parts:
        raise RecipeError(
            "no pixel has both data and the label of a class",
            where="--labels",
            todo="check that the labels lie where the scene has data, and that their codes are those of the classes",
        )
    return LabelledScores.concatenate(parts)


def _collect_from_tile(scores: Scores, sample: Sample, max_scores: int, halo_px: int) -> LabelledScores | None:
    core, reference_HW = sample.tile.core, sample.reference_HW
    assert reference_HW is not None
    scores_KHW = scores(sample.x_BHW)
    labelled_HW = sample.judged_HW & (reference_HW < len(scores_KHW))
    row_P, col_P = labelled_HW.nonzero()
    max_px = max(1, max_scores // len(scores_KHW))
    if len(row_P) > max_px:
        drawn = np.random.default_rng((core.rows.start, core.cols.start)).choice(len(row_P), max_px, replace=False)
        row_P, col_P = row_P[np.sort(drawn)], col_P[np.sort(drawn)]
    if not len(row_P):
        return None
    place_P = ((core.rows.start + row_P) // PLACE_PX << 32) + (core.cols.start + col_P) // PLACE_PX
    return LabelledScores(
        scores_KHW[:, halo_px + row_P, halo_px + col_P], reference_HW[row_P, col_P].astype(np.int64), place_P
    )


def fit_mixture(labelled: LabelledScores) -> Mixture:
    """Fit the mixture of scores that suits the labels best."""
    import torch

    labelled_S = np.flatnonzero(labelled.counts)
    scores_PK = torch.from_numpy(labelled.scores_KP).double().T.contiguous()
    own_PS = scores_PK[:, labelled_S]
    truth_PS = torch.from_numpy(labelled.truth_P[:, None] == labelled_S).double()
    change_SK = torch.zeros(len(labelled_S), labelled.num_classes, dtype=torch.float64, requires_grad=True)
    offsets_S = torch.zeros(len(labelled_S), dtype=torch.float64, requires_grad=True)
    num_places = len(np.unique(labelled.place_P))
    search = torch.optim.LBFGS([change_SK, offsets_S], max_iter=MAX_ITERATIONS, line_search_fn="strong_wolfe")

    def compute_loss() -> Any:
        search.zero_grad()
        logs_PS = (own_PS + scores_PK @ change_SK.T + offsets_S).log_softmax(1)
        entropy = -(logs_PS * truth_PS).sum() / len(truth_PS)
        chances_PS = logs_PS.exp()
        shared_S = (chances_PS * truth_PS).sum(0)
        iou_S = shared_S / (chances_PS.sum(0) + truth_PS.sum(0) - shared_S)
        prior = (change_SK**2).sum() / WEIGHT_SPREAD**2 + (offsets_S**2).sum() / OFFSET_SPREAD**2
        loss = entropy + (1 - iou_S).mean() + prior / (2 * num_places)
        loss.backward()
        return loss

    with _use_one_thread(torch):
        search.step(compute_loss)
    with torch.no_grad():
        new_PS = own_PS + scores_PK @ change_SK.T + offsets_S
        # Labels of some classes do not say how these compare with the others. So their scores together must not rise.
        rise = (new_PS.logsumexp(1) - own_PS.logsumexp(1)).mean()
    weights_KK, offsets_K = np.eye(labelled.num_classes), np.zeros(labelled.num_classes)
    weights_KK[labelled_S] += change_SK.detach().numpy()
    offsets_K[labelled_S] = (offsets_S.detach() - rise).numpy()
    return Mixture(weights_KK, offsets_K)


@contextmanager
def _use_one_thread(torch: Any) -> Iterator[None]:
    """One thread gives the same sums on every machine, and most sums are too small to be shared."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@dataclass(frozen=True, slots=True)
class Gain:
    """The gain of a mixture on labels that it was not fitted to."""

    change: QualityChange
    low_points: float
    """Lower end of the 95 % bootstrap interval of the gain in mean IoU, resampled over places."""
    high_points: float
    """Upper end of that interval."""


def cross_validate(labelled: LabelledScores) -> Gain:
    """Judge each half of the places with the mixture that was fitted to the other half.

    Raises:
        BundleError: There are too few labels to judge by.
    """
    places, number_P = np.unique(labelled.place_P, return_inverse=True)
    num_labelled = np.count_nonzero(labelled.counts)
    if len(places) < MIN_PLACES or num_labelled < 2:
        raise BundleError(
            "there are too few labels to find the borders between classes, and nothing was written",
            where="--labels",
            expected=f"labels of two classes or more, in {MIN_PLACES} squares of {PLACE_PX} px or more",
            got=f"{num_labelled} classes, in {len(places)} squares",
            todo="label more places; some hundreds of pixels are enough",
        )
    before_P, after_P = labelled.scores_KP.argmax(0), np.empty_like(labelled.truth_P)
    even_P = number_P % 2 == 0
    for fitted_P in (even_P, ~even_P):
        mixture = fit_mixture(labelled.select(fitted_P))
        after_P[~fitted_P] = mixture.apply(labelled.scores_KP[:, ~fitted_P]).argmax(0)
    agreement = float((before_P == after_P).mean())
    change = QualityChange(agreement, labelled.compute_iou(before_P), labelled.compute_iou(after_P))
    random, gains = np.random.default_rng(0), []
    for _ in range(RESAMPLES):
        # Places are resampled, not pixels: neighbours are right and wrong together.
        drawn = random.integers(0, len(places), len(places))
        weights_P = np.bincount(drawn, minlength=len(places))[number_P]
        before, after = (mean_iou(labelled.compute_iou(index_P, weights_P)) for index_P in (before_P, after_P))
        gains.append(100 * (after - before))
    low, high = np.quantile(gains, (0.025, 0.975)).tolist()
    return Gain(change, low, high)


def check_gain(gain: Gain) -> None:
    """Refuse a mixture that may be no better than the original on labels that it was not fitted to.

    Raises:
        BundleError: The bootstrap interval of the gain does not lie above zero.
    """
    if gain.low_points <= 0:
        raise BundleError(
            "the adjusted bundle is not better on held-out labels with 95 % confidence, and nothing was written",
            expected="a gain in mean IoU above 0 points",
            got=f"{gain.low_points:+.1f} to {gain.high_points:+.1f} points",
            todo="label more places; `batchseg train` learns more from labels, and takes them as a raster of class ids "
            "(`gdal_rasterize -a FIELD` makes one from polygons)",
        )
