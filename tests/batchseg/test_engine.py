"""Invariants I2 and I8 of the engine, against a loop over the whole padded image."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from batchseg.engine.inputs import InputRule
from batchseg.engine.segment import ChunkWork, Model, Prediction, Segmenter, segment_chunk
from batchseg.engine.tiers import BULK, HEAVY_ALONE, HEAVY_BY_POLYGONS, NODATA_CODE, TIER_NAMES, Tier, tier_of
from tests.fakes import ConstantSegmenter, ContextSegmenter, MemorySource, ReachSegmenter, untimed
from tests.strategies import Layout, layouts, quick, thorough
from tiling.grid import tiles_of
from tiling.span import Window

NODATA = 255
RULES: dict[Tier, InputRule] = {
    "bulk": InputRule("uint8", None, (0.0, 255.0), (17.0, 90.0)),
    "heavy": InputRule("float32", (10.0, 210.0), (0.0, 2.0), (0.5, 1.25)),
}
IDS = np.array([3, 1, 4, 15, 9], np.uint8)
"""No class id is its own index."""

CodeOf = Callable[[int, int], int]


def mixed(row: int, col: int) -> int:
    """A route that depends on the tile alone."""
    return HEAVY_BY_POLYGONS if (row * 3 + col * 5) % 4 == 1 else BULK


@dataclass(frozen=True, slots=True)
class Scene:
    source: MemorySource
    inside_HW: np.ndarray
    layout: Layout

    def rules(self) -> dict[Tier, InputRule]:
        num_bands = len(self.source.raw_BHW)
        return {tier: replace(rule, fill=rule.fill[:num_bands]) for tier, rule in RULES.items()}


def scene_of(layout: Layout, seed: int, *, invalid_share: float = 0.2, num_bands: int = 2) -> Scene:
    random = np.random.default_rng(seed)
    raw_BHW = random.integers(0, 256, (num_bands, *layout.shape_px)).astype(np.uint8)
    valid_HW = random.random(layout.shape_px) >= invalid_share
    inside_HW = random.random(layout.shape_px) >= invalid_share
    if layout.shape_px[0] > layout.core_px:
        inside_HW[: layout.core_px] = False  # whole tiles without a pixel to label
    return Scene(MemorySource(raw_BHW, valid_HW), inside_HW, layout)


def model_of(segmenter: Segmenter, halo_px: int, class_ids: np.ndarray = IDS) -> Model:
    return Model(segmenter, halo_px, class_ids)


def work_of(scene: Scene, chunk: Window, halo_px: int, code_of: CodeOf) -> ChunkWork:
    tiles = tiles_of(scene.layout.lattice, chunk)
    pixels = scene.source.read(chunk.grow(halo_px).clip(scene.layout.shape_px))
    rows, cols = chunk.within(Window.of(0, scene.layout.shape_px[0], 0, scene.layout.shape_px[1]))
    return ChunkWork(
        window=chunk,
        tiles=tiles,
        codes=[code_of(tile.row, tile.col) for tile in tiles],
        pixels=pixels,
        wanted_HW=pixels.valid_HW[chunk.within(pixels.window)] & scene.inside_HW[rows, cols],
        scene_shape_px=scene.layout.shape_px,
        rules=scene.rules(),
    )


def by_chunks(scene: Scene, models: dict[Tier, Model], code_of: CodeOf) -> dict[str, np.ndarray]:
    """All chunks of a scene put side by side."""
    halo_px = max(model.halo_px for model in models.values())
    layers: dict[str, np.ndarray] = {}
    for key in scene.layout.chunks:
        chunk = scene.layout.chunks.window(*key)
        made = segment_chunk(work_of(scene, chunk, halo_px, code_of), models, nodata=NODATA, timed=untimed)
        for name, part_HW in made.layers().items():
            whole_HW = layers.setdefault(name, np.full(scene.layout.shape_px, 77, part_HW.dtype))
            whole_HW[chunk.rows.start : chunk.rows.stop, chunk.cols.start : chunk.cols.stop] = part_HW
    return layers


def scaled(source: MemorySource, rule: InputRule) -> np.ndarray:
    """The whole scene as model input."""
    x_BHW = source.raw_BHW.copy()
    if rule.dtype == "float32":
        x_BHW = np.clip((x_BHW.astype(np.float32) - np.float32(10)) * np.float32(0.01), 0, 2)
    for band, fill in zip(x_BHW, rule.fill, strict=True):
        band[~source.valid_HW] = fill
    return x_BHW


def oracle(scene: Scene, models: Mapping[Tier, Model], code_of: CodeOf) -> dict[str, np.ndarray]:
    """One tile a time from the whole image, filled and padded at once by numpy; no code of `tiling` in it."""
    layout, core = scene.layout, scene.layout.core_px
    ids = next(iter(models.values())).class_ids
    layers = {
        "labels": np.full(layout.shape_px, NODATA, ids.dtype),
        "confidence": np.full(layout.shape_px, 255, np.uint8),
        "tier": np.full(layout.shape_px, NODATA_CODE, np.uint8),
    }
    for row in range(-(-layout.shape_px[0] // core)):
        for col in range(-(-layout.shape_px[1] // core)):
            tier = tier_of(code_of(row, col))
            model = models[tier]
            halo = model.halo_px
            input_BHW = scaled(scene.source, scene.rules()[tier])
            padded_BHW = np.pad(input_BHW, [(0, 0), (halo, halo + core), (halo, halo + core)], mode="edge")
            side = core + 2 * halo
            x_BHW = padded_BHW[:, row * core : row * core + side, col * core : col * core + side]
            batch = np.zeros((model.segmenter.batch, *x_BHW.shape), x_BHW.dtype)
            batch[0] = x_BHW
            labels, confidence = model.segmenter(batch)
            end_row, end_col = min((row + 1) * core, layout.shape_px[0]), min((col + 1) * core, layout.shape_px[1])
            for y in range(row * core, end_row):
                for x in range(col * core, end_col):
                    if scene.source.valid_HW[y, x] and scene.inside_HW[y, x]:
                        at = (0, y - row * core + halo, x - col * core + halo)
                        layers["labels"][y, x] = ids[labels[at]]
                        layers["confidence"][y, x] = confidence[at]
                        layers["tier"][y, x] = code_of(row, col)
    return layers


def assert_same(got: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert list(got) == ["labels", "confidence", "tier"]
    for name, layer in expected.items():
        assert got[name].dtype == layer.dtype
        np.testing.assert_array_equal(got[name], layer, err_msg=name)


@thorough
@given(layouts(max_core_px=6), st.integers(0, 10**6), st.integers(0, 12), st.integers(1, 4))
def test_i2_output_does_not_depend_on_chunking(layout: Layout, seed: int, heavy_halo_px: int, batch: int) -> None:
    scene = scene_of(layout, seed)
    models: dict[Tier, Model] = {
        "bulk": model_of(ContextSegmenter(batch=batch), layout.halo_px),
        "heavy": model_of(ContextSegmenter(batch=2), heavy_halo_px),
    }
    assert_same(by_chunks(scene, models, mixed), oracle(scene, models, mixed))


LAYOUT = Layout(shape_px=(21, 26), core_px=5, chunk_px=15, halo_px=3)


def whole_scene(scene: Scene, halo_px: int = 3, code_of: CodeOf = lambda *_: BULK) -> ChunkWork:
    shape_px = scene.layout.shape_px
    return work_of(scene, Window.of(0, shape_px[0], 0, shape_px[1]), halo_px, code_of)


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


def test_i2_output_does_not_depend_on_batch_neighbours() -> None:
    """Each tile alone, in any order, and among any others: always the same bytes."""
    scene = replace(scene_of(LAYOUT, 11, invalid_share=0.0), inside_HW=np.ones(LAYOUT.shape_px, bool))
    models: dict[Tier, Model] = {"bulk": model_of(ContextSegmenter(batch=4), 3)}
    work = whole_scene(scene)
    together = segment_chunk(work, models, nodata=NODATA, timed=untimed)
    random = np.random.default_rng(3)
    for num_tiles in (1, 2, 3, 4, 5, 9, len(work.tiles)):
        order = random.permutation(len(work.tiles))[:num_tiles]
        some = replace(work, tiles=[work.tiles[i] for i in order], codes=[BULK] * num_tiles)
        got = segment_chunk(some, models, nodata=NODATA, timed=untimed)
        for tile in some.tiles:
            at = tile.owned.within(work.window)
            np.testing.assert_array_equal(got.labels_HW[at], together.labels_HW[at])
            np.testing.assert_array_equal(got.confidence_HW[at], together.confidence_HW[at])


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


@quick
@given(layouts(max_core_px=6), st.integers(0, 10**6))
def test_i8_nodata_is_nodata_in_every_layer_and_nowhere_else(layout: Layout, seed: int) -> None:
    scene = scene_of(layout, seed, invalid_share=0.5)
    layers = by_chunks(scene, {"bulk": model_of(ConstantSegmenter(), layout.halo_px)}, lambda *_: BULK)
    wanted_HW = scene.source.valid_HW & scene.inside_HW
    np.testing.assert_array_equal(layers["labels"] == NODATA, ~wanted_HW)
    np.testing.assert_array_equal(layers["confidence"] == 255, ~wanted_HW)
    np.testing.assert_array_equal(layers["tier"] == NODATA_CODE, ~wanted_HW)


def test_what_is_under_invalid_pixels_does_not_matter() -> None:
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
    assert all((layer == 255).all() for layer in made.layers().values())


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


def test_every_code_has_a_name_and_none_is_nodata() -> None:
    assert NODATA_CODE not in TIER_NAMES
    assert {code: tier_of(code) for code in TIER_NAMES} == {
        code: "bulk" if name == "bulk" else "heavy" for code, name in TIER_NAMES.items()
    }
