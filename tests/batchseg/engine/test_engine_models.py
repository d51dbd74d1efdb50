"""What models are given by the engine, and what it makes of their answers: batches, halos, class ids."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from batchseg.engine.segment import Model, Segmenter, segment_chunk
from batchseg.tiers import BULK, Tier
from tests.batchseg.engine.engine_oracle import (
    IDS,
    LAYOUT,
    NODATA,
    assert_same,
    by_chunks,
    model_of,
    scene_of,
    whole_scene,
)
from tests.fakes import ConstantSegmenter, ContextSegmenter, ReachSegmenter, untimed
from tests.strategies import Layout, layouts, quick


def test_a_model_that_does_not_pad_is_given_the_tiles_that_there_are() -> None:
    class PartialSegmenter(ContextSegmenter):
        def __call__(self, x_NBHW: NDArray[Any], /) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
            seen.append(len(x_NBHW))
            padded = np.zeros((self.batch, *x_NBHW.shape[1:]), x_NBHW.dtype)
            padded[: len(x_NBHW)] = x_NBHW
            labels_NHW, confidence_NHW = super().__call__(padded)
            return labels_NHW[: len(x_NBHW)], confidence_NHW[: len(x_NBHW)]

    seen: list[int] = []
    scene = replace(scene_of(LAYOUT, 11, invalid_share=0.0), inside_HW=np.ones(LAYOUT.shape_px, bool))
    work, padded = whole_scene(scene), model_of(ContextSegmenter(batch=7), 3)
    alone = replace(model_of(PartialSegmenter(batch=7), 3), pads=False)
    wanted, got = (segment_chunk(work, {"bulk": m}, nodata=NODATA, timed=untimed) for m in (padded, alone))
    np.testing.assert_array_equal(got.labels_HW, wanted.labels_HW)
    assert seen == [7, 7, 7, 7, 2]
    assert (padded.forward_tiles, alone.forward_tiles) == (7, 1)


@dataclass(slots=True)
class Batches:
    """Keeps what it was given; every batch has to have one shape."""

    batch: int
    seen: list[np.ndarray]

    def __call__(self, x_NBHW: np.ndarray, /) -> tuple[np.ndarray, np.ndarray]:
        self.seen.append(x_NBHW.copy())
        shape = (x_NBHW.shape[0], *x_NBHW.shape[2:])
        return np.zeros(shape, np.uint8), np.zeros(shape, np.uint8)


def test_every_batch_has_the_same_shape_and_the_last_is_padded_with_zeros() -> None:
    layout = Layout(shape_px=(10, 35), core_px=5, chunk_px=35, halo_px=2)
    scene = replace(scene_of(layout, 1, invalid_share=0.0), inside_HW=np.ones(layout.shape_px, bool))
    scene.source.raw_BHW[:] |= 1  # so that zeros are padding
    segmenter = Batches(4, [])
    segment_chunk(whole_scene(scene, 2), {"bulk": model_of(segmenter, 2)}, nodata=NODATA, timed=untimed)
    assert [x.shape for x in segmenter.seen] == [(4, 2, 9, 9)] * 4
    assert [int(x.any((1, 2, 3)).sum()) for x in segmenter.seen] == [4, 4, 4, 2]
    assert all(x.dtype == np.uint8 for x in segmenter.seen)


def test_class_ids_beyond_a_byte_are_kept() -> None:
    scene = scene_of(LAYOUT, 8)
    ids = np.array([300, 2, 65534, 256, 1000], np.uint16)
    models: dict[Tier, Model] = {"bulk": model_of(ContextSegmenter(), 3, ids)}
    made = segment_chunk(whole_scene(scene), models, nodata=65535, timed=untimed)
    assert made.labels_HW.dtype == np.uint16
    assert set(np.unique(made.labels_HW)) == {*ids.tolist(), 65535}


@quick
@given(layouts(), st.integers(0, 10**6))
def test_an_identity_gives_its_input_back(layout: Layout, seed: int) -> None:
    scene = scene_of(layout, seed, num_bands=1)
    ids = np.arange(256, dtype=np.uint8)
    layers = by_chunks(scene, {"bulk": model_of(ReachSegmenter(0), layout.halo_px, ids)}, lambda *_: BULK)
    wanted_HW = scene.source.valid_HW & scene.inside_HW
    expected_HW = np.where(wanted_HW, scene.source.raw_BHW[0] % 255, NODATA)
    np.testing.assert_array_equal(layers["labels"], expected_HW)


class CoreOnly:
    """A segmenter that leaves out the halo."""

    def __init__(self, whole: Segmenter, halo_px: int) -> None:
        self.whole, self.halo_px, self.batch = whole, halo_px, whole.batch

    def __call__(self, x_NBHW: np.ndarray, /) -> tuple[np.ndarray, np.ndarray]:
        inside = slice(self.halo_px, x_NBHW.shape[-1] - self.halo_px)
        labels, confidence = self.whole(x_NBHW)
        return labels[:, inside, inside], confidence[:, inside, inside]


@quick
@given(layouts(), st.integers(0, 10**6))
def test_a_model_may_leave_out_the_halo(layout: Layout, seed: int) -> None:
    scene, whole = scene_of(layout, seed, num_bands=1), ReachSegmenter(layout.halo_px)
    ids = np.arange(256, dtype=np.uint8)
    maps = [
        by_chunks(scene, {"bulk": model_of(segmenter, layout.halo_px, ids)}, lambda *_: BULK)
        for segmenter in (whole, CoreOnly(whole, layout.halo_px))
    ]
    assert_same(*maps)


@pytest.mark.parametrize(("halo_px", "exact"), [(4, True), (9, True), (3, False), (0, False)])
def test_a_halo_as_wide_as_the_model_sees_hides_the_tiles(halo_px: int, exact: bool) -> None:
    scene = scene_of(LAYOUT, 9, invalid_share=0.0, num_bands=1)
    segmenter = ReachSegmenter(4)
    model = model_of(segmenter, halo_px, np.arange(256, dtype=np.uint8))
    layers = by_chunks(replace(scene, inside_HW=np.ones(LAYOUT.shape_px, bool)), {"bulk": model}, lambda *_: BULK)
    assert np.array_equal(layers["labels"], segmenter.answer(scene.source.raw_BHW[0])) == exact


@quick
@given(layouts(), st.integers(0, 10**6))
def test_a_constant_model_gives_a_constant_map_up_to_the_border(layout: Layout, seed: int) -> None:
    scene = scene_of(layout, seed, invalid_share=0.0)
    scene.inside_HW[:] = True
    layers = by_chunks(scene, {"bulk": model_of(ConstantSegmenter(), layout.halo_px)}, lambda *_: BULK)
    assert {name: np.unique(layer).tolist() for name, layer in layers.items()} == {
        "labels": [int(IDS[1])],
        "confidence": [200],
        "tier": [BULK],
    }
