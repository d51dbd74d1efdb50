"""Running a bundle on a device, as its numerics say: torch, eager or compiled; OpenVINO for CPUs; onnxruntime.

OpenVINO needs torch and the network's library only once, to convert the graph; the converted one is kept in a cache by
bundle, shape and versions, our own code of the graph among them, so that the next worker starts without importing
either.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batchseg.atomic import create_folder
from batchseg.engine.segment import Segmenter
from batchseg.errors import BundleError
from batchseg.model.bundle import Bundle, read_weights
from batchseg.model.contract import Numerics
from batchseg.model.fetch import cache_folder
from batchseg.tiers import DeviceKind

Labels = NDArray[np.uint8]


def open_segmenter(bundle: Bundle, *, device: DeviceKind, tile_px: int, halo_px: int = 0) -> Segmenter:
    """The bundle's model for tiles of this side; it answers for all but a halo."""
    numerics = bundle.contract.find_numerics(device)
    if tile_px % bundle.contract.stride_px:
        expected = f"a multiple of {bundle.contract.stride_px} px"
        raise BundleError(
            "the tile does not fit the model", where=bundle.contract.name, expected=expected, got=f"{tile_px} px"
        )
    if numerics.backend == "openvino":
        kind = OpenVinoStreams if numerics.streams > 1 else OpenVinoSegmenter
        return kind(bundle, numerics, tile_px, halo_px)
    if numerics.backend == "onnxruntime":
        return RuntimeSegmenter(bundle, numerics, tile_px, halo_px, device)
    return TorchSegmenter(bundle, numerics, tile_px, halo_px, device)


def check_device(device: DeviceKind) -> None:
    """Before any work of torch that can be done on either kind."""
    import torch

    if device == "cuda" and not torch.cuda.is_available():
        todo = "install a torch with CUDA, or give --device cpu"
        raise BundleError("torch finds no GPU here", where="--device", got=device, todo=todo)


def load_graph(bundle: Bundle, *, halo_px: int = 0) -> Any:
    """The bundle's graph in torch, ready for inference in float32; it answers for all but a halo."""
    from safetensors.torch import load

    from batchseg.model.graph import WholeGraph
    from batchseg.model.networks import build_network, folded

    contract = bundle.contract
    network = build_network(contract.architecture, num_bands=len(contract.bands), num_classes=len(contract.classes))
    weights = {name: tensor.float() for name, tensor in load(read_weights(bundle)).items()}
    try:
        network.load_state_dict(weights, strict=True, assign=False)
    except RuntimeError as error:
        raise BundleError(
            "the weights are not of this architecture", where=contract.name, got=str(error).splitlines()[0]
        ) from error
    return WholeGraph(folded(network.eval()), contract.mean, contract.std, halo_px=halo_px).eval()


class TorchSegmenter:
    """Torch, channels last. Its threads are set for the calling thread each time: Ray sets them to one."""

    def __init__(self, bundle: Bundle, numerics: Numerics, tile_px: int, halo_px: int, device: DeviceKind) -> None:
        import torch

        self._shape = (numerics.batch, len(bundle.contract.bands), tile_px, tile_px)
        self._torch, self._numerics, self._device = torch, numerics, device
        self.batch = numerics.batch
        graph = load_graph(bundle, halo_px=halo_px).to(device)
        graph.network.to(getattr(torch, numerics.precision))
        self._graph = graph.to(memory_format=torch.channels_last)
        if numerics.backend == "compiled":
            self._graph = _compiled(self._graph, torch)
            self(
                np.zeros(self._shape, input_type(bundle))
            )  # compiled at its first call, which no chunk should wait for

    def __call__(self, x_NBHW: NDArray[Any], /) -> tuple[Labels, Labels]:
        torch = self._torch
        _check_shape(x_NBHW, self._shape)
        torch.set_num_threads(self._numerics.threads)
        with torch.inference_mode():
            x = torch.from_numpy(x_NBHW).to(self._device, non_blocking=True)
            index, confidence = self._graph(x.contiguous(memory_format=torch.channels_last))
        return index.cpu().numpy(), confidence.cpu().numpy()


