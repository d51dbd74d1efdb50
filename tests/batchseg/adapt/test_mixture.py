"""A bundle brought to new ground: what a few labels tell, what they do not, and where it is put."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load, save

from batchseg.adapt import mixture as adjusting
from batchseg.adapt.mixture import PLACE_PX, LabelledScores, check_gain, collect_scores, cross_validate, fit_mixture
from batchseg.adapt.samples import Sample
from batchseg.errors import BundleError, RecipeError
from batchseg.model.architecture import BulkNetSpec, SegformerSpec, UNetSpec
from batchseg.model.bundle import Bundle, open_bundle, write_bundle
from batchseg.model.contract import Contract
from batchseg.model.mixing import Mixture, mix_weights, open_scores
from batchseg.model.segmenter import open_segmenter
from batchseg.score.confusion import mean_iou
from tests.batchseg.model.model_bundles import MADE, on_cpu, write_onnx, write_random
from tiling.grid import Grid, Tile, tiles_of
from tiling.span import Window

NUM_CLASSES = 4
MIXED_UP = Mixture(
    np.array([[1.0, 0.0, 0.0, 0.0], [0.6, 0.7, 0.0, -0.3], [0.0, 0.4, 1.2, 0.0], [0.5, 0.0, 0.0, 0.8]]),
    np.array([0.0, 2.0, -1.5, 0.5]),
)


def answers(count: int, *, seed: int = 0, mixing: Mixture | None = None, classes: int = NUM_CLASSES) -> LabelledScores:
    """Scores that are right for nine in ten pixels before they are mixed; each pixel is in a place of its own."""
    random = np.random.default_rng(seed)
    truth_P = random.integers(0, classes, count)
    scores_KP = random.normal(0.0, 1.0, (NUM_CLASSES, count)).astype(np.float32)
    scores_KP[truth_P, np.arange(count)] += 3.0
    return LabelledScores(scores_KP if mixing is None else mixing.apply(scores_KP), truth_P, np.arange(count))


def miou(found: LabelledScores, mixing: Mixture | None = None) -> float:
    scores_KP = found.scores_KP if mixing is None else mixing.apply(found.scores_KP)
    return mean_iou(found.compute_iou(scores_KP.argmax(0)))


def test_what_was_mixed_up_is_found_and_undone() -> None:
    right, wrong = miou(answers(8000, seed=1)), answers(8000, seed=1, mixing=MIXED_UP)
    assert miou(wrong) < right - 0.25
    assert miou(wrong, fit_mixture(answers(200, mixing=MIXED_UP))) > right - 0.05
    assert miou(wrong, fit_mixture(answers(2000, mixing=MIXED_UP))) > right - 0.01


def test_scores_that_are_right_stay_right() -> None:
    assert miou(answers(8000, seed=1), fit_mixture(answers(100))) > miou(answers(8000, seed=1)) - 0.02


def test_a_class_without_labels_keeps_its_score() -> None:
    told, scene = answers(1000, classes=3), answers(4000, seed=1)
    found = fit_mixture(told)
    np.testing.assert_array_equal(found.weights_KK[3], [0, 0, 0, 1])
    assert found.offsets_K[3] == 0.0
    assert (found.offsets_K[:3] != 0.0).all()
    before, after = (np.mean(scores_KP.argmax(0) == 3) for scores_KP in (scene.scores_KP, found.apply(scene.scores_KP)))
    assert before / 2 < after < 2 * before, "that nobody has labelled it does not say that it is not there"


def test_a_class_without_labels_is_not_judged() -> None:
    wrong = answers(400, mixing=MIXED_UP, classes=3)
    said_P = np.where(np.arange(400) < 40, 3, wrong.truth_P)
    assert wrong.compute_iou(said_P)[3] is None
    assert max(iou for iou in wrong.compute_iou(said_P)[:3] if iou is not None) < 1.0


def test_neighbours_weigh_as_one_place() -> None:
    """Twenty pixels drawn five hundred times in two squares say less than ten thousand pixels."""
    few, spread = answers(10_000, mixing=MIXED_UP), answers(10_000, mixing=MIXED_UP)
    close = LabelledScores(few.scores_KP, few.truth_P, few.place_P % 2)
    moved = [np.abs(fit_mixture(one).weights_KK - np.eye(NUM_CLASSES)).max() for one in (close, spread)]
    assert moved[0] < 0.5 * moved[1]


def test_half_of_the_places_is_judged_by_the_other() -> None:
    wrong = answers(2000, mixing=MIXED_UP)
    gain = cross_validate(wrong)
    found = gain.change
    assert found.before == wrong.compute_iou(wrong.scores_KP.argmax(0))
    assert found.loss_points < -20
    assert gain.low_points < -found.loss_points < gain.high_points < gain.low_points + 10
    check_gain(gain)
    assert 0.3 < found.agreement < 0.95


def test_labels_that_say_nothing_are_worth_nothing_beyond_themselves() -> None:
    """Enough numbers suit any labels; here they do, and others of the same kind are none the better for it."""
    random = np.random.default_rng(3)
    nonsense = LabelledScores(
        random.normal(0, 1, (30, 60)).astype(np.float32), random.integers(0, 30, 60), np.arange(60)
    )
    assert miou(nonsense, fit_mixture(nonsense)) > miou(nonsense) + 0.2
    with pytest.raises(BundleError, match=r"not better on held-out labels.*got [-+]\d+\.\d to [-+]\d+\.\d points"):
        check_gain(cross_validate(nonsense))


def test_a_gain_that_may_be_chance_is_refused() -> None:
    with pytest.raises(BundleError, match="not better on held-out labels"):
        check_gain(cross_validate(answers(12, seed=2)))


def test_what_may_be_chance_is_a_matter_of_places(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten places, of which some are mended and others spoilt, could as well have been ten others."""
    back = np.linalg.inv(MIXED_UP.weights_KK)
    monkeypatch.setattr(adjusting, "fit_mixture", lambda _: Mixture(back, -back @ MIXED_UP.offsets_K))
    parts = answers(1400, mixing=MIXED_UP), answers(600, seed=1)
    found = LabelledScores.concatenate(
        [LabelledScores(one.scores_KP, one.truth_P, one.place_P + 9999 * i) for i, one in enumerate(parts)]
    )
    ten_P = np.repeat(np.arange(10), 200)
    spread, close = cross_validate(found), cross_validate(LabelledScores(found.scores_KP, found.truth_P, ten_P))
    assert spread.change == close.change
    assert 0 < spread.low_points < spread.high_points
    assert close.high_points - close.low_points > 2 * (spread.high_points - spread.low_points)


