"""Running a bundle in OpenVINO, on CPUs.

Torch and the network's library are needed only once, to convert the graph. The converted graph is kept in a cache, so
that the next worker starts without importing either. Its key holds the bundle, the shape, the versions of the libraries
and our own code that makes the graph.
"""

from __future__ import annotations

import hashlib
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batchseg.model.bundle import Bundle
from batchseg.model.cache import open_entry
from batchseg.model.contract import Numerics
from batchseg.model.packages import import_openvino
from batchseg.model.torch_graph import load_graph

Planes = tuple[NDArray[np.uint8], NDArray[np.uint8]]
"""Class indexes and confidences."""


class OpenVinoSegmenter:
    """OpenVINO with batches of one shape."""

    def __init__(self, bundle: Bundle, numerics: Numerics, tile_px: int, halo_px: int) -> None:
        self.batch = numerics.batch
        contract = bundle.contract
        self._shape = (numerics.batch, len(contract.bands), tile_px, tile_px)
        path = _find_converted(bundle, self._shape, halo_px)
        self._request = _compile(path, numerics).create_infer_request()

    def __call__(self, x_NBHW: NDArray[Any], /) -> Planes:
        if x_NBHW.shape != self._shape:
            raise ValueError(f"tiles must be of shape {self._shape}, got {x_NBHW.shape}")
        outputs = self._request.infer([x_NBHW], share_inputs=True, share_outputs=True)
        return outputs[0], outputs[1]


class OpenVinoStreams:
    """OpenVINO with several forwards side by side, each of one tile.

    If a batch is cut into one share per core, it ends with its slowest share. A decoder that borrows a core for a
    moment then keeps all others waiting. Streams share nothing, and each takes the next tile when it is ready.
    """

    def __init__(self, bundle: Bundle, numerics: Numerics, tile_px: int, halo_px: int) -> None:
        self.batch = numerics.batch
        self._shape = (1, len(bundle.contract.bands), tile_px, tile_px)
        self._side_px = tile_px - 2 * halo_px
        path = _find_converted(bundle, self._shape, halo_px)
        self._queue = import_openvino().AsyncInferQueue(_compile(path, numerics), numerics.streams)
        self._queue.set_callback(_copy_outputs)

    def __call__(self, x_NBHW: NDArray[Any], /) -> Planes:
        """Any number of tiles up to a batch."""
        if x_NBHW.shape[1:] != self._shape[1:]:
            raise ValueError(f"tiles must be of shape {self._shape[1:]}, got {x_NBHW.shape[1:]}")
        index_NHW = np.empty((len(x_NBHW), self._side_px, self._side_px), np.uint8)
        confidence_NHW = np.empty_like(index_NHW)
        for number in range(len(x_NBHW)):
            targets = index_NHW[number], confidence_NHW[number]
            self._queue.start_async([x_NBHW[number : number + 1]], targets, share_inputs=True)
        self._queue.wait_all()
        return index_NHW, confidence_NHW


def _copy_outputs(request: Any, targets: Planes) -> None:
    for target_HW, output in zip(targets, request.output_tensors, strict=True):
        target_HW[:] = output.data[0]


def _compile(path: Path, numerics: Numerics) -> Any:
    options = {
        "INFERENCE_PRECISION_HINT": {"float32": "f32", "bfloat16": "bf16"}[numerics.precision],
        "INFERENCE_NUM_THREADS": numerics.threads,
        "NUM_STREAMS": numerics.streams,
    }
    return import_openvino().Core().compile_model(path, "CPU", options)


def _find_converted(bundle: Bundle, shape: tuple[int, ...], halo_px: int) -> Path:
    """The graph as an OpenVINO model file, converted once per machine."""
    versions = [version(name) for name in ("openvino", "torch", "transformers")]
    key = f"{bundle.graph_digest} {shape} {halo_px} {bundle.contract.input_dtype} {versions} {_hash_code()}"
    name = hashlib.blake2b(key.encode(), digest_size=16).hexdigest()
    return open_entry("openvino", name, lambda folder: _write_converted(bundle, shape, halo_px, folder)) / "graph.xml"


def _hash_code() -> str:
    """Digest of our own code that makes the graph: a converted graph must not outlive a change of it."""
    sources = [Path(__file__).with_name(name).read_bytes() for name in ("graph.py", "networks.py", "onnx_graph.py")]
    return hashlib.blake2b(b"".join(sources), digest_size=16).hexdigest()


def _write_converted(bundle: Bundle, shape: tuple[int, ...], halo_px: int, folder: Path) -> None:
    graph = _convert(bundle, shape, halo_px)
    import_openvino().save_model(graph, folder / "graph.xml", compress_to_fp16=False)


def _convert(bundle: Bundle, shape: tuple[int, ...], halo_px: int) -> Any:
    import torch

    openvino, dtype = import_openvino(), bundle.contract.input_dtype
    if bundle.contract.is_onnx:
        from batchseg.model.onnx_graph import join_graphs

        return join_graphs(openvino, bundle, shape, halo_px, dtype)
    example = torch.zeros(shape, dtype=getattr(torch, dtype))
    kind = {"uint8": openvino.Type.u8, "float32": openvino.Type.f32}[dtype]
    with torch.no_grad(), warnings.catch_warnings():
        # Tracing warns that it keeps shapes as constants. They are constants here.
        warnings.simplefilter("ignore")
        graph = load_graph(bundle, halo_px=halo_px)
        return openvino.convert_model(graph, example_input=example, input=[(list(shape), kind)], share_weights=False)
