"""Bundles with real networks and random weights, small enough for tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save

from batchseg.classes import ClassInfo
from batchseg.model.architecture import BulkNetSpec, OnnxSpec
from batchseg.model.bundle import Bundle, open_bundle, write_bundle
from batchseg.model.contract import Contract, Numerics
from batchseg.model.networks import build_network
from batchseg.model.onnx_graph import export_onnx
from batchseg.model.torch_graph import load_graph
from batchseg.scene.bands import BandWanted

MADE = "2026-01-31T00:00:00Z"
SMALL = BulkNetSpec(width=8)


def contract(**changes: Any) -> Contract:
    values: dict[str, Any] = {
        "name": "small-net",
        "tier": "bulk",
        "bands": tuple(BandWanted(name=name, common=name) for name in ("red", "green", "blue")),
        "dtype": "uint8",
        "range": (0.0, 255.0),
        "mean": (90.0, 100.5, 80.0),
        "std": (40.0, 50.25, 30.0),
        "gsd_m": (0.3, 0.8),
        "classes": tuple(ClassInfo(id=10 * i, name=f"class {i}", rgb=(40 * i, 2, 200)) for i in range(4)),
        "halo_px": 48,
        "stride_px": 8,
        "architecture": SMALL,
        "numerics": {
            "cpu": Numerics(backend="openvino", precision="bfloat16", batch=2, threads=2),
            "cuda": Numerics(backend="torch", precision="bfloat16", batch=16, threads=1),
        },
    }
    return Contract(**(values | changes))


def write_random(folder: Path, **changes: Any) -> Bundle:
    """A bundle with weights that nobody has trained, and normalisation statistics that are not neutral."""
    wanted = contract(**changes)
    torch.manual_seed(7)
    network = build_network(wanted.architecture, num_bands=len(wanted.bands), num_classes=len(wanted.classes))
    state = network.state_dict()
    for name, tensor in state.items():
        if name.endswith("running_mean"):
            tensor.normal_(0.0, 0.1)
        if name.endswith("running_var"):
            tensor.uniform_(0.5, 1.5)
    write_bundle(folder, wanted, save({name: tensor.contiguous() for name, tensor in state.items()}), created_at=MADE)
    return open_bundle(str(folder))


def write_onnx(folder: Path, **changes: Any) -> Bundle:
    """The same random network, as ONNX."""
    ours = write_random(folder / "ours", numerics=on_cpu(), **changes)
    content = export_onnx(ours, load_graph(ours).network, 64)
    values: dict[str, Any] = {"architecture": OnnxSpec(), "numerics": on_cpu()}
    write_bundle(folder, contract(**(values | changes)), content, created_at=MADE)
    return open_bundle(str(folder))


def on_cpu(**numerics: Any) -> dict[str, Numerics]:
    values: dict[str, Any] = {"backend": "openvino", "precision": "bfloat16", "batch": 2, "threads": 2}
    return {"cpu": Numerics(**(values | numerics))}