@pytest.mark.parametrize(("places", "classes", "got"), [(9, 4, "4 classes, in 9"), (12, 1, "1 classes, in 12")])
def test_too_few_labels_are_refused(places: int, classes: int, got: str) -> None:
    found = answers(90, classes=classes)
    with pytest.raises(BundleError, match=f"too few labels.*got {got}"):
        cross_validate(LabelledScores(found.scores_KP, found.truth_P, found.place_P % places))


SHAPE_PX, CORE_PX, HALO_PX = (300, 200), 128, 16


def sample(tile: Tile, labels_HW: np.ndarray[Any, Any], valid_HW: np.ndarray[Any, Any]) -> Sample:
    """Its input has row and column of each pixel, so that scores tell where they are from."""
    want = tile.read_window(HALO_PX)
    rows, cols = np.mgrid[want.rows.start : want.rows.stop, want.cols.start : want.cols.stop]
    judged_HW, reference_HW = np.zeros(tile.core.shape, bool), np.full(tile.core.shape, 3, np.uint8)
    owned = tile.owned.within(tile.core)
    scene = slice(tile.owned.rows.start, tile.owned.rows.stop), slice(tile.owned.cols.start, tile.owned.cols.stop)
    judged_HW[owned], reference_HW[owned] = valid_HW[scene], labels_HW[scene]
    return Sample(tile, np.stack([rows, cols]), judged_HW, reference_HW)


