"""The device engine gives the maps of the ordinary engine. The device of these tests is the CPU."""

from __future__ import annotations

import numpy as np
import pytest

from batchseg.model.contract import Numerics
from bench.device_engine import DeviceEngine
from bench.gpu import (
    SLOTS,
    depends_on_neighbours,
    digest_ordinary_engine,
    fill_slot,
    make_layers,
    open_scene,
    run_ordinary_engine,
    run_pass,
    use_torch,
)
from tests.batchseg.model.model_bundles import write_random
from tests.runs import noise, write_scene

CHUNK_PX, CORE_PX = 1024, 512


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    numerics = {"cpu": Numerics(backend="openvino", precision="bfloat16", batch=3, threads=1)}
    return write_random(tmp_path_factory.mktemp("bundle") / "small", numerics=numerics, gsd_m=(0.1, 50.0))


def ground(tmp_path, bundle, height, width):
    """Smooth ground, with a hole of nodata across the border of two chunks."""
    pixels = noise(-(-height // 16), -(-width // 16)).repeat(16, 1).repeat(16, 2)[:, :height, :width]
    pixels[:, 200:300, 900:1100] = 0
    scene = write_scene(tmp_path / "scene.tif", pixels, nodata=0, tiled=True, blockxsize=256, blockysize=256)
    return open_scene(scene, str(bundle.folder), tmp_path / "out", CHUNK_PX)


def engine_of(bundle):
    return DeviceEngine(use_torch(bundle), "cpu", core_px=CORE_PX, chunk_px=CHUNK_PX)


@pytest.mark.parametrize(("height", "width"), [(1500, 2100), (70, 40), (1024, 1025)])
def test_the_device_engine_gives_the_maps_of_the_ordinary_engine(tmp_path, bundle, height, width):
    place, engine = ground(tmp_path, bundle, height, width), engine_of(bundle)
    slot = engine.new_slot()
    for chunk, expected in run_ordinary_engine(place, str(bundle.folder), "cpu"):
        slot.host_in_BHW.random_(0, 255)  # whatever the last chunk left there must not matter
        valid_HW = fill_slot(place, chunk, slot)
        engine.enqueue(slot, *place.cores(chunk))
        layers = make_layers(place, chunk, slot, valid_HW)
        for name, layer_HW in expected.items():
            np.testing.assert_array_equal(layers[name], layer_HW)
        assert len(np.unique(expected["labels"])) > 1


def test_chunks_in_flight_do_not_affect_each_other(tmp_path, bundle):
    place, engine = ground(tmp_path, bundle, 2100, 3200), engine_of(bundle)
    assert len(place.windows) > 2 * SLOTS
    slots = [engine.new_slot() for _ in range(SLOTS)]
    expected = digest_ordinary_engine(place, str(bundle.folder), "cpu")
    assert [run_pass(place, engine, slots, None).digest for _ in range(2)] == [expected] * 2


def test_a_tile_does_not_depend_on_its_neighbours(bundle):
    assert not depends_on_neighbours(engine_of(bundle))


def test_only_a_gpu_replays_graphs(bundle):
    with pytest.raises(ValueError, match="only a GPU"):
        DeviceEngine(use_torch(bundle), "cpu", core_px=CORE_PX, chunk_px=CHUNK_PX, how="graph")
