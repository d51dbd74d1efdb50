"""Networks as ONNX: from normalised float32 tiles (batch, bands, rows, columns) to logits for each class.

The steps before and after the network are our own and the same for every bundle (model/graph.py). For OpenVINO the
three parts are joined into one graph, so that two bytes per pixel come out of it. onnxruntime runs the network alone,
between the two other parts in torch. A network of ours is exported to ONNX here too, for onnxruntime and for
quantisation.
"""

from __future__ import annotations

import io
import warnings
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from batchseg.errors import BundleError
from batchseg.model.bundle import Bundle, read_weights
from batchseg.model.contract import Numerics
from batchseg.model.graph import Entry, Head, WholeGraph
from batchseg.model.packages import import_onnxruntime
from batchseg.tiers import DeviceKind

OPSET = 17
TILE, LOGITS = "tile", "logits"


def join_graphs(openvino: Any, bundle: Bundle, shape: tuple[int, ...], halo_px: int, dtype: str) -> Any:
    """Join normalisation, the bundle's network and the head into one OpenVINO graph."""
    contract = bundle.contract
    network = _read_network(openvino, bundle)
    network.reshape(list(shape))
    logits_shape = [int(size) for size in network.outputs[0].shape]
    entry = Entry(WholeGraph(nn.Identity(), contract.mean, contract.std))
    before = _convert_module(openvino, entry, shape, dtype)
    after = _convert_module(openvino, Head(shape[2], halo_px), logits_shape, "float32")
    for first, second in ((before, network), (network, after)):
        (gate,) = second.get_parameters()
        for target in gate.output(0).get_target_inputs():
            target.replace_source_output(first.get_results()[0].input_value(0))
    return openvino.Model(after.get_results(), before.get_parameters(), "whole")


def _read_network(openvino: Any, bundle: Bundle) -> Any:
    try:
        return openvino.Core().read_model(model=read_weights(bundle))
    except RuntimeError as error:
        raise BundleError(
            "this ONNX network cannot be read",
            where=str(bundle.weights),
            got=str(error).strip().splitlines()[-1],
            todo="export it with an older opset, or import it again with `batchseg model import`",
        ) from error


def _convert_module(openvino: Any, module: nn.Module, shape: Any, dtype: str) -> Any:
    kind = {"uint8": openvino.Type.u8, "float32": openvino.Type.f32}[dtype]
    example = torch.zeros(tuple(shape), dtype=getattr(torch, dtype))
    with torch.no_grad(), warnings.catch_warnings():
        # Tracing warns that it keeps shapes as constants. They are constants here.
        warnings.simplefilter("ignore")
        return openvino.convert_model(
            module.eval(), example_input=example, input=[(list(shape), kind)], share_weights=False
        )


class RuntimeNetwork(nn.Module):
    """A network that onnxruntime runs, as a part of a graph in torch."""

    def __init__(self, onnx_bytes: bytes, numerics: Numerics, device: DeviceKind) -> None:
        super().__init__()
        runtime = import_onnxruntime()
        options = runtime.SessionOptions()
        options.intra_op_num_threads = numerics.threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        provider = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}[device]
        if provider not in runtime.get_available_providers():
            raise BundleError(
                "this onnxruntime does not know the device",
                where=device,
                expected=provider,
                got=", ".join(runtime.get_available_providers()),
                todo="install onnxruntime-gpu, or tune the bundle again",
            )
        self.session = runtime.InferenceSession(onnx_bytes, options, providers=[provider])

    def forward(self, x_NBHW: Tensor) -> Tensor:
        x = np.ascontiguousarray(x_NBHW.cpu().numpy())
        (logits,) = self.session.run(None, {self.session.get_inputs()[0].name: x})
        return torch.from_numpy(logits).to(x_NBHW.device)


def export_onnx(bundle: Bundle, network: nn.Module | None, side_px: int) -> bytes:
    """The bundle's network as ONNX. A network of ours is exported for any batch and side; None: weights are ONNX."""
    if network is None:
        return read_weights(bundle)
    example = torch.zeros(1, len(bundle.contract.bands), side_px, side_px)
    free = {0: "batch", 2: "rows", 3: "columns"}
    file = io.BytesIO()
    with torch.no_grad(), warnings.catch_warnings():
        # This exporter is deprecated, but the new one needs two more packages for the same graph.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network.eval(),
            (example,),
            file,  # type: ignore[arg-type]  # this exporter takes files too
            dynamo=False,
            opset_version=OPSET,
            input_names=[TILE],
            output_names=[LOGITS],
            dynamic_axes={TILE: free, LOGITS: free},
        )
    return file.getvalue()