def asked(labels_HW: np.ndarray[Any, Any], valid_HW: np.ndarray[Any, Any]) -> LabelledScores:
    tiles = tiles_of(Grid(SHAPE_PX, CORE_PX), Window.of(0, SHAPE_PX[0], 0, SHAPE_PX[1]))
    samples = [sample(tile, labels_HW, valid_HW) for tile in tiles]

    def scores(x_BHW: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        return np.stack([x_BHW[0], x_BHW[1], x_BHW[0] * 0]).astype(np.float32)

    return collect_scores(scores, samples, num_tiles=len(tiles), halo_px=HALO_PX)


def test_answers_are_those_of_labelled_and_valid_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    labels_HW = random.integers(0, 12, SHAPE_PX)
    labels_HW[labels_HW > 3] = 3  # no label
    valid_HW = random.random(SHAPE_PX) < 0.8
    found = asked(labels_HW, valid_HW)
    wanted = valid_HW & (labels_HW < 3)
    rows, cols = found.scores_KP[:2].astype(int)
    assert sorted(zip(rows, cols, strict=True)) == list(zip(*wanted.nonzero(), strict=True))
    np.testing.assert_array_equal(found.truth_P, labels_HW[rows, cols])
    assert len(np.unique(found.place_P)) == -(-SHAPE_PX[0] // PLACE_PX) * -(-SHAPE_PX[1] // PLACE_PX)
    monkeypatch.setattr(adjusting, "MAX_SCORES", 1800)
    fewer, again = asked(labels_HW, valid_HW), asked(labels_HW, valid_HW)
    assert len(fewer.truth_P) == 600, "as many of each of six tiles"
    np.testing.assert_array_equal(fewer.scores_KP, again.scores_KP)


def test_labels_where_nothing_is_seen_are_refused() -> None:
    with pytest.raises(RecipeError, match="no pixel has both data and the label of a class"):
        asked(np.zeros(SHAPE_PX, int), np.zeros(SHAPE_PX, bool))


NETWORKS: dict[str, dict[str, Any]] = {
    "bulknet": BulkNetSpec(width=8),
    "unet": UNetSpec(width=4),
    "segformer": SegformerSpec(size="b0"),
    "detail": SegformerSpec(size="b0", decoder=32, detail=16),
}


def random_bundle(kind: str, folder: Path) -> Bundle:
    if kind == "onnx":
        return write_onnx(folder, halo_px=32)
    numerics = on_cpu(precision="float32")
    bundle = write_random(folder, architecture=NETWORKS[kind], numerics=numerics, stride_px=32, halo_px=32)
    if kind != "detail":
        return bundle
    tensors = load(bundle.weights.read_bytes())
    tensors["detail.weight"].normal_(std=0.5)  # it begins with nothing to say; here it says much
    return written(bundle.contract, save(tensors), folder)


@pytest.mark.parametrize("kind", [*NETWORKS, "onnx"])
def test_a_mixture_in_the_weights_is_the_mixture(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BATCHSEG_CACHE", str(tmp_path / "cache"))
    bundle = random_bundle(kind, tmp_path / "before")
    x_BHW = np.random.default_rng(1).integers(0, 256, (3, 128, 128)).astype(np.uint8)
    wanted_KHW = open_scores(bundle, "cpu")(x_BHW)
    for number in range(2):  # what was adjusted may be adjusted again
        flat_KP = wanted_KHW.reshape(NUM_CLASSES, -1)
        wanted_KHW = MIXED_UP.apply(flat_KP).reshape(wanted_KHW.shape)
        bundle = written(bundle.contract, mix_weights(bundle, MIXED_UP), tmp_path / f"after{number}")
        found_KHW = open_scores(bundle, "cpu")(x_BHW)
        np.testing.assert_allclose(found_KHW, wanted_KHW, atol=2e-3 * np.abs(wanted_KHW).max())
    segmenter = open_segmenter(bundle, device="cpu", tile_px=128)
    index_NHW, _ = segmenter(np.repeat(x_BHW[None], segmenter.batch, 0))
    assert (index_NHW[0] == wanted_KHW.argmax(0)).mean() > 0.99


def test_an_onnx_network_of_a_fixed_batch_is_asked_as_it_wants(tmp_path: Path) -> None:
    import onnx

    bundle = write_onnx(tmp_path / "any")
    model = onnx.load_from_string(bundle.weights.read_bytes())
    for one in (*model.graph.input, *model.graph.output):
        one.type.tensor_type.shape.dim[0].dim_value = 3
    fixed = written(bundle.contract, model.SerializeToString(), tmp_path / "three")
    x_BHW = np.random.default_rng(1).integers(0, 256, (3, 64, 64)).astype(np.uint8)
    found = [open_scores(one, "cpu")(x_BHW) for one in (bundle, fixed)]
    np.testing.assert_allclose(found[0], found[1], atol=1e-5)


def test_scores_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    bundle = write_random(tmp_path)
    tensors = load(bundle.weights.read_bytes())
    tensors["out.weight"] = torch.full_like(tensors["out.weight"].float(), 3e38)  # finite, unlike the sums over it
    with pytest.raises(BundleError, match="scores must be finite"):
        open_scores(written(bundle.contract, save(tensors), tmp_path), "cpu")(np.zeros((3, 64, 64), np.uint8))


def test_a_gpu_that_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(BundleError, match=r"torch finds no GPU here.*--device cpu"):
        open_scores(write_random(tmp_path), "cuda")


def written(contract: Contract, weights: bytes, folder: Path) -> Bundle:
    write_bundle(folder, contract, weights, created_at=MADE)
    return open_bundle(str(folder))
