"""What every peer is handed: one network with one set of weights, for tiles of one size.

Two forms. *labels*, for peers that write what each tile says: uint8, N x H x W. *scores*, for peers that blend
overlapping tiles: float32 logits at full resolution, N x classes x H x W. Three ways to run either: `eager` and
`compiled` are torch in bfloat16, channels last, as a careful user of the peer would set it up; `openvino` is our
compiled graph, for labels the very object that our engine runs.

    python -m bench.peers.handed --model zoo:synthetic-bulk --backend compiled --form labels --cache DIR

only makes one, so that what a library caches between runs is there before anything is timed.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn

from batchseg.engine.segment import Segmenter
from batchseg.model.bundle import Bundle, open_bundle
from batchseg.model.graph import WholeGraph
from batchseg.model.segmenter import load_graph, open_segmenter, openvino_module

Backend = Literal["eager", "compiled", "openvino"]
Form = Literal["labels", "scores"]

CORE_PX = 512
TORCH_BATCH = 2
"""Tiles a forward in torch: of 1, 2, 4 and 8 the fastest here, or within 3 % of it, for both models."""
THREADS = os.cpu_count() or 1


class Handed:
    """A model for batches of uint8 tiles; the last batch may be short."""

    def __init__(self, ref: str, backend: Backend, form: Form, cache: Path) -> None:
        torch.set_num_threads(THREADS)
        bundle = open_bundle(ref)
        self.halo_px = bundle.contract.halo_px
        self.tile_px = CORE_PX + 2 * self.halo_px
        self.batch = bundle.contract.find_numerics("cpu").batch if backend == "openvino" else TORCH_BATCH
        self.num_bands = len(bundle.contract.bands)
        if backend != "openvino":
            self._run = _in_torch(bundle, form, compiled=backend == "compiled", cache=cache)
        elif form == "labels":
            self._run = _labels_in_openvino(bundle, self.tile_px)
        else:
            self._run = _scores_in_openvino(bundle, (self.batch, self.num_bands, self.tile_px, self.tile_px), cache)
        self(torch.zeros((self.batch, self.num_bands, self.tile_px, self.tile_px), dtype=torch.uint8))

    def __call__(self, x_NBHW: Tensor) -> Tensor:
        """Compiled graphs are made for one shape: a short batch is filled with zeros."""
        num_tiles = len(x_NBHW)
        if num_tiles < self.batch:
            x_NBHW = torch.cat([x_NBHW, x_NBHW.new_zeros((self.batch - num_tiles, *x_NBHW.shape[1:]))])
        found: Tensor = self._run(x_NBHW)[:num_tiles]
        return found


class _Scores(nn.Module):
    def __init__(self, whole: WholeGraph) -> None:
        super().__init__()
        self.whole = whole

    def forward(self, x_NBHW: Tensor) -> Tensor:
        return self.whole.scores(x_NBHW)


class _Labels(_Scores):
    def forward(self, x_NBHW: Tensor) -> Tensor:
        return self.whole.scores(x_NBHW).argmax(1).to(torch.uint8)


def _in_torch(bundle: Bundle, form: Form, *, compiled: bool, cache: Path) -> Any:
    whole = load_graph(bundle)
    whole.network.to(torch.bfloat16)
    graph = (_Scores if form == "scores" else _Labels)(whole.to(memory_format=torch.channels_last))
    run: Any = graph
    if compiled:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(cache / "inductor")
        torch._inductor.config.compile_threads = 1  # noqa: SLF001 - else it leaves processes behind
        run = torch.compile(graph, dynamic=False)

    def called(x_NBHW: Tensor) -> Tensor:
        with torch.inference_mode():
            answer: Tensor = run(x_NBHW.contiguous(memory_format=torch.channels_last))
        return answer

    return called


def _labels_in_openvino(bundle: Bundle, tile_px: int) -> Any:
    halo_px = bundle.contract.halo_px
    segmenter: Segmenter = open_segmenter(bundle, device="cpu", tile_px=tile_px, halo_px=halo_px)
    sides = ((0, 0), (halo_px, halo_px), (halo_px, halo_px))
    return lambda x_NBHW: torch.from_numpy(np.pad(segmenter(np.ascontiguousarray(x_NBHW.numpy()))[0], sides))


def _scores_in_openvino(bundle: Bundle, shape: tuple[int, ...], cache: Path) -> Any:
    openvino, path = openvino_module(), cache / f"{bundle.graph_digest}-{'x'.join(map(str, shape))}.xml"
    if not path.exists():
        with torch.no_grad():
            graph = openvino.convert_model(
                _Scores(load_graph(bundle)),
                example_input=torch.zeros(shape, dtype=torch.uint8),
                input=[(list(shape), openvino.Type.u8)],
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        openvino.save_model(graph, path, compress_to_fp16=False)
    numerics = bundle.contract.find_numerics("cpu")
    options = {
        "INFERENCE_PRECISION_HINT": {"float32": "f32", "bfloat16": "bf16"}[numerics.precision],
        "INFERENCE_NUM_THREADS": numerics.threads,
        "NUM_STREAMS": 1,
    }
    request = openvino.Core().compile_model(path, "CPU", options).create_infer_request()

    def called(x_NBHW: Tensor) -> Tensor:
        x = np.ascontiguousarray(x_NBHW.numpy())
        # What comes back is the request's own memory: good until the next call, by when the peer has blended it.
        return torch.from_numpy(request.infer([x], share_inputs=True, share_outputs=True)[0])

    return called


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--backend", choices=get_args(Backend), required=True)
    parser.add_argument("--form", choices=get_args(Form), required=True)
    parser.add_argument("--cache", type=Path, required=True)
    args = parser.parse_args()
    Handed(args.model, args.backend, args.form, args.cache)


if __name__ == "__main__":
    main()
