"""A bundle's scores for every class, and a mixture of them put into its weights.

The last layer of a network is linear, so whatever is linear behind it can be put into it: a bundle whose scores are
mixed anew is a bundle like any other, no run has to know of it, and it computes nothing more. An ONNX network, whatever
is in it, gets one small layer at its end.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batchseg.errors import BundleError
from batchseg.model.bundle import Bundle, read_weights
from batchseg.model.contract import Numerics
from batchseg.model.segmenter import check_device, load_graph
from batchseg.tiers import DeviceKind

Scores = Callable[[NDArray[Any]], NDArray[np.float32]]
"""From one tile, bands first, to the scores of each class, classes first, at the tile's resolution."""
_LAST = ("out", "coarse", "segformer.decode_head.classifier")
"""The last layer of each network that we build (model/networks.py)."""
_DETAIL = "detail"
"""Adds to the scores of a last layer, so it is mixed as they are."""


@dataclass(frozen=True, slots=True, eq=False)
class Mixture:
    """A class's new score: a sum over the old ones with these weights, and an offset."""

    weights_KK: NDArray[np.float64]
    offsets_K: NDArray[np.float64]

    def apply(self, scores_KP: NDArray[np.float32]) -> NDArray[np.float32]:
        mixed_KP: NDArray[np.float32] = self.weights_KK.astype(np.float32) @ scores_KP
        return mixed_KP + self.offsets_K.astype(np.float32)[:, None]


def open_scores(bundle: Bundle, device: DeviceKind) -> Scores:
    """In float32, whatever the bundle's numerics say."""
    import torch

    check_device(device)
    graph, batch = _onnx_graph(bundle, device) if bundle.contract.is_onnx else (load_graph(bundle), 1)
    graph = graph.to(device, memory_format=torch.channels_last)

    def scores(x_BHW: NDArray[Any]) -> NDArray[np.float32]:
        with torch.inference_mode():
            x_NBHW = torch.from_numpy(x_BHW).to(device).expand(batch, -1, -1, -1)
            found: NDArray[np.float32] = graph.scores(x_NBHW)[0].float().cpu().numpy()
        if not np.isfinite(found).all():
            raise BundleError("the network's scores are no numbers", where=bundle.contract.name, got="infinity or NaN")
        return found

    return scores


def _onnx_graph(bundle: Bundle, device: DeviceKind) -> tuple[Any, int]:
    """With the batch that it was made for, if that is fixed."""
    from batchseg.model.graph import WholeGraph
    from batchseg.model.onnx_graph import RuntimeNetwork

    _onnx()  # it will be needed in the end
    contract = bundle.contract
    threads = max(numerics.threads for numerics in contract.numerics.values())
    exact = Numerics(backend="onnxruntime", precision="float32", batch=1, threads=threads)
    network = RuntimeNetwork(read_weights(bundle), exact, device)
    batch = network.session.get_inputs()[0].shape[0]
    return WholeGraph(network, contract.mean, contract.std), batch if isinstance(batch, int) else 1


def _onnx() -> Any:
    try:
        import onnx
    except ImportError as error:
        todo = "run `pip install batchseg[onnx]`"
        raise BundleError("the package onnx is not installed", where="an ONNX network", todo=todo) from error
    return onnx


def mix_weights(bundle: Bundle, mixing: Mixture) -> bytes:
    """The bundle's weights, with its scores mixed anew."""
    return _after_onnx(bundle, mixing) if bundle.contract.is_onnx else _in_last_layers(bundle, mixing)


def _in_last_layers(bundle: Bundle, mixing: Mixture) -> bytes:
    import torch
    from safetensors.torch import load, save

    tensors = load(read_weights(bundle))
    weights_KK, offsets_K = torch.from_numpy(mixing.weights_KK), torch.from_numpy(mixing.offsets_K)
    mixed_names = [name for name in tensors if name.rpartition(".")[0] in (*_LAST, _DETAIL)]
    assert mixed_names, "every network that is built here has a last layer"
    for name in mixed_names:
        # All but the classes, in which this is linear, is one dimension: channels, or pixels of a cell and channels.
        by_class = tensors[name].double().reshape(len(offsets_K), -1)
        mixed = weights_KK @ by_class
        if name.endswith("bias") and not name.startswith(_DETAIL):
            mixed += offsets_K[:, None]
        # Not in half precision, whatever the others are in: it is a few kilobytes, and rounded once already.
        tensors[name] = mixed.reshape(tensors[name].shape).float().contiguous()
    content: bytes = save(tensors)
    return content


def _after_onnx(bundle: Bundle, mixing: Mixture) -> bytes:
    onnx = _onnx()
    model = onnx.load_from_string(read_weights(bundle))
    graph = model.graph
    (output,) = graph.output
    taken = {name for node in graph.node for name in (*node.input, *node.output)}
    before, weights, offsets = (_unused(f"{output.name}_{part}", taken) for part in ("unmixed", "weights", "offsets"))
    for node in graph.node:
        for names in (node.input, node.output):
            names[:] = [before if name == output.name else name for name in names]
    num = len(mixing.offsets_K)
    for name, values in ((weights, mixing.weights_KK.reshape(num, num, 1, 1)), (offsets, mixing.offsets_K)):
        graph.initializer.append(onnx.numpy_helper.from_array(values.astype(np.float32), name))
    graph.node.append(onnx.helper.make_node("Conv", [before, weights, offsets], [output.name]))
    content: bytes = model.SerializeToString()
    return content


def _unused(name: str, taken: set[str]) -> str:
    """A network may have been mixed before."""
    return name if name not in taken else _unused(f"{name}_", taken)