def _compiled(graph: Any, torch: Any) -> Any:
    if shutil.which(os.environ.get("CXX", "g++")) is None:
        raise BundleError(
            "torch.compile needs a C++ compiler", where="backend compiled", todo="install g++, or tune the bundle again"
        )
    torch._inductor.config.compile_threads = 1  # else it leaves processes behind  # noqa: SLF001
    return torch.compile(graph, dynamic=False)


class RuntimeSegmenter:
    """The network in onnxruntime, what is around it in torch."""

    def __init__(self, bundle: Bundle, numerics: Numerics, tile_px: int, halo_px: int, device: DeviceKind) -> None:
        import torch

        from batchseg.model.graph import WholeGraph
        from batchseg.model.onnx_graph import RuntimeNetwork, network_as_onnx

        contract = bundle.contract
        self._shape = (numerics.batch, len(contract.bands), tile_px, tile_px)
        self._torch, self._threads, self._device = torch, numerics.threads, device
        self.batch = numerics.batch
        ours = None if contract.is_onnx else load_graph(bundle).network
        network = RuntimeNetwork(network_as_onnx(bundle, ours, tile_px), numerics, device)
        self._graph = WholeGraph(network, contract.mean, contract.std, halo_px=halo_px).to(device)

    def __call__(self, x_NBHW: NDArray[Any], /) -> tuple[Labels, Labels]:
        _check_shape(x_NBHW, self._shape)
        self._torch.set_num_threads(self._threads)
        with self._torch.inference_mode():
            index, confidence = self._graph(self._torch.from_numpy(x_NBHW).to(self._device))
        return index.cpu().numpy(), confidence.cpu().numpy()


class OpenVinoSegmenter:
    """OpenVINO on a CPU, compiled for one shape."""

    def __init__(self, bundle: Bundle, numerics: Numerics, tile_px: int, halo_px: int) -> None:
        self.batch = numerics.batch
        contract = bundle.contract
        self._shape = (numerics.batch, len(contract.bands), tile_px, tile_px)
        path = _converted(bundle, self._shape, halo_px, input_type(bundle))
        self._request = _compiled_for_cpu(path, numerics).create_infer_request()

    def __call__(self, x_NBHW: NDArray[Any], /) -> tuple[Labels, Labels]:
        _check_shape(x_NBHW, self._shape)
        found = self._request.infer([x_NBHW], share_inputs=True, share_outputs=True)
        return found[0], found[1]


class OpenVinoStreams:
    """OpenVINO on a CPU: several forwards of one tile side by side.

    A batch that is cut into one share a core ends with its last share, so whoever borrows a core for a moment (a
    decoder, say) keeps all others waiting. Streams share nothing and take the next tile when they have done theirs.
    """

    def __init__(self, bundle: Bundle, numerics: Numerics, tile_px: int, halo_px: int) -> None:
        self.batch = numerics.batch
        self._shape = (1, len(bundle.contract.bands), tile_px, tile_px)
        self._side_px = tile_px - 2 * halo_px
        path = _converted(bundle, self._shape, halo_px, input_type(bundle))
        self._queue = openvino_module().AsyncInferQueue(_compiled_for_cpu(path, numerics), numerics.streams)
        self._queue.set_callback(_keep)

    def __call__(self, x_NBHW: NDArray[Any], /) -> tuple[Labels, Labels]:
        """Any number of tiles up to a batch."""
        if x_NBHW.shape[1:] != self._shape[1:]:
            raise ValueError(f"tiles of {x_NBHW.shape[1:]}, made for {self._shape[1:]}")
        index_NHW = np.empty((len(x_NBHW), self._side_px, self._side_px), np.uint8)
        confidence_NHW = np.empty_like(index_NHW)
        for index in range(len(x_NBHW)):
            kept = index_NHW[index], confidence_NHW[index]
            self._queue.start_async([x_NBHW[index : index + 1]], kept, share_inputs=True)
        self._queue.wait_all()
        return index_NHW, confidence_NHW


