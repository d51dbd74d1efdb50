"""Bundles whose weights are a whole network, as ONNX."""

from __future__ import annotations

import builtins
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from batchseg.errors import BundleError
from batchseg.model.architecture import OnnxSpec
from batchseg.model.bundle import Bundle, open_bundle, write_bundle
from batchseg.model.segmenter import open_segmenter
from tests.batchseg.model.model_bundles import MADE, contract, on_cpu, write_onnx, write_random
from tests.batchseg.model.test_segmenter import SIDE, tiles

WAYS = [("openvino", "float32"), ("openvino", "bfloat16"), ("onnxruntime", "float32")]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BATCHSEG_CACHE", str(tmp_path / "cache"))


def run_in(bundle: Bundle, backend: str, precision: str, x: Any, **more: Any) -> Any:
    numerics = on_cpu(backend=backend, precision=precision, **more)
    tuned = replace(bundle, contract=replace(bundle.contract, numerics=numerics))
    return open_segmenter(tuned, device="cpu", tile_px=SIDE)(x)


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_an_onnx_network_gives_what_the_same_network_gives_in_torch(dtype: str, tmp_path: Path) -> None:
    """Preprocessing and head are the same, so it is the same model in another file."""
    onnx = write_onnx(tmp_path, dtype=dtype)
    ours = open_bundle(str(tmp_path / "ours"))
    x = tiles(2) if dtype == "uint8" else tiles(2).astype(np.float32)
    labels, confidence = run_in(ours, "torch", "float32", x)
    assert len(np.unique(labels)) > 1
    for backend, precision in WAYS:
        found = run_in(onnx, backend, precision, x)
        limit = 0.9995 if precision == "float32" else 0.97
        assert (found[0] == labels).mean() >= limit, backend
        assert np.abs(found[1].astype(int) - confidence).mean() < 3, backend


@pytest.mark.parametrize(("backend", "precision"), WAYS)
def test_the_same_bytes_whatever_the_neighbours(backend: str, precision: str, tmp_path: Path) -> None:
    bundle = write_onnx(tmp_path)
    a, b = tiles(2), tiles(2, seed=9)
    wanted = run_in(bundle, backend, precision, a)
    mixed = run_in(bundle, backend, precision, np.stack([b[0], a[1]]))
    for ours, theirs, again in zip(wanted, mixed, run_in(bundle, backend, precision, a), strict=True):
        np.testing.assert_array_equal(ours[1], theirs[1])
        np.testing.assert_array_equal(ours, again)


def test_a_network_of_ours_runs_in_onnxruntime(tmp_path: Path) -> None:
    ours = write_random(tmp_path)
    x = tiles(2)
    wanted, found = run_in(ours, "torch", "float32", x), run_in(ours, "onnxruntime", "float32", x)
    assert (wanted[0] == found[0]).mean() >= 0.9995


@pytest.mark.parametrize("name", ["weights.pt", "weights.bin", "model.pkl", "../weights.onnx", "weights.safetensors"])
def test_weights_of_another_kind_are_never_opened(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_onnx(tmp_path)
    item = json.loads((tmp_path / "item.json").read_text())
    item["assets"]["weights"]["href"] = name
    (tmp_path / "item.json").write_text(json.dumps(item))
    with pytest.raises(BundleError, match="never loaded") as caught:
        open_bundle(str(tmp_path))
    assert caught.value.exit_status == 2
    assert "batchseg model import" in str(caught.value)


@pytest.mark.parametrize("backend", ["torch", "compiled"])
def test_torch_does_not_run_onnx(backend: str) -> None:
    with pytest.raises(BundleError, match="contradicts itself"):
        contract(architecture=OnnxSpec(), numerics=on_cpu(backend=backend))


def test_what_is_no_network_is_an_error_of_ours(tmp_path: Path) -> None:
    write_bundle(tmp_path, contract(architecture=OnnxSpec(), numerics=on_cpu()), b"no network", created_at=MADE)
    with pytest.raises(BundleError, match="cannot be read"):
        run_in(open_bundle(str(tmp_path)), "openvino", "float32", tiles(2))


def test_a_missing_onnxruntime_names_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = write_onnx(tmp_path)
    real = builtins.__import__

    def without(name: str, *rest: Any, **more: Any) -> Any:
        if name == "onnxruntime":
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(BundleError, match=r"batchseg\[onnx\]"):
        run_in(bundle, "onnxruntime", "float32", tiles(2))
