"""Smaller numbers for the same network: eight-bit integers for CPUs, half precision for GPUs.

An eight-bit bundle is an ONNX graph in which nncf has put quantisers around the operations that are worth it, with
ranges found on real tiles (docs/decisions/0010). Whether the result is good enough is not decided here: see job/gate.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from batchseg.errors import BundleError
from batchseg.model.architecture import ImportedSegformerSpec, OnnxSpec, SegformerSpec
from batchseg.model.bundle import Bundle, read_weights
from batchseg.model.contract import Contract, Numerics
from batchseg.model.segmenter import load_graph, openvino_module

Target = Literal["int8", "bfloat16", "float16"]


def quantized(bundle: Bundle, to: Target, x_NBHW: NDArray[Any], name: str) -> tuple[Contract, bytes]:
    """Contract and weights; numerics, quality and lineage are still those of the original."""
    original = bundle.contract.architecture
    if isinstance(original, OnnxSpec) and original.quantized:
        raise BundleError("this bundle is quantised already", where=bundle.contract.name, todo="give the original")
    contract = replace(bundle.contract, name=name)
    if to != "int8":
        return _halved(bundle, contract, to)
    architecture = OnnxSpec(quantized="int8", of=original)
    threads = next(iter(bundle.contract.numerics.values())).threads
    exact = Numerics(backend="openvino", precision="float32", batch=1, threads=threads)
    return replace(contract, architecture=architecture, numerics={"cpu": exact}), _int8(bundle, x_NBHW)


def _int8(bundle: Bundle, x_NBHW: NDArray[Any]) -> bytes:
    nncf, onnx = _libraries()
    import torch

    from batchseg.model.graph import WholeGraph
    from batchseg.model.onnx_graph import network_as_onnx

    contract = bundle.contract
    whole = WholeGraph(torch.nn.Identity(), contract.mean, contract.std)
    network = None if contract.is_onnx else load_graph(bundle).network
    model = onnx.load_from_string(network_as_onnx(bundle, network, x_NBHW.shape[-1]))
    stored = {one.name for one in model.graph.initializer}
    (entry,) = (one.name for one in model.graph.input if one.name not in stored)
    tiles = [{entry: whole.normalise(torch.from_numpy(x[None])).numpy()} for x in x_NBHW]
    attention = isinstance(contract.architecture, SegformerSpec | ImportedSegformerSpec)
    result = nncf.quantize(
        model,
        nncf.Dataset(tiles),
        preset=nncf.QuantizationPreset.MIXED,
        subset_size=len(tiles),
        model_type=nncf.ModelType.TRANSFORMER if attention else None,
    )
    content: bytes = result.SerializeToString()
    return content


def _libraries() -> tuple[Any, Any]:
    openvino_module()  # first: it keeps OpenVINO's and nncf's reporting out
    try:
        import nncf
        import onnx
    except ImportError as error:
        todo = "run `pip install batchseg[quantize]`"
        raise BundleError("nncf is not installed", where="quantize", got=str(error), todo=todo) from error
    nncf.set_log_level(logging.ERROR)
    return nncf, onnx


def _halved(bundle: Bundle, contract: Contract, to: Literal["bfloat16", "float16"]) -> tuple[Contract, bytes]:
    """Weights in sixteen bits, and numerics that compute in them. Normalisation statistics stay exact."""
    if contract.is_onnx:
        todo = "export it in half precision, or give a bundle of safetensors"
        raise BundleError("an ONNX network keeps its types", where=contract.name, todo=todo)
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


def exact(contract: Contract) -> Numerics:
    """How float32 is computed on a CPU: what a quantised bundle is compared with."""
    threads = max(numerics.threads for numerics in contract.numerics.values())
    backend: Literal["openvino", "torch"] = "openvino" if contract.is_onnx else "torch"
    return Numerics(backend=backend, precision="float32", batch=1, threads=threads)


def even_and_odd(x: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """What is calibrated on and what is judged on: never the same tiles."""
    if len(x) < 2:
        raise BundleError(
            "one tile cannot both calibrate and judge, and nothing was written",
            where="--calibrate",
            expected="2 tiles with data or more",
            got=str(len(x)),
            todo="give a larger scene, or more --tiles of one that has data in few places",
        )
    return np.ascontiguousarray(x[::2]), np.ascontiguousarray(x[1::2])
