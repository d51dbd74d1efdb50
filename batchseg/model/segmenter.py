"""Running a bundle on a device, as its numerics say: torch, eager or compiled; onnxruntime; OpenVINO for CPUs."""

from __future__ import annotations

import os
import shutil
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batchseg.engine.segment import Segmenter
from batchseg.errors import BundleError
from batchseg.model.bundle import Bundle
from batchseg.model.cache import open_section
from batchseg.model.contract import Numerics
from batchseg.model.openvino_segmenter import OpenVinoSegmenter, OpenVinoStreams, Planes
from batchseg.model.torch_graph import load_graph
from batchseg.tiers import DeviceKind


def open_segmenter(bundle: Bundle, *, device: DeviceKind, tile_px: int, halo_px: int = 0) -> Segmenter:
    """Open the bundle's model for tiles of this side. Its output leaves out the halo."""
    numerics = bundle.contract.find_numerics(device)
    if tile_px % bundle.contract.stride_px:
        raise BundleError(
            "the tiles do not fit the network",
            where=bundle.contract.name,
            expected=f"a multiple of {bundle.contract.stride_px} px",
            got=f"{tile_px} px",
            todo="give another core or another halo",
        )
    if numerics.backend == "openvino":
        kind = OpenVinoStreams if numerics.streams > 1 else OpenVinoSegmenter
        return kind(bundle, numerics, tile_px, halo_px)
    if numerics.backend == "onnxruntime":
        return RuntimeSegmenter(bundle, numerics, tile_px, halo_px, device)
    return TorchSegmenter(bundle, numerics, tile_px, halo_px, device)


class TorchSegmenter:
    """Torch, channels last. Each call sets the threads of the calling thread, because Ray sets them to one."""

    def __init__(self, bundle: Bundle, numerics: Numerics, tile_px: int, halo_px: int, device: DeviceKind) -> None:
        import torch

        self._shape = (numerics.batch, len(bundle.contract.bands), tile_px, tile_px)
        self._torch, self._numerics, self._device = torch, numerics, device
        self.batch = numerics.batch
        graph = load_graph(bundle, halo_px=halo_px).to(device)
        graph.network.to(getattr(torch, numerics.precision))
        self._graph = graph.to(memory_format=torch.channels_last)
        if numerics.backend == "compiled":
            self._graph = _compile(self._graph, torch)
            # The first call compiles, and no chunk should wait for it.
            self(np.zeros(self._shape, bundle.contract.input_dtype))

    def __call__(self, x_NBHW: NDArray[Any], /) -> Planes:
        torch = self._torch
        _check_shape(x_NBHW, self._shape)
        torch.set_num_threads(self._numerics.threads)
        with torch.inference_mode():
            x = torch.from_numpy(x_NBHW).to(self._device, non_blocking=True)
            index, confidence = self._graph(x.contiguous(memory_format=torch.channels_last))
        return index.cpu().numpy(), confidence.cpu().numpy()


def _compile(graph: Any, torch: Any) -> Any:
    if shutil.which(os.environ.get("CXX", "g++")) is None:
        raise BundleError(
            "torch.compile needs a C++ compiler", where="backend compiled", todo="install g++, or tune the bundle again"
        )
    # By default torch keeps compiled code in a folder of /tmp whose name any user can take first.
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(open_section("compiled")))
    torch._inductor.config.compile_threads = 1  # more would leave processes behind  # noqa: SLF001
    return torch.compile(graph, dynamic=False)


class RuntimeSegmenter:
    """The network in onnxruntime, the steps around it in torch."""

    def __init__(self, bundle: Bundle, numerics: Numerics, tile_px: int, halo_px: int, device: DeviceKind) -> None:
        import torch

        from batchseg.model.graph import WholeGraph
        from batchseg.model.onnx_graph import RuntimeNetwork, export_onnx

        contract = bundle.contract
        self._shape = (numerics.batch, len(contract.bands), tile_px, tile_px)
        self._torch, self._threads, self._device = torch, numerics.threads, device
        self.batch = numerics.batch
        own_network = None if contract.is_onnx else load_graph(bundle).network
        network = RuntimeNetwork(export_onnx(bundle, own_network, tile_px), numerics, device)
        self._graph = WholeGraph(network, contract.mean, contract.std, halo_px=halo_px).to(device)

    def __call__(self, x_NBHW: NDArray[Any], /) -> Planes:
        _check_shape(x_NBHW, self._shape)
        self._torch.set_num_threads(self._threads)
        with self._torch.inference_mode():
            index, confidence = self._graph(self._torch.from_numpy(x_NBHW).to(self._device))
        return index.cpu().numpy(), confidence.cpu().numpy()


def _check_shape(x_NBHW: NDArray[Any], shape: tuple[int, ...]) -> None:
    """Torch would take any shape, but might round differently in a batch of another size."""
    if x_NBHW.shape != shape:
        raise ValueError(f"tiles must be of shape {shape}, got {x_NBHW.shape}")
