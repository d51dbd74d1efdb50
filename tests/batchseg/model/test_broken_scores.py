"""Scores that are NaN or infinite give a confidence of 0 in every backend, and no other scores do."""

from __future__ import annotations

import math
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from batchseg.adapt import candidates
from batchseg.adapt.check import check_bundle
from batchseg.adapt.trial import Trial
from batchseg.adapt.tune import tune_bundle
from batchseg.engine.segment import Segmenter
from batchseg.errors import BrokenModelError, BundleError
from batchseg.model.bundle import Bundle, open_bundle
from batchseg.model.contract import Numerics
from batchseg.model.graph import choose_best
from batchseg.model.segmenter import open_segmenter
from tests.batchseg.model.broken_networks import make_network, make_network_with_hidden_nan, write_network
from tests.batchseg.model.model_bundles import on_cpu, write_random
from tests.batchseg.model.test_segmenter import SIDE, tiles

WAYS: list[dict[str, Any]] = [
    {"backend": "openvino", "precision": "float32"},
    {"backend": "openvino", "precision": "bfloat16"},
    {"backend": "openvino", "precision": "float32", "streams": 2},
    {"backend": "onnxruntime", "precision": "float32"},
]
NAN, INF = math.nan, math.inf


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BATCHSEG_CACHE", str(tmp_path / "cache"))


def open_way(bundle: Bundle, **way: Any) -> Segmenter:
    tuned = replace(bundle, contract=replace(bundle.contract, numerics=on_cpu(**way)))
    return open_segmenter(tuned, device="cpu", tile_px=SIDE, halo_px=8)


@pytest.mark.parametrize(
    ("num_classes", "stride", "offsets"),
    [
        (1, 1, {0: NAN}),
        (2, 1, {1: NAN}),
        (2, 4, {0: -INF, 1: -INF}),
        (4, 4, {3: INF}),
    ],
)
def test_broken_scores_are_a_confidence_of_0(
    num_classes: int, stride: int, offsets: dict[int, float], tmp_path: Path
) -> None:
    model = make_network(num_classes, stride=stride, offsets=offsets)
    bundle = write_network(tmp_path, model, num_classes=num_classes)
    for way in WAYS:
        assert (open_way(bundle, **way)(tiles(2))[1] == 0).all(), way


@pytest.mark.parametrize(("num_classes", "offsets"), [(1, {0: 3e38}), (4, {1: -INF, 3: 3e38})])
def test_whole_scores_never_are(num_classes: int, offsets: dict[int, float], tmp_path: Path) -> None:
    bundle = write_network(tmp_path, make_network(num_classes, offsets=offsets), num_classes=num_classes)
    for way in WAYS:
        confidence_NHW = open_way(bundle, **way)(tiles(2))[1]
        assert 1 <= confidence_NHW.min() <= confidence_NHW.max() <= 254, way


def test_255_equal_classes_have_the_least_confidence() -> None:
    index, confidence = choose_best([torch.zeros(3)] * 255)
    assert (index.tolist(), confidence.tolist()) == ([0] * 3, [1] * 3)


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_torch_says_it_too(precision: str, tmp_path: Path) -> None:
    """An overflow of half precision becomes infinite, and so no probability."""
    bundle = write_random(tmp_path, numerics=on_cpu(backend="torch", precision="float32"), halo_px=8)
    segment: Any = open_way(bundle, backend="torch", precision=precision)
    assert segment(tiles(2))[1].min() > 0
    with torch.no_grad():
        for parameter in segment._graph.network.parameters():
            parameter.mul_(3e4)
    overflows = precision == "float16"
    assert (segment(tiles(2))[1] == 0).any() == overflows


@pytest.mark.parametrize("value", [NAN, INF])
def test_every_type_that_a_device_may_compute_in(value: float) -> None:
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        planes = [torch.tensor([0.0, value], dtype=dtype).float(), torch.tensor([1.0, 1.0])]
        assert choose_best(planes)[1].tolist() == [186, 0]


@pytest.mark.parametrize("offsets", [{0: NAN, 1: NAN, 2: NAN, 3: NAN}, {2: INF}])
def test_check_and_tune_refuse(offsets: dict[int, float], tmp_path: Path) -> None:
    write_network(tmp_path / "net", make_network(4, offsets=offsets))
    ref = str(tmp_path / "net")
    before = (tmp_path / "net" / "item.json").read_bytes()
    with pytest.raises(BundleError, match="computes no probability") as caught:
        check_bundle(ref, device="cpu")
    assert caught.value.exit_status == 2
    assert "got 0 for" in str(caught.value)
    with pytest.raises(BundleError, match="computes no probability"):
        tune_bundle(ref, device="cpu", tiles=1, threads=1)
    assert (tmp_path / "net" / "item.json").read_bytes() == before
    assert open_bundle(ref)


def test_check_finds_what_openvino_hides(tmp_path: Path) -> None:
    bundle = write_network(tmp_path / "net", make_network_with_hidden_nan(4))
    assert open_way(bundle, **WAYS[0])(tiles(2))[1].min() > 0
    with pytest.raises(BundleError, match="onnxruntime float32: the model computes no probability"):
        check_bundle(str(tmp_path / "net"), device="cpu")


@pytest.mark.parametrize(("precision", "refused"), [("float32", True), ("bfloat16", False), ("float16", False)])
def test_tune_refuses_what_float32_finds_broken_and_goes_on_after_an_overflow(
    precision: str, refused: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = write_random(tmp_path)
    ways = [on_cpu(backend="torch", precision=p, batch=b)["cpu"] for p, b in (("float32", 1), (precision, 4))]

    def run(_: object, numerics: Numerics, *_unused: object) -> Trial:
        if numerics.batch == 4:
            raise BrokenModelError("the model computes no probability")
        plane = np.zeros((1, 8, 8), np.uint8)
        return Trial(
            numerics=numerics, index_NHW=plane, confidence_NHW=plane, start_s=1, seconds_per_tile=1, memory_bytes=1
        )

    monkeypatch.setattr(candidates, "list_numerics", lambda *_: iter(ways))
    monkeypatch.setattr(candidates, "run_trial", run)
    with pytest.raises(BrokenModelError) if refused else nullcontext():
        measured = candidates.measure_candidates(bundle, "cpu", tiles(1), threads=2)
        assert [candidate.problem for candidate in measured] == [None, "the model computes no probability"]
