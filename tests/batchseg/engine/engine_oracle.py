"""Scenes for the engine, and an oracle for its output: a loop over the whole padded image."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from batchseg.engine.chunk import ChunkWork
from batchseg.engine.inputs import InputRule
from batchseg.engine.segment import Model, Segmenter, segment_chunk
from batchseg.layers import make_layers, take_layers
from batchseg.tiers import BULK, HEAVY_BY_POLYGONS, NODATA_CODE, Tier, find_tier
from tests.fakes import MemorySource, untimed
from tests.strategies import Layout
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


ALL_LAYERS = make_layers(("labels", "confidence", "tier"), ())


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
        tier_codes=[code_of(tile.row, tile.col) for tile in tiles],
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
        for name, part_HW in take_layers(ALL_LAYERS, made).items():
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
    """Predict tile by tile from the whole image, filled and padded at once by numpy, without any code of `tiling`."""
    layout, core = scene.layout, scene.layout.core_px
    ids = next(iter(models.values())).class_ids
    layers = {
        "labels": np.full(layout.shape_px, NODATA, ids.dtype),
        "confidence": np.full(layout.shape_px, 255, np.uint8),
        "tier": np.full(layout.shape_px, NODATA_CODE, np.uint8),
    }
    for row in range(-(-layout.shape_px[0] // core)):
        for col in range(-(-layout.shape_px[1] // core)):
            tier = find_tier(code_of(row, col))
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


LAYOUT = Layout(shape_px=(21, 26), core_px=5, chunk_px=15, halo_px=3)


def whole_scene(scene: Scene, halo_px: int = 3, code_of: CodeOf = lambda *_: BULK) -> ChunkWork:
    shape_px = scene.layout.shape_px
    return work_of(scene, Window.of(0, shape_px[0], 0, shape_px[1]), halo_px, code_of)
