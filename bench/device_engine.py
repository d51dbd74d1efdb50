"""The engine alone on one device: whole chunks are uploaded, and whole maps are downloaded.

Theory of operation
-------------------
The product's worker sends batches of tiles to the device; this engine sends whole chunks, so that the device never
waits for the host. A chunk with its halo is uploaded once, as raw uint8 from pinned memory. Its tiles are strided views
on the device. Each batch is gathered into one input buffer of the bundle's fixed shape, and a short batch is filled up
with zeros. Normalisation, network, upsampling and decision are one graph. The cores are written into the chunk's map,
also on the device. Two bytes per pixel are downloaded.

A *slot* has the buffers of one chunk on host and device. Three streams (up, compute, down) follow each other by events.
With three slots, one chunk is uploaded and another downloaded while a third is computed. Threads on the host fill and
empty slots. On a CPU the same code runs in order and without events; a test compares it there with the ordinary engine,
byte for byte.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from batchseg.model.bundle import Bundle
from batchseg.model.torch_graph import load_graph
from batchseg.tiers import DeviceKind

How = Literal["eager", "compiled", "graph"]
"""`graph` is a CUDA graph of the eager kernels, recorded once and replayed."""


@dataclass(slots=True)
class Slot:
    host_in_BHW: Tensor
    host_out_LHW: Tensor
    """Class indexes and confidences."""
    device_in_BHW: Tensor
    device_out_LHW: Tensor
    events: dict[str, Any] = field(default_factory=dict)

    def wait(self) -> None:
        """Wait until the map of this slot is on the host."""
        if "down" in self.events:
            self.events["down"].synchronize()

    def read_compute_s(self) -> float:
        """Time that the device computed, without waiting for uploads. Valid after `wait`; 0 on a CPU."""
        return float(self.events["begun"].elapsed_time(self.events["computed"])) / 1000 if self.events else 0.0


class DeviceEngine:
    """One model on one device, for chunks of at most `chunk_px`."""

    def __init__(self, bundle: Bundle, device: DeviceKind, *, core_px: int, chunk_px: int, how: How = "eager") -> None:
        contract = bundle.contract
        numerics = contract.find_numerics(device)
        self.batch, self.core_px, self.halo_px = numerics.batch, core_px, contract.halo_px
        self.tile_px, self._chunk_px, self._bands = core_px + 2 * contract.halo_px, chunk_px, len(contract.bands)
        self._on_gpu, self._device = device == "cuda", torch.device(device)
        torch.set_num_threads(numerics.threads)
        graph = load_graph(bundle).to(device)
        graph.network.to(getattr(torch, numerics.precision))
        self._graph: Any = graph.to(memory_format=torch.channels_last)
        self._streams = {name: torch.cuda.Stream() for name in ("up", "compute", "down")} if self._on_gpu else {}
        shape = (self.batch, self._bands, self.tile_px, self.tile_px)
        self.x_NBHW = torch.zeros(shape, dtype=torch.uint8, device=device).to(memory_format=torch.channels_last)
        """The only input buffer: a recorded graph reads from this address."""
        with torch.inference_mode():
            self.forward = self._make_forward(how)
        if self._on_gpu:
            torch.cuda.synchronize()  # the streams do not wait for work outside of them

    def _make_forward(self, how: How) -> Any:
        """A function without arguments, from the input buffer to class indexes and confidences."""
        if how == "compiled":
            self._graph = torch.compile(self._graph, dynamic=False)
        for _ in range(3):  # the first calls compile and choose kernels
            self._graph(self.x_NBHW)
        if how != "graph":
            return lambda: self._graph(self.x_NBHW)
        if not self._on_gpu:
            raise ValueError("only a GPU replays graphs; use eager or compiled")
        torch.cuda.synchronize()
        recorded = torch.cuda.CUDAGraph()
        with torch.cuda.graph(recorded):
            output = self._graph(self.x_NBHW)

        def replay() -> Any:
            recorded.replay()
            return output

        return replay

    def new_slot(self) -> Slot:
        side_px = self._chunk_px + 2 * self.halo_px
        pinned: dict[str, Any] = {"dtype": torch.uint8, "pin_memory": self._on_gpu}
        on_device: dict[str, Any] = {"dtype": torch.uint8, "device": self._device}
        return Slot(
            torch.empty((self._bands, side_px, side_px), **pinned),
            torch.empty((2, self._chunk_px, self._chunk_px), **pinned),
            torch.empty((self._bands, side_px, side_px), **on_device),
            torch.empty((2, self._chunk_px, self._chunk_px), **on_device),
        )

    def enqueue(self, slot: Slot, num_rows: int, num_cols: int) -> None:
        """Compute the map of these cores from the pixels in the slot. On a GPU this returns at once."""
        if self._on_gpu:
            names = ("up", "begun", "computed", "down")
            slot.events = {name: torch.cuda.Event(enable_timing=True) for name in names}
        with torch.inference_mode():
            with self._on("up"):
                slot.device_in_BHW.copy_(slot.host_in_BHW, non_blocking=True)
                self._mark(slot, "up")
            with self._on("compute", after=slot.events.get("up")):
                self._mark(slot, "begun")
                self._compute(slot, num_rows, num_cols)
                self._mark(slot, "computed")
            with self._on("down", after=slot.events.get("computed")):
                slot.host_out_LHW.copy_(slot.device_out_LHW, non_blocking=True)
                self._mark(slot, "down")

    def _compute(self, slot: Slot, num_rows: int, num_cols: int) -> None:
        core_px, inner = self.core_px, slice(self.halo_px, self.halo_px + self.core_px)
        tiles_BRCHW = slot.device_in_BHW.unfold(1, self.tile_px, core_px).unfold(2, self.tile_px, core_px)
        tiles_RCBHW = tiles_BRCHW.permute(1, 2, 0, 3, 4)
        per_side = self._chunk_px // core_px
        out_RCLHW = slot.device_out_LHW.view(2, per_side, core_px, per_side, core_px).permute(1, 3, 0, 2, 4)
        every = torch.arange(num_rows * num_cols, device=self._device)
        for tiles in every.split(self.batch):
            rows, cols = tiles // num_cols, tiles % num_cols
            self.x_NBHW[: len(tiles)] = tiles_RCBHW[rows, cols]
            self.x_NBHW[len(tiles) :] = 0
            for layer, output_NHW in enumerate(self.forward()):
                out_RCLHW[rows, cols, layer] = output_NHW[: len(tiles), inner, inner]

    def _on(self, name: str, after: Any = None) -> AbstractContextManager[Any]:
        if not self._on_gpu:
            return nullcontext()
        if after is not None:
            self._streams[name].wait_event(after)
        return torch.cuda.stream(self._streams[name])

    def _mark(self, slot: Slot, name: str) -> None:
        if self._on_gpu:
            slot.events[name].record()
