"""Weights and contract of a quantised bundle: eight-bit integers for CPUs, half precision for GPUs.

An eight-bit bundle is an ONNX graph in which nncf has put quantisers around the operations where they pay, with ranges
found on real tiles (docs/decisions/0010). Whether the result is good enough is decided elsewhere (score/gate.py).
"""

from __future__ import annotations

import contextlib
import logging
import sys
from dataclasses import replace
from typing import Any, Literal

from numpy.typing import NDArray

from batchseg.errors import BundleError
from batchseg.model.architecture import ImportedSegformerSpec, OnnxSpec, SegformerSpec
from batchseg.model.bundle import Bundle, read_weights
from batchseg.model.contract import Contract, Numerics
from batchseg.model.packages import import_openvino
from batchseg.model.torch_graph import load_graph

QuantizedType = Literal["int8", "bfloat16", "float16"]


def quantize_weights(bundle: Bundle, to: QuantizedType, x_NBHW: NDArray[Any], name: str) -> tuple[Contract, bytes]:
    """Make contract and weights. Quality and lineage are still those of the original.

    Args:
        bundle: The original.
        to: The type of the new weights.
        x_NBHW: Tiles that calibrate an eight-bit graph.
        name: Name of the new bundle.
    """
    original = bundle.contract.architecture
    if isinstance(original, OnnxSpec) and original.quantized:
        raise BundleError("this bundle is quantised already", where=bundle.contract.name, todo="give the original")
    contract = replace(bundle.contract, name=name)
    if to != "int8":
        return _halve(bundle, contract, to)
    threads = next(iter(bundle.contract.numerics.values())).threads
    numerics = Numerics(backend="openvino", precision="float32", batch=1, threads=threads)
    architecture = OnnxSpec(quantized="int8", of=original)
    with contextlib.redirect_stdout(sys.stderr):  # nncf prints its progress to stdout
        weights = _make_int8_graph(bundle, x_NBHW)
    return replace(contract, architecture=architecture, numerics={"cpu": numerics}), weights


def _make_int8_graph(bundle: Bundle, x_NBHW: NDArray[Any]) -> bytes:
    nncf, onnx = _import_libraries()
    import torch

    from batchseg.model.graph import WholeGraph
    from batchseg.model.onnx_graph import export_onnx

    contract = bundle.contract
    whole = WholeGraph(torch.nn.Identity(), contract.mean, contract.std)
    network = None if contract.is_onnx else load_graph(bundle).network
    model = onnx.load_from_string(export_onnx(bundle, network, x_NBHW.shape[-1]))
    stored = {tensor.name for tensor in model.graph.initializer}
    (entry,) = (one.name for one in model.graph.input if one.name not in stored)
    tiles = [{entry: whole.normalise(torch.from_numpy(x[None])).numpy()} for x in x_NBHW]
    has_attention = isinstance(contract.architecture, SegformerSpec | ImportedSegformerSpec)
    result = nncf.quantize(
        model,
        nncf.Dataset(tiles),
        preset=nncf.QuantizationPreset.MIXED,
        subset_size=len(tiles),
        model_type=nncf.ModelType.TRANSFORMER if has_attention else None,
    )
    content: bytes = result.SerializeToString()
    return content


def _import_libraries() -> tuple[Any, Any]:
    import_openvino()  # first: it switches off the telemetry of OpenVINO and nncf
    try:
        import nncf
        import onnx
    except ImportError as error:
        todo = "run `pip install batchseg[quantize]`"
        raise BundleError("nncf is not installed", where="quantize", got=str(error), todo=todo) from error
    nncf.set_log_level(logging.ERROR)
    return nncf, onnx


def _halve(bundle: Bundle, contract: Contract, to: Literal["bfloat16", "float16"]) -> tuple[Contract, bytes]:
    """Weights in sixteen bits, and numerics that compute in them. Normalisation statistics stay exact."""
    if contract.is_onnx:
        todo = "export it in half precision, or give a bundle of safetensors"
        raise BundleError("the types in an ONNX network cannot be changed", where=contract.name, todo=todo)
    import torch
    from safetensors.torch import load, save

    kind = getattr(torch, to)
    tensors = {
        name: tensor.to(kind) if tensor.is_floating_point() and "running" not in name else tensor
        for name, tensor in load(read_weights(bundle)).items()
    }
    overflown = [name for name, tensor in tensors.items() if tensor.is_floating_point() and not tensor.isfinite().all()]
    if overflown:
        raise BundleError(f"weights do not fit into {to}", where=contract.name, got=overflown[0], todo="take bfloat16")
    before = bundle.contract.numerics.get("cuda")
    batch, threads = (before.batch, before.threads) if before else (16, 1)
    cuda = Numerics(backend="torch", precision=to, batch=batch, threads=threads)
    return replace(contract, numerics={"cuda": cuda}), save(tensors)
