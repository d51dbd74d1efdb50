"""A bundle's scores for every class, and mixtures of them that are put into its weights.

The last layer of a network is linear, so a linear step behind it can be merged into it. A bundle whose scores are mixed
anew is therefore a bundle like any other: no run has to know about it, and it computes nothing more. An ONNX network
gets one small layer at its end, since its last layer is unknown.
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
from batchseg.model.device import check_device
from batchseg.model.packages import import_onnx
from batchseg.model.torch_graph import load_graph
from batchseg.tiers import DeviceKind

Scores = Callable[[NDArray[Any]], NDArray[np.float32]]
"""A function from one tile, bands first, to the scores of all classes, classes first, at the tile's resolution."""
_LAST = ("out", "coarse", "segformer.decode_head.classifier")
"""Names of the last layers of the networks that we build (model/networks.py)."""
_DETAIL = "detail"
"""Name of the layer that adds to the scores of a last layer, and so is mixed as they are."""


@dataclass(frozen=True, slots=True, eq=False)
class Mixture:
    """The new score of each class: a weighted sum of all old scores, plus an offset."""

    weights_KK: NDArray[np.float64]
    offsets_K: NDArray[np.float64]

    def apply(self, scores_KP: NDArray[np.float32]) -> NDArray[np.float32]:
        mixed_KP: NDArray[np.float32] = self.weights_KK.astype(np.float32) @ scores_KP
        return mixed_KP + self.offsets_K.astype(np.float32)[:, None]


def open_scores(bundle: Bundle, device: DeviceKind) -> Scores:
    """Open the bundle's network to compute scores. They are in float32, whatever the bundle's numerics say."""
    import torch

    check_device(device)
    graph, batch = _load_onnx_graph(bundle, device) if bundle.contract.is_onnx else (load_graph(bundle), 1)
    graph = graph.to(device, memory_format=torch.channels_last)

    def compute_scores(x_BHW: NDArray[Any]) -> NDArray[np.float32]:
        with torch.inference_mode():
            x_NBHW = torch.from_numpy(x_BHW).to(device).expand(batch, -1, -1, -1)
            scores_KHW: NDArray[np.float32] = graph.scores(x_NBHW)[0].float().cpu().numpy()
        if not np.isfinite(scores_KHW).all():
            raise BundleError(
                "the network's scores must be finite",
                where=bundle.contract.name,
                got="infinity or NaN",
                todo="check the raster's values and the bundle's range, or take another bundle",
            )
        return scores_KHW

    return compute_scores


def _load_onnx_graph(bundle: Bundle, device: DeviceKind) -> tuple[Any, int]:
    """The graph, and the only batch size that the network takes, or 1 if it takes any."""
    from batchseg.model.graph import WholeGraph
    from batchseg.model.onnx_graph import RuntimeNetwork

    import_onnx(bundle.contract.name)  # needed at the end, so missed before any work
    contract = bundle.contract
    threads = max(numerics.threads for numerics in contract.numerics.values())
    exact = Numerics(backend="onnxruntime", precision="float32", batch=1, threads=threads)
    network = RuntimeNetwork(read_weights(bundle), exact, device)
    batch = network.session.get_inputs()[0].shape[0]
    return WholeGraph(network, contract.mean, contract.std), batch if isinstance(batch, int) else 1


def mix_weights(bundle: Bundle, mixture: Mixture) -> bytes:
    """Make the weights of a bundle with mixed scores."""
    return _append_layer(bundle, mixture) if bundle.contract.is_onnx else _mix_last_layers(bundle, mixture)


def _mix_last_layers(bundle: Bundle, mixture: Mixture) -> bytes:
    import torch
    from safetensors.torch import load, save

    tensors = load(read_weights(bundle))
    weights_KK, offsets_K = torch.from_numpy(mixture.weights_KK), torch.from_numpy(mixture.offsets_K)
    mixed_names = [name for name in tensors if name.rpartition(".")[0] in (*_LAST, _DETAIL)]
    assert mixed_names, "every network that is built here has a last layer"
    for name in mixed_names:
        # The layer is linear in its classes; the rest is one dimension, channels or pixels of a cell and channels.
        by_class = tensors[name].double().reshape(len(offsets_K), -1)
        mixed = weights_KK @ by_class
        if name.endswith("bias") and not name.startswith(_DETAIL):
            mixed += offsets_K[:, None]
        # float32, even if the other weights are in half precision: it is a few kilobytes, and was rounded before.
        tensors[name] = mixed.reshape(tensors[name].shape).float().contiguous()
    content: bytes = save(tensors)
    return content


def _append_layer(bundle: Bundle, mixture: Mixture) -> bytes:
    onnx = import_onnx(bundle.contract.name)
    model = onnx.load_from_string(read_weights(bundle))
    graph = model.graph
    (output,) = graph.output
    taken = {name for node in graph.node for name in (*node.input, *node.output)}
    parts = ("unmixed", "weights", "offsets")
    before, weights, offsets = (_make_unused_name(f"{output.name}_{part}", taken) for part in parts)
    for node in graph.node:
        for names in (node.input, node.output):
            names[:] = [before if name == output.name else name for name in names]
    num = len(mixture.offsets_K)
    for name, values in ((weights, mixture.weights_KK.reshape(num, num, 1, 1)), (offsets, mixture.offsets_K)):
        graph.initializer.append(onnx.numpy_helper.from_array(values.astype(np.float32), name))
    graph.node.append(onnx.helper.make_node("Conv", [before, weights, offsets], [output.name]))
    content: bytes = model.SerializeToString()
    return content


def _make_unused_name(name: str, taken: set[str]) -> str:
    """A network may have been mixed before, and then has layers of these names."""
    return name if name not in taken else _make_unused_name(f"{name}_", taken)
