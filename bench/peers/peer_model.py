"""The model that every peer runs: one network with one set of weights, for tiles of one size.

It has two forms. *labels* is for peers that write the labels of each tile: uint8, N x H x W. *scores* is for peers that
blend overlapping tiles: float32 logits at full resolution, N x classes x H x W. Either form runs in three ways. `eager`
and `compiled` are torch in bfloat16, channels last, as a careful user of the peer would set it up. `openvino` is our
compiled graph; for labels it is the same object that our engine runs.

    python -m bench.peers.peer_model --model zoo:synthetic-bulk --backend compiled --form labels --cache DIR

only makes a model, so that the caches of libraries are filled before anything is timed.
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
from batchseg.model.packages import import_openvino
from batchseg.model.segmenter import open_segmenter
from batchseg.model.torch_graph import load_graph

Backend = Literal["eager", "compiled", "openvino"]
Form = Literal["labels", "scores"]

CORE_PX = 512
TORCH_BATCH = 2
"""Tiles per forward in torch: of 1, 2, 4 and 8 the fastest on our machine, or within 3 % of it, for both models."""
THREADS = os.cpu_count() or 1


class PeerModel:
    """A model for batches of uint8 tiles; the last batch may be short."""

    def __init__(self, ref: str, backend: Backend, form: Form, cache: Path) -> None:
        torch.set_num_threads(THREADS)
        bundle = open_bundle(ref)
        self.halo_px = bundle.contract.halo_px
        self.tile_px = CORE_PX + 2 * self.halo_px
        self.batch = bundle.contract.find_numerics("cpu").batch if backend == "openvino" else TORCH_BATCH
        self.num_bands = len(bundle.contract.bands)
        if backend != "openvino":
            self._run = _run_in_torch(bundle, form, compiled=backend == "compiled", cache=cache)
        elif form == "labels":
            self._run = _run_labels_in_openvino(bundle, self.tile_px)
        else:
            self._run = _run_scores_in_openvino(bundle, (self.batch, self.num_bands, self.tile_px, self.tile_px), cache)
        self(torch.zeros((self.batch, self.num_bands, self.tile_px, self.tile_px), dtype=torch.uint8))

    def __call__(self, x_NBHW: Tensor) -> Tensor:
        """Run a batch. Compiled graphs have one shape, so a short batch is filled up with zeros."""
        num_tiles = len(x_NBHW)
        if num_tiles < self.batch:
            x_NBHW = torch.cat([x_NBHW, x_NBHW.new_zeros((self.batch - num_tiles, *x_NBHW.shape[1:]))])
        output: Tensor = self._run(x_NBHW)[:num_tiles]
        return output


class _Scores(nn.Module):
    def __init__(self, whole: WholeGraph) -> None:
        super().__init__()
        self.whole = whole

    def forward(self, x_NBHW: Tensor) -> Tensor:
        return self.whole.scores(x_NBHW)


class _Labels(_Scores):
    def forward(self, x_NBHW: Tensor) -> Tensor:
        return self.whole.scores(x_NBHW).argmax(1).to(torch.uint8)


def _run_in_torch(bundle: Bundle, form: Form, *, compiled: bool, cache: Path) -> Any:
    whole = load_graph(bundle)
    whole.network.to(torch.bfloat16)
    graph = (_Scores if form == "scores" else _Labels)(whole.to(memory_format=torch.channels_last))
    run: Any = graph
    if compiled:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(cache / "inductor")
        torch._inductor.config.compile_threads = 1  # noqa: SLF001 - otherwise it leaves processes behind
        run = torch.compile(graph, dynamic=False)

    def run_batch(x_NBHW: Tensor) -> Tensor:
        with torch.inference_mode():
            output: Tensor = run(x_NBHW.contiguous(memory_format=torch.channels_last))
        return output

    return run_batch


def _run_labels_in_openvino(bundle: Bundle, tile_px: int) -> Any:
    halo_px = bundle.contract.halo_px
    segmenter: Segmenter = open_segmenter(bundle, device="cpu", tile_px=tile_px, halo_px=halo_px)
    sides = ((0, 0), (halo_px, halo_px), (halo_px, halo_px))
    return lambda x_NBHW: torch.from_numpy(np.pad(segmenter(np.ascontiguousarray(x_NBHW.numpy()))[0], sides))


def _run_scores_in_openvino(bundle: Bundle, shape: tuple[int, ...], cache: Path) -> Any:
    openvino, path = import_openvino(), cache / f"{bundle.graph_digest}-{'x'.join(map(str, shape))}.xml"
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

    def run_batch(x_NBHW: Tensor) -> Tensor:
        x = np.ascontiguousarray(x_NBHW.numpy())
        # The result is the request's own memory. It is valid until the next call; the peer has blended it by then.
        return torch.from_numpy(request.infer([x], share_inputs=True, share_outputs=True)[0])

    return run_batch


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="bundle")
    parser.add_argument("--backend", choices=get_args(Backend), required=True, help="way to run it")
    parser.add_argument("--form", choices=get_args(Form), required=True, help="form of the output")
    parser.add_argument("--cache", type=Path, required=True, help="folder of the caches")
    args = parser.parse_args()
    PeerModel(args.model, args.backend, args.form, args.cache)


if __name__ == "__main__":
    main()
