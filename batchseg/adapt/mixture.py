"""A bundle's answers brought to ground that is new to it, by a few labelled pixels.

Theory of operation
-------------------
A network that has learnt from other scenes sees much of what there is on a new one, and is wrong about what it is
called: another labeller, another season and other roofs move the borders between classes, and mix some of them up. So
its scores are mixed anew: each class's is a sum over all of them, with an offset. That is a few dozen numbers, and some
hundreds of pixels tell them; all that the network knows stays as it is.

They are those with the least cross-entropy and the best (soft) IoU on the labelled pixels, and not far from what the
network had: a Gaussian prior around it weighs as much as a labelled place. Pixels next to each other say the same, so
what counts against the prior is not pixels but the squares of ground that hold any, be they clicked or drawn.
A class without labels keeps its score, and is not asked about: labels of others do not say that it is not there.

What is found on labels always looks good on the same labels, so what it is worth is said by others: each half of the
squares is judged with what the other half told.
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
from batchseg.model.mixing import Mixing, Scores
from batchseg.score.confusion import count_confusion, iou_per_labelled_class, mean_iou
from batchseg.score.gate import QualityChange

SCORES = 500_000
"""Kept of all tiles and classes together: 100,000 pixels of five classes. More do not make a few numbers better."""
LEAST_PLACES = 10
"""With 2, chance alone has made one useless mixture in eight look like a gain; with 16, one in a hundred."""
PLACE_PX = 64
"""Side of the squares that labels are told apart by: neighbours say the same."""
WEIGHT_SPREAD, OFFSET_SPREAD = 0.5, 1.5
"""Standard deviations of the prior. Results hardly change with them (docs/decisions/0012)."""
MOST_ITERATIONS = 100
RESAMPLES = 400


@dataclass(frozen=True, slots=True)
class Answers:
    """What a network said of labelled pixels."""

    scores_KP: NDArray[np.float32]
    truth_P: NDArray[np.int64]
    place_P: NDArray[np.int64]
    """Which square each lies in."""

    @staticmethod
    def joined(parts: Sequence[Answers]) -> Answers:
        return Answers(
            np.concatenate([one.scores_KP for one in parts], axis=1),
            np.concatenate([one.truth_P for one in parts]),
            np.concatenate([one.place_P for one in parts]),
        )

    @property
    def num_classes(self) -> int:
        return len(self.scores_KP)

    @property
    def counts(self) -> NDArray[np.int64]:
        """Labelled pixels of each class."""
        return np.bincount(self.truth_P, minlength=self.num_classes)

    def part(self, chosen_P: NDArray[Any]) -> Answers:
        return Answers(self.scores_KP[:, chosen_P], self.truth_P[chosen_P], self.place_P[chosen_P])

    def iou(self, said_P: NDArray[np.int64], times_P: NDArray[np.int64] | None = None) -> tuple[float | None, ...]:
        """Of answers; each pixel counts as often as is said. None for a class that has no labels to be judged by."""
        return iou_per_labelled_class(count_confusion(self.truth_P, said_P, self.num_classes, weights=times_P))


def answers_of(scores: Scores, samples: Iterable[Sample], *, num_tiles: int, halo_px: int) -> Answers:
    """Of the labelled pixels of tiles; where these are many, of an even share of each tile's."""
    found = [one for sample in samples if (one := _answers(scores, sample, SCORES // num_tiles, halo_px))]
    if not found:
        raise RecipeError(
            "no pixel has both data and the label of a class",
            where="--labels",
            todo="check that they lie where the scene has data, and that their codes are those of the classes",
        )
    return Answers.joined(found)


def _answers(scores: Scores, sample: Sample, most_scores: int, halo_px: int) -> Answers | None:
    core, reference_HW = sample.tile.core, sample.reference_HW
    assert reference_HW is not None
    scores_KHW = scores(sample.x_BHW)
    known_HW = sample.judged_HW & (reference_HW < len(scores_KHW))
    row_P, col_P = known_HW.nonzero()
    most_px = max(1, most_scores // len(scores_KHW))
    if len(row_P) > most_px:
        drawn = np.random.default_rng((core.rows.start, core.cols.start)).choice(len(row_P), most_px, replace=False)
        row_P, col_P = row_P[np.sort(drawn)], col_P[np.sort(drawn)]
    if not len(row_P):
        return None
    place_P = ((core.rows.start + row_P) // PLACE_PX << 32) + (core.cols.start + col_P) // PLACE_PX
    return Answers(
        scores_KHW[:, halo_px + row_P, halo_px + col_P], reference_HW[row_P, col_P].astype(np.int64), place_P
    )


def fitted(answers: Answers) -> Mixing:
    """The mixture of scores that suits the labels best."""
    import torch

    labelled_S = np.flatnonzero(answers.counts)
    scores_PK = torch.from_numpy(answers.scores_KP).double().T.contiguous()
    own_PS = scores_PK[:, labelled_S]
    truth_PS = torch.from_numpy(answers.truth_P[:, None] == labelled_S).double()
    change_SK = torch.zeros(len(labelled_S), answers.num_classes, dtype=torch.float64, requires_grad=True)
    offsets_S = torch.zeros(len(labelled_S), dtype=torch.float64, requires_grad=True)
    num_places = len(np.unique(answers.place_P))
    search = torch.optim.LBFGS([change_SK, offsets_S], max_iter=MOST_ITERATIONS, line_search_fn="strong_wolfe")

    def loss() -> Any:
        search.zero_grad()
        logs_PS = (own_PS + scores_PK @ change_SK.T + offsets_S).log_softmax(1)
        entropy = -(logs_PS * truth_PS).sum() / len(truth_PS)
        chances_PS = logs_PS.exp()
        shared_S = (chances_PS * truth_PS).sum(0)
        iou_S = shared_S / (chances_PS.sum(0) + truth_PS.sum(0) - shared_S)
        prior = (change_SK**2).sum() / WEIGHT_SPREAD**2 + (offsets_S**2).sum() / OFFSET_SPREAD**2
        found = entropy + (1 - iou_S).mean() + prior / (2 * num_places)
        found.backward()
        return found

    with _one_thread(torch):
        search.step(loss)
    with torch.no_grad():
        new_PS = own_PS + scores_PK @ change_SK.T + offsets_S
        # Labels of some classes say nothing of how these stand against the others, so all of them together stay there.
        risen = (new_PS.logsumexp(1) - own_PS.logsumexp(1)).mean()
    weights_KK, offsets_K = np.eye(answers.num_classes), np.zeros(answers.num_classes)
    weights_KK[labelled_S] += change_SK.detach().numpy()
    offsets_K[labelled_S] = (offsets_S.detach() - risen).numpy()
    return Mixing(weights_KK, offsets_K)


@contextmanager
def _one_thread(torch: Any) -> Iterator[None]:
    """Sums come out alike whatever the machine, and most are too small to be shared."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@dataclass(frozen=True, slots=True)
class Gain:
    """What labels change where they were not asked."""

    comparison: QualityChange
    low_points: float
    """Of mean IoU: 95 % of the times that the same number of places is drawn from these, it lies between the two."""
    high_points: float


def crossed(answers: Answers) -> Gain:
    """Each half of the places is judged with what the other half told."""
    places, number_P = np.unique(answers.place_P, return_inverse=True)
    if len(places) < LEAST_PLACES or np.count_nonzero(answers.counts) < 2:
        raise BundleError(
            "so few labels tell nothing of the borders between classes, and nothing was written",
            where="--labels",
            expected=f"two classes or more, in {LEAST_PLACES} squares of {PLACE_PX} px or more",
            got=f"{np.count_nonzero(answers.counts)} with labels, in {len(places)}",
            todo="label more places; some hundreds of pixels do",
        )
    before_P, after_P = answers.scores_KP.argmax(0), np.empty_like(answers.truth_P)
    even_P = number_P % 2 == 0
    for told_P in (even_P, ~even_P):
        after_P[~told_P] = fitted(answers.part(told_P)).of(answers.scores_KP[:, ~told_P]).argmax(0)
    found = QualityChange(float((before_P == after_P).mean()), answers.iou(before_P), answers.iou(after_P))
    random, gains = np.random.default_rng(0), []
    for _ in range(RESAMPLES):
        # Places, not pixels: neighbours are right and wrong together.
        times_P = np.bincount(random.integers(0, len(places), len(places)), minlength=len(places))[number_P]
        before, after = (mean_iou(answers.iou(said_P, times_P)) for said_P in (before_P, after_P))
        gains.append(100 * (after - before))
    low, high = np.quantile(gains, (0.025, 0.975)).tolist()
    return Gain(found, low, high)


def check_gain(found: Gain) -> None:
    """Raises BundleError where labels are worth nothing beyond themselves, as far as they can tell."""
    if found.low_points <= 0:
        raise BundleError(
            "these labels gain nothing for sure where they were not asked, and nothing was written",
            expected="more mean IoU than without",
            got=f"{found.low_points:+.1f} to {found.high_points:+.1f} points",
            todo="label more places, or train on these labels (docs/training.md)",
        )
