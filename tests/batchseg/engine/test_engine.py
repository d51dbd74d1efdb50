"""Invariants I2 and I8 of the engine, against a loop over the whole padded image."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from batchseg.engine.chunk import Prediction
from batchseg.engine.segment import Model, segment_chunk
from batchseg.layers import take_layers
from batchseg.layers.tier import TIER_CLASSES
from batchseg.tiers import BULK, HEAVY_ALONE, HEAVY_BY_POLYGONS, NODATA_CODE, Tier, find_tier
from tests.batchseg.engine.engine_oracle import (
    ALL_LAYERS,
    LAYOUT,
    NODATA,
    assert_same,
    by_chunks,
    mixed,
    model_of,
    oracle,
    scene_of,
    whole_scene,
)
from tests.fakes import ConstantSegmenter, ContextSegmenter, untimed
from tests.strategies import Layout, layouts, quick, thorough


@thorough
@given(layouts(max_core_px=6), st.integers(0, 10**6), st.integers(0, 12), st.integers(1, 4))
def test_i2_output_does_not_depend_on_chunking(layout: Layout, seed: int, heavy_halo_px: int, batch: int) -> None:
    scene = scene_of(layout, seed)
    models: dict[Tier, Model] = {
        "bulk": model_of(ContextSegmenter(batch=batch), layout.halo_px),
        "heavy": model_of(ContextSegmenter(batch=2), heavy_halo_px),
    }
    assert_same(by_chunks(scene, models, mixed), oracle(scene, models, mixed))


def test_i2_output_does_not_depend_on_batch_neighbours() -> None:
    """Each tile alone, in any order, and among any others: always the same bytes."""
    scene = replace(scene_of(LAYOUT, 11, invalid_share=0.0), inside_HW=np.ones(LAYOUT.shape_px, bool))
    models: dict[Tier, Model] = {"bulk": model_of(ContextSegmenter(batch=4), 3)}
    work = whole_scene(scene)
    together = segment_chunk(work, models, nodata=NODATA, timed=untimed)
    random = np.random.default_rng(3)
    for num_tiles in (1, 2, 3, 4, 5, 9, len(work.tiles)):
        order = random.permutation(len(work.tiles))[:num_tiles]
        some = replace(work, tiles=[work.tiles[i] for i in order], tier_codes=[BULK] * num_tiles)
        got = segment_chunk(some, models, nodata=NODATA, timed=untimed)
        for tile in some.tiles:
            at = tile.owned.within(work.window)
            np.testing.assert_array_equal(got.labels_HW[at], together.labels_HW[at])
            np.testing.assert_array_equal(got.confidence_HW[at], together.confidence_HW[at])


@quick
@given(layouts(max_core_px=6), st.integers(0, 10**6))
def test_i8_nodata_is_nodata_in_every_layer_and_nowhere_else(layout: Layout, seed: int) -> None:
    scene = scene_of(layout, seed, invalid_share=0.5)
    layers = by_chunks(scene, {"bulk": model_of(ConstantSegmenter(), layout.halo_px)}, lambda *_: BULK)
    wanted_HW = scene.source.valid_HW & scene.inside_HW
    np.testing.assert_array_equal(layers["labels"] == NODATA, ~wanted_HW)
    np.testing.assert_array_equal(layers["confidence"] == 255, ~wanted_HW)
    np.testing.assert_array_equal(layers["tier"] == NODATA_CODE, ~wanted_HW)


def test_values_of_invalid_pixels_do_not_matter() -> None:
    scene = scene_of(LAYOUT, 4)
    models: dict[Tier, Model] = {"bulk": model_of(ContextSegmenter(), 3)}
    before = by_chunks(scene, models, lambda *_: BULK)
    scene.source.raw_BHW[:, ~scene.source.valid_HW] = 201
    assert_same(by_chunks(scene, models, lambda *_: BULK), before)


def test_tiles_without_a_wanted_pixel_reach_no_model() -> None:
    scene = scene_of(LAYOUT, 5, invalid_share=0.0)
    scene.inside_HW[:] = False
    scene.inside_HW[7, 7] = True
    bulk, heavy = ContextSegmenter(batch=2), ContextSegmenter(batch=2)
    models: dict[Tier, Model] = {"bulk": model_of(bulk, 3), "heavy": model_of(heavy, 3)}
    made = segment_chunk(whole_scene(scene), models, nodata=NODATA, timed=untimed)
    assert (len(bulk.shapes), len(heavy.shapes)) == (1, 0)
    assert made.num_tiles == 5 * 6
    assert made.num_tiles_by_tier == {"bulk": 1, "heavy": 0}
    assert int((made.labels_HW != NODATA).sum()) == 1


def test_a_chunk_without_a_wanted_pixel_is_nodata_and_calls_no_model() -> None:
    scene = scene_of(LAYOUT, 5)
    scene.inside_HW[:] = False
    bulk = ContextSegmenter()
    made = segment_chunk(whole_scene(scene), {"bulk": model_of(bulk, 3)}, nodata=NODATA, timed=untimed)
    assert bulk.shapes == []
    assert made.num_tiles_by_tier == {"bulk": 0, "heavy": 0}
    assert all((layer == 255).all() for layer in take_layers(ALL_LAYERS, made).values())


def test_each_tile_goes_to_the_tier_of_its_code() -> None:
    scene = replace(scene_of(LAYOUT, 6, invalid_share=0.0), inside_HW=np.ones(LAYOUT.shape_px, bool))
    ids = np.arange(10, 20, dtype=np.uint8)
    models: dict[Tier, Model] = {
        "bulk": model_of(ConstantSegmenter(label=1, confidence=101), 3, ids),
        "heavy": model_of(ConstantSegmenter(label=2, confidence=202), 1, ids),
    }
    timed: list[Tier] = []

    def timer(tier: Tier, *, is_audit: bool = False) -> AbstractContextManager[None]:
        timed.append(tier)
        return nullcontext()

    made: Prediction = segment_chunk(whole_scene(scene, 3, mixed), models, nodata=NODATA, timed=timer)
    for key in LAYOUT.lattice:
        at = LAYOUT.lattice.window(*key).within(made.window)
        heavy = mixed(*key) == HEAVY_BY_POLYGONS
        assert (made.tier_HW[at] == mixed(*key)).all()
        assert (made.labels_HW[at] == (12 if heavy else 11)).all()
        assert (made.confidence_HW[at] == (202 if heavy else 101)).all()
    num_heavy = sum(mixed(*key) == HEAVY_BY_POLYGONS for key in LAYOUT.lattice)
    assert made.num_tiles_by_tier == {"bulk": 30 - num_heavy, "heavy": num_heavy}
    assert timed == ["bulk", "heavy"]


def test_a_heavy_model_alone_takes_every_tile() -> None:
    scene = scene_of(LAYOUT, 7)
    layers = by_chunks(scene, {"heavy": model_of(ContextSegmenter(), 3)}, lambda *_: HEAVY_ALONE)
    assert_same(layers, oracle(scene, {"heavy": model_of(ContextSegmenter(), 3)}, lambda *_: HEAVY_ALONE))
    assert set(np.unique(layers["tier"])) == {HEAVY_ALONE, NODATA_CODE}


def test_every_code_has_a_name_and_none_is_nodata() -> None:
    assert NODATA_CODE not in {info.id for info in TIER_CLASSES}
    assert {info.id: find_tier(info.id) for info in TIER_CLASSES} == {
        info.id: "bulk" if info.name == "bulk" else "heavy" for info in TIER_CLASSES
    }