def _keep(request: Any, kept: tuple[Labels, Labels]) -> None:
    for to_HW, found in zip(kept, request.output_tensors, strict=True):
        to_HW[:] = found.data[0]


def _compiled_for_cpu(path: Path, numerics: Numerics) -> Any:
    options = {
        "INFERENCE_PRECISION_HINT": {"float32": "f32", "bfloat16": "bf16"}[numerics.precision],
        "INFERENCE_NUM_THREADS": numerics.threads,
        "NUM_STREAMS": numerics.streams,
    }
    return openvino_module().Core().compile_model(path, "CPU", options)


def input_type(bundle: Bundle) -> str:
    """Of the arrays that a segmenter is given."""
    return "uint8" if bundle.contract.dtype == "uint8" else "float32"


def _check_shape(x_NBHW: NDArray[Any], shape: tuple[int, ...]) -> None:
    """Torch would take any, and might round differently in a batch of another size."""
    if x_NBHW.shape != shape:
        raise ValueError(f"tiles of {x_NBHW.shape}, made for {shape}")


def _converted(bundle: Bundle, shape: tuple[int, ...], halo_px: int, dtype: str) -> Path:
    """The graph as an OpenVINO model file, converted once a machine."""
    versions = [version(name) for name in ("openvino", "torch", "transformers")]
    key = f"{bundle.graph_digest} {shape} {halo_px} {dtype} {versions} {_code_digest()}"
    name = hashlib.blake2b(key.encode(), digest_size=16).hexdigest()
    folder = cache_folder() / "openvino" / name
    if not (folder / "graph.xml").exists():
        _convert(bundle, shape, halo_px, dtype, folder)
    return folder / "graph.xml"


def _code_digest() -> str:
    """Of our own code that makes the graph: a cache must not outlive a change of it."""
    sources = [Path(__file__).with_name(name).read_bytes() for name in ("graph.py", "networks.py", "onnx_graph.py")]
    return hashlib.blake2b(b"".join(sources), digest_size=16).hexdigest()


def _convert(bundle: Bundle, shape: tuple[int, ...], halo_px: int, dtype: str, folder: Path) -> None:
    """Write the model file atomically: two workers may convert at once, and one of them may die."""
    graph = _openvino_graph(bundle, shape, halo_px, dtype)
    with create_folder(folder) as unfinished:
        openvino_module().save_model(graph, unfinished / "graph.xml", compress_to_fp16=False)


def _openvino_graph(bundle: Bundle, shape: tuple[int, ...], halo_px: int, dtype: str) -> Any:
    import torch

    openvino = openvino_module()
    if bundle.contract.is_onnx:
        from batchseg.model.onnx_graph import joined

        return joined(openvino, bundle, shape, halo_px, dtype)
    example = torch.zeros(shape, dtype=getattr(torch, dtype))
    kind = {"uint8": openvino.Type.u8, "float32": openvino.Type.f32}[dtype]
    with torch.no_grad(), warnings.catch_warnings():
        # Tracing keeps shapes as constants and warns of it. They are constants here.
        warnings.simplefilter("ignore")
        graph = load_graph(bundle, halo_px=halo_px)
        return openvino.convert_model(graph, example_input=example, input=[(list(shape), kind)], share_weights=False)


def openvino_module() -> Any:
    """OpenVINO, which else would tell its makers of each import and conversion, and write into the home folder.

    None as a module makes its import fail, and then OpenVINO takes a stand-in of its own that reports nothing.
    """
    modules: dict[str, Any] = sys.modules
    modules.setdefault("openvino_telemetry", None)
    import openvino

    return openvino
