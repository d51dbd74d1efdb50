"""The crops of training: ground as at inference; pixels, labels and soft labels that belong together."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from batchseg.synth import CLASSES
from batchseg.training.crops import CropSampler
from batchseg.training.ground import read_ground
from batchseg.training.rasters import UNLABELLED
from tests.batchseg.training.small_trainings import GROUND, RECIPE, crops, square_ground


def test_ground_without_data_is_filled_with_the_mean() -> None:
    ground = read_ground(replace(GROUND, window_px=256), RECIPE)
    assert (ground.pixels_WBHW != 0).any(axis=1).all()
    void = (ground.pixels_WBHW == np.rint(ground.mean)[None, :, None, None]).all(axis=1)
    assert void.mean() > 0.005  # every scene has a corner without data
    assert (ground.labels_WHW[void] == UNLABELLED).mean() > 0.99
    known = np.moveaxis(ground.pixels_WBHW, 1, -1)[~void]
    np.testing.assert_allclose(ground.mean, known.mean(0), atol=1.0)


def test_crops_are_the_same_for_the_same_seed() -> None:
    ground = square_ground()
    for array, again in zip(crops(ground).draw(), crops(ground).draw(), strict=True):
        np.testing.assert_array_equal(array, again)
    assert not np.array_equal(crops(ground, seed=1).draw()[0], crops(ground).draw()[0])


def test_pixels_and_labels_are_turned_together() -> None:
    """Each class has its own brightness, and changes of light are smaller than the difference of two classes."""
    ground, sampler = square_ground(), crops(square_ground())
    for _ in range(20):
        x, y = sampler.draw()[:2]
        known = y != UNLABELLED
        assert known.any()
        agreement = [np.corrcoef(x[i, 0][known[i]], y[i][known[i]])[0, 1] for i in range(len(x))]
        assert min(agreement) > 0.95
    assert x.dtype == np.float32
    assert (x.min(), x.max()) >= (0.0, ground.pixels_WBHW.min())


@pytest.mark.parametrize("zoom", [(0.5, 0.5), (2.0, 2.0), (0.6, 1.6)])
def test_pixels_labels_and_soft_labels_are_zoomed_together(zoom: tuple[float, float]) -> None:
    """All three show the same place; blocks of 16 px become wider by the zoom."""
    ground = square_ground()
    soft = ground.pixels_WBHW[0, :1].reshape(1, 24, 4, 24, 4).mean((2, 4)).astype(np.float16)
    sampler = CropSampler(ground, 48, 8, 0.5, np.random.default_rng(0), soft=lambda _: soft, light=0.0, zoom=zoom)
    for batch in (sampler.draw() for _ in range(10)):
        assert batch.pixels_NBHW.shape[1:] == (3, 48, 48)
        known = batch.labels_NHW != UNLABELLED
        expected = 40 + 30.0 * batch.labels_NHW
        near = np.abs(batch.pixels_NBHW[:, 0] - expected)[known] < 12
        assert near.mean() > 0.8  # all but the borders of blocks
        small = batch.pixels_NBHW.mean(1).reshape(8, 12, 4, 12, 4).mean((2, 4))
        seen = batch.seen_Nhw
        assert np.corrcoef(small[seen], batch.soft_NKhw[:, 0][seen])[0, 1] > 0.9


def test_a_zoom_shows_more_or_less_of_the_ground() -> None:
    def changes(zoom: float) -> int:
        labels = (
            CropSampler(square_ground(), 48, 32, 0.0, np.random.default_rng(0), zoom=(zoom, zoom)).draw().labels_NHW
        )
        known = (labels[:, 1:] != UNLABELLED) & (labels[:, :-1] != UNLABELLED)
        return int(((labels[:, 1:] != labels[:, :-1]) & known).sum())

    assert changes(0.5) > 1.6 * changes(1.0) > 1.6**2 * changes(2.0)


def test_a_mixed_crop_is_two_places_side_by_side() -> None:
    ground = square_ground()
    soft = ground.pixels_WBHW[0, :1].reshape(1, 24, 4, 24, 4).mean((2, 4)).astype(np.float16)
    alone, mixed = (
        CropSampler(ground, 48, 8, 0.5, np.random.default_rng(3), soft=lambda _: soft, mix=mix).draw()
        for mix in (0.0, 1.0)
    )
    for i in range(8):
        parts = [
            (axis, at)
            for axis in (0, 1)
            for at in range(12, 37, 4)
            if all(
                np.array_equal(array[i], joined(one[i], one[(i + 1) % 8], axis, at * array.shape[-1] // 48))
                for array, one in zip(mixed, alone, strict=True)
            )
        ]
        assert len(parts) == 1


def joined(first: NDArray[Any], second: NDArray[Any], axis: int, at: int) -> NDArray[Any]:
    return np.concatenate([np.split(first, [at], axis - 2)[0], np.split(second, [at], axis - 2)[1]], axis - 2)


def test_light_changes_with_its_setting() -> None:
    def spread(light: float) -> float:
        sampler = CropSampler(square_ground(), 48, 64, 0.0, np.random.default_rng(0), light=light)
        x, y = sampler.draw()[:2]
        return float(np.std([x[i, 0][y[i] == 2].mean() for i in range(len(x)) if (y[i] == 2).any()]))

    assert spread(0.0) < 1.0
    assert 5.0 < spread(1.0) < 0.6 * spread(3.0)


def runs_of_equal_lines(x_BHW: NDArray[Any]) -> dict[str, int]:
    """How many lines at each side repeat their neighbour exactly, as beyond the edge of a scene."""
    sides = {
        "top": x_BHW,
        "bottom": x_BHW[:, ::-1],
        "left": x_BHW.swapaxes(1, 2),
        "right": x_BHW[:, :, ::-1].swapaxes(1, 2),
    }
    return {name: int((a[:, 1:] == a[:, :-1]).all((0, 2)).argmin()) for name, a in sides.items()}


def test_edges_are_repeated_on_every_side_sometimes() -> None:
    sampler = crops(read_ground(GROUND, RECIPE))
    seen = dict.fromkeys(("top", "bottom", "left", "right"), 0)
    filled = 0
    for _ in range(40):
        for x, y in zip(*sampler.draw()[:2], strict=True):
            repeated = runs_of_equal_lines(x)
            if 0 < max(repeated.values()) < sampler.crop_px - 1:
                side = max(repeated, key=lambda name: repeated[name])
                seen[side] += 1
                lines = np.rot90(y, {"top": 0, "bottom": 2, "left": 3, "right": 1}[side])
                assert (lines[: repeated[side]] == UNLABELLED).all()
            mean = np.rint(sampler.ground.mean).astype(np.float32)[:, None, None]
            filled += bool((x == mean).all(0).mean() > 0.02)
    assert min(seen.values()) >= 2
    assert filled >= 2


@pytest.mark.parametrize("balanced_share", [0.0, 1.0])
def test_crops_lie_inside_their_raster(balanced_share: float) -> None:
    """A raster fills a corner of one window and the whole of another; each is drawn in proportion to its area."""
    one = square_ground()
    pixels_WBHW, labels_WHW = one.pixels_WBHW.repeat(2, 0), one.labels_WHW.repeat(2, 0)
    inside_W2 = np.array([[32, 20], [96, 96]])
    pixels_WBHW[0, :, 32:], pixels_WBHW[0, :, :, 20:] = 255, 255  # brighter than any ground
    labels_WHW[0, 32:], labels_WHW[0, :, 20:] = UNLABELLED, UNLABELLED
    places = {c.id: np.argwhere(labels_WHW == c.id) for c in CLASSES}
    ground = replace(one, pixels_WBHW=pixels_WBHW, labels_WHW=labels_WHW, places=places, inside_W2=inside_W2)
    sampler = CropSampler(ground, 16, 8, balanced_share, np.random.default_rng(0))
    drawn = [sampler._choose_place(16) for _ in range(400)]
    assert all((np.add(at, 16) <= inside_W2[window]).all() for window, *at in drawn)
    assert 10 < sum(window == 0 for window, *_ in drawn) < 60  # 640 of 9856 pixels
    assert {sampler._choose_place(24)[2] for _ in range(400)} > {0}, (
        "a square that is wider than the ground begins with it"
    )


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_removed_pixels_are_filled_as_in_a_run(dtype: type) -> None:
    one = square_ground()
    fill = np.array([7, 8, 9]) if dtype is np.uint8 else np.array([0.25, 0.5, 0.75])
    sampler = crops(replace(one, pixels_WBHW=one.pixels_WBHW.astype(dtype), fill=fill))
    x, hidden = np.zeros((3, 48, 48), np.float32), np.zeros((48, 48), bool)
    sampler._remove_pixels(x, hidden)
    np.testing.assert_array_equal(x[:, hidden], np.repeat(fill[:, None], hidden.sum(), 1))
    assert hidden.any()


def test_a_class_that_is_rare_is_drawn_often() -> None:
    ground = square_ground()
    ground.labels_WHW[:] = 2
    ground.labels_WHW[0, 40, 70] = 4
    places = {c.id: np.argwhere(ground.labels_WHW == c.id) for c in CLASSES}
    sampler = crops(replace(ground, places=places), size=16)
    held = [(y == 4).any() for _ in range(30) for y in sampler.draw()[1]]
    # Half of the crops hold a pixel of a class drawn evenly out of the two that occur.
    assert 0.12 < np.mean(held) < 0.45


@pytest.mark.parametrize("soft", [False, True])
def test_a_pair_shows_the_same_ground_in_the_same_light(soft: bool) -> None:
    ground = square_ground(160)
    answers = np.random.default_rng(0).normal(size=(2, 40, 40)).astype(np.float16)
    sampler = CropSampler(
        ground, 64, 8, 0.5, np.random.default_rng(0), soft=(lambda _: answers) if soft else None, shift_px=32
    )
    for _ in range(8):
        x, y, answer, seen = sampler.draw()
        assert len(x) == len(y) == len(answer) == len(seen) == 8
        for array, shift in ((x, 32), (y, 32), (answer, 8), (seen, 8)):
            np.testing.assert_array_equal(array[0::2][..., shift:], array[1::2][..., :-shift])
