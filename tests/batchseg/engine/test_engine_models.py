"""What the engine gives to models, and what it makes of their answers: batches, halos, class ids."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from batchseg.engine.fade import Fade
from batchseg.engine.route import NEVER, Doubt
from batchseg.engine.segment import Model, Segmenter, segment_chunk
from batchseg.errors import BrokenModelError
from batchseg.tiers import BULK, HEAVY_BY_POLYGONS, Tier
from batchseg.workers.failure import make_failure
from tests.batchseg.engine.engine_oracle import (
    IDS,
    LAYOUT,
    NODATA,
    RULES,
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
        return np.zeros(shape, np.uint8), np.full(shape, 254, np.uint8)


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


@dataclass(slots=True)
class BrokenSegmenter(ConstantSegmenter):
    """Gives no probability where the model input has a value."""

    broken: int = 0

    def __call__(self, x_NBHW: np.ndarray, /) -> tuple[np.ndarray, np.ndarray]:
        index_NHW, confidence_NHW = ConstantSegmenter.__call__(self, x_NBHW)
        confidence_NHW[x_NBHW[:, 0] == self.broken] = 0
        return index_NHW, confidence_NHW


FADE = Fade(2, ((True,) * 4,) * 30)


@pytest.mark.parametrize(
    ("tier", "code", "changes"),
    [
        ("bulk", BULK, {}),
        ("heavy", HEAVY_BY_POLYGONS, {}),
        ("heavy", HEAVY_BY_POLYGONS, {"fade": FADE}),
        ("bulk", HEAVY_BY_POLYGONS, {"fade": FADE}),
        ("bulk", HEAVY_BY_POLYGONS, {"audited": (True,) * 30}),
        ("heavy", BULK, {"audited": (True,) * 30}),
        ("bulk", BULK, {"doubt": Doubt(statistic="mean", sure_confidence=0, threshold=NEVER)}),
    ],
)
@pytest.mark.parametrize("pads", [True, False])
def test_a_pixel_without_a_probability_fails_the_chunk(
    tier: Tier,
    code: int,
    changes: dict[str, Any],
    pads: bool,
) -> None:
    """Whichever model runs on the pixel and whatever for: bulk, heavy, under a fade, or for an audit alone."""
    scene = scene_of(LAYOUT, 3, invalid_share=0.0)
    scene.inside_HW[:] = True
    scene.source.raw_BHW[:] = 100
    scene.source.raw_BHW[0, 13, 17] = 7  # one pixel of all
    broken = 7 if tier == "bulk" else np.float32(0)  # the rule of the heavy model clips 7 to 0
    models: dict[Tier, Model] = {one: replace(model_of(ConstantSegmenter(), 3), pads=pads) for one in RULES}
    work = replace(whole_scene(scene, code_of=lambda *_: code), **changes)
    assert segment_chunk(work, models, nodata=NODATA, timed=untimed).labels_HW.max() < NODATA
    models[tier] = replace(models[tier], segmenter=BrokenSegmenter(broken=broken))
    with pytest.raises(BrokenModelError, match=rf"tile 2, 3: the {tier} model .* got 0 for 1 of 25 pixels") as caught:
        segment_chunk(work, models, nodata=NODATA, timed=untimed)
    assert make_failure(caught.value).retryable is False


@pytest.mark.parametrize("where", ["invalid", "outside", "padding", "halo"])
def test_a_pixel_that_is_not_labelled_needs_no_probability(where: str) -> None:
    scene = scene_of(LAYOUT, 3, invalid_share=0.0)
    scene.inside_HW[:] = True
    scene.source.raw_BHW[:] = 100
    segmenter = BrokenSegmenter(broken=7, batch=7)  # 30 tiles: the last batch is padded with zeros
    if where == "padding":
        segmenter.broken = 0
    else:
        scene.source.raw_BHW[0, 13, 17] = 7
        (scene.source.valid_HW if where == "invalid" else scene.inside_HW)[13, 17] = False
        if where == "invalid":
            segmenter.broken = int(RULES["bulk"].fill[0])
        if where == "halo":
            scene.inside_HW[10:15, 15:20] = False  # its whole tile; the tiles around read it
    made = segment_chunk(whole_scene(scene), {"bulk": model_of(segmenter, 3)}, nodata=NODATA, timed=untimed)
    assert (made.confidence_HW > 0).all()
