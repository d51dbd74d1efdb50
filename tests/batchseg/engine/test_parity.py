"""Training and runs give a network the same input, from the file to the normalised tensor, on golden inputs."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from batchseg.adapt.samples import sample_tiles
from batchseg.model.architecture import BulkNetSpec
from batchseg.model.bundle import Bundle, open_bundle, write_bundle
from batchseg.model.graph import WholeGraph
from batchseg.recipe.recipe import Models, Recipe
from batchseg.training.ground import TrainingGround, read_ground
from batchseg.training.train_recipe import GroundSpec, LabelledRaster, TrainRecipe
from tests.batchseg.model.model_bundles import contract
from tests.batchseg.scene.scene_rasters import UTM, write
from tests.runs import WEIGHTS_OF_NOBODY

SIDE_PX, HEIGHT, WIDTH = 64, 90, 150
BLUE_GREEN_RED = ("blue", "green", "red")

# The scene's data type and raw range, the model's data type and range, and the digest of what the network is given.
GOLDEN = [
    ("uint8", None, "uint8", (0.0, 255.0), "cfbf7d178daf54b1"),
    ("uint16", (200.0, 3200.0), "uint8", (0.0, 255.0), "5ee41f1d270c6af3"),
    ("uint16", (0.0, 10000.0), "float32", (0.0, 1.0), "29470a86e04a16c2"),
    ("int16", (-100.0, 3000.0), "float32", (-1.0, 1.0), "6534b8972c8f99ad"),
    ("float32", (0.0, 0.4), "float32", (0.0, 1.0), "75f270ab8582dc1e"),
]


def raw_values(dtype: str, scale: tuple[float, float] | None) -> NDArray[Any]:
    """Ramps through the whole range and a little beyond, with a hole; the same everywhere, for ever."""
    low, high = scale or (0.0, 255.0)
    beyond = 0.0 if dtype == "uint8" else 0.1 * (high - low)
    places = np.arange(3 * HEIGHT * WIDTH).reshape(3, HEIGHT, WIDTH) * 40503 % 65521 / 65520
    raw = low - beyond + places * (high - low + 2 * beyond)
    if dtype != "float32":
        info = np.iinfo(dtype)
        raw = np.clip(np.floor(raw), max(info.min, 1), info.max) if low >= 0 else np.floor(raw)
    raw_BHW = raw.astype(dtype)
    raw_BHW[:, 20:31, 40:77] = np.nan if dtype == "float32" else 0
    return raw_BHW


def ways(
    folder: Path, dtype: str, scale: tuple[float, float] | None, model_dtype: str, model_range: tuple[float, float]
) -> tuple[TrainingGround, Bundle, NDArray[Any]]:
    nodata = None if dtype == "float32" else 0
    image = write(folder / "scene.tif", raw_values(dtype, scale), names=BLUE_GREEN_RED, nodata=nodata, **UTM)
    labels = write(folder / "labels.tif", np.zeros((1, HEIGHT, WIDTH), np.uint8), **UTM)
    spec = GroundSpec(rasters=(LabelledRaster(image=str(image), labels=str(labels)),), window_px=SIDE_PX)
    values: dict[str, Any] = {
        "classes": contract().classes[:1],
        "dtype": model_dtype,
        "range": model_range,
        "gsd_m": (5.0, 20.0),
    }
    architecture = BulkNetSpec(width=8)
    recipe = TrainRecipe(
        name="n", tier="bulk", architecture=architecture, halo_px=0, train=spec, validate=spec_of_another(spec),
        crop_px=32, scale=scale, **values,
    )  # fmt: skip
    first = read_ground(spec, recipe)
    mean = tuple(float(np.float32(round(v, 3))) for v in first.mean)
    std = tuple(float(np.float32(round(v, 3))) for v in first.std)
    learnt = read_ground(spec, recipe, mean)
    made = contract(mean=mean, std=std, halo_px=0, tile_px=SIDE_PX, **values)
    write_bundle(folder / "bundle", made, WEIGHTS_OF_NOBODY, created_at="2026-01-31T00:00:00Z")
    bundle = open_bundle(str(folder / "bundle"))
    run = Recipe(scenes=(str(image),), output="none", models=Models(bulk=str(bundle.folder)), scale=scale)
    return learnt, bundle, sample_tiles(bundle, run, 100).x_NBHW


def spec_of_another(spec: GroundSpec) -> GroundSpec:
    """A scene that is never opened: a recipe must measure on another scene than it trains on."""
    return replace(spec, rasters=(LabelledRaster(image="another.tif", labels="another_labels.tif"),))


@pytest.mark.parametrize(("dtype", "scale", "model_dtype", "model_range", "digest"), GOLDEN)
def test_training_and_inference_give_the_network_the_same(
    dtype: str,
    scale: tuple[float, float] | None,
    model_dtype: str,
    model_range: tuple[float, float],
    digest: str,
    tmp_path: Path,
) -> None:
    """Six windows of 64 px, of which three reach beyond the scene's edges and two hold the hole."""
    learnt, bundle, x_NBHW = ways(tmp_path, dtype, scale, model_dtype, model_range)
    assert x_NBHW.shape == (6, 3, SIDE_PX, SIDE_PX)
    assert x_NBHW.dtype == learnt.pixels_WBHW.dtype == model_dtype
    np.testing.assert_array_equal(x_NBHW, learnt.pixels_WBHW)
    graph = WholeGraph(torch.nn.Identity(), bundle.contract.mean, bundle.contract.std)
    # As training does it, on crops of float32, and as a segmenter does it, on what a run reads.
    trained = graph.normalise(torch.from_numpy(learnt.pixels_WBHW.astype(np.float32))).numpy()
    inferred = graph.normalise(torch.from_numpy(x_NBHW)).numpy()
    np.testing.assert_array_equal(trained, inferred)
    assert np.isfinite(inferred).all()
    assert hashlib.sha256(inferred.tobytes()).hexdigest()[:16] == digest
