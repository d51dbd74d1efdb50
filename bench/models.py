"""Speed, use of the machine and IoU of every bundle, measured in one run.

    python -m bench.models [BUNDLE ...] [--rounds 3] [--threads 2]

The default is all shipped bundles. Each runs with its numerics in its own process. Bundles take turns in rounds, so
that a disturbance affects all of them; the fastest round counts. Mpx are pixels of cores, which end up in a mask. GFLOP
are those of the network alone, where a multiplication with its addition counts as two. The share of the peak compares
them with the fastest product of two matrices of the same precision in torch on this machine. IoU is measured on the
scenes that the bundle's lineage names for validation, in tiles as in a run: with its numerics, and in float32.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from batchseg.adapt.trial import Trial, make_synthetic_tiles, run_trial
from batchseg.errors import BatchsegError
from batchseg.model.architecture import OnnxSpec
from batchseg.model.bundle import Bundle, open_bundle, zoo_names
from batchseg.model.contract import Contract, Numerics
from batchseg.model.lineage import find_training
from batchseg.model.networks import build_network
from batchseg.model.segmenter import open_segmenter
from batchseg.recipe.recipe import Tiling
from batchseg.schema import build
from batchseg.training.checks import load_train_recipe
from batchseg.training.ground import TrainingGround, read_ground
from batchseg.training.train_recipe import TrainRecipe
from batchseg.training.validation import compute_miou, measure_iou

MATRIX_SIDE = 3072
CONFIGS = Path(__file__).resolve().parents[1] / "configs" / "train"


@dataclass(frozen=True, slots=True)
class BundleRow:
    name: str
    numerics: Numerics
    seconds_per_tile: float
    gflop: float | None
    peak_share: float | None
    miou: float | None
    miou_float32: float | None


class RunClassifier:
    """A segmenter behind the interface of `measure_iou`: one tile per call, in batches as large as in a run."""

    def __init__(self, bundle: Bundle, numerics: Numerics) -> None:
        contract = replace(bundle.contract, numerics={"cpu": numerics})
        tile_px = contract.default_tile_px
        self._halo_px = contract.halo_px
        self._segmenter = open_segmenter(
            replace(bundle, contract=contract), device="cpu", tile_px=tile_px, halo_px=self._halo_px
        )
        self._batch = numerics.batch

    def eval(self) -> None:
        """Nothing to do: a segmenter is never in training mode."""

    def __call__(self, x_NBHW: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = np.ascontiguousarray(x_NBHW.numpy())
        sides = ((0, 0), (self._halo_px,) * 2, (self._halo_px,) * 2)
        index, confidence = (np.pad(of[:1], sides) for of in self._segmenter(np.repeat(x, self._batch, axis=0)))
        return torch.from_numpy(index), torch.from_numpy(confidence)


def measure_peak_flops(precision: str, threads: int) -> float:
    """Speed of the product of two square matrices on this machine."""
    torch.set_num_threads(threads)
    side = MATRIX_SIDE
    if precision == "int8":
        whole = torch.randint(-9, 9, (side, side), dtype=torch.int8)
        return 2 * side**3 / measure_fastest_s(lambda: torch._int_mm(whole, whole))  # noqa: SLF001 - torch has no other
    matrix = torch.randn(side, side).to(getattr(torch, precision))
    return 2 * side**3 / measure_fastest_s(lambda: matrix @ matrix)


def measure_fastest_s(work: Callable[[], Any], times: int = 8) -> float:
    spent_s = []
    for _ in range(times):
        begun_s = time.perf_counter()
        work()
        spent_s.append(time.perf_counter() - begun_s)
    return min(spent_s)


def count_gflop(contract: Contract) -> float | None:
    """GFLOP of one tile; None for a network whose layers are unknown."""
    architecture = contract.architecture
    if isinstance(architecture, OnnxSpec) and architecture.of is not None:
        architecture = architecture.of
    if isinstance(architecture, OnnxSpec):
        return None
    bands, classes, side_px = len(contract.bands), len(contract.classes), contract.default_tile_px
    network = build_network(architecture, num_bands=bands, num_classes=classes).eval()
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        network(torch.zeros(1, bands, side_px, side_px))
    return float(counter.get_total_flops() / 1e9)


def find_precision(contract: Contract, numerics: Numerics) -> str:
    return quantized_type(contract) or numerics.precision


def quantized_type(contract: Contract) -> str | None:
    return contract.architecture.quantized if isinstance(contract.architecture, OnnxSpec) else None


def read_validation_ground(contract: Contract) -> TrainingGround | None:
    """Read the ground that the bundle's recipe validates on; None if it is unknown or not on this machine."""
    training = find_training(contract.lineage)
    if training is None:
        return None
    try:
        recipe = build(TrainRecipe, training.recipe, where=f"lineage of {contract.name}")
        known = CONFIGS / f"{recipe.name}.yaml"
        if recipe.validate.rasters and known.exists():
            recipe = load_train_recipe(known)  # the lineage names rasters without their folders
        return read_ground(recipe.validate, recipe, contract.mean)
    except BatchsegError as error:
        print(f"{contract.name}: IoU is not measured: {error}", flush=True)
        return None


def measure_miou(bundle: Bundle, numerics: Numerics, ground: TrainingGround | None) -> float | None:
    if ground is None:
        return None
    graph: Any = RunClassifier(bundle, numerics)
    return compute_miou(measure_iou(graph, ground, halo_px=bundle.contract.halo_px))


def measure_bundle(ref: str, trial: Trial, numerics: Numerics, peaks: dict[str, float]) -> BundleRow:
    bundle, ground = open_bundle(ref), read_validation_ground(open_bundle(ref).contract)
    gflop = count_gflop(bundle.contract)
    peak = peaks[find_precision(bundle.contract, numerics)]
    share = None if gflop is None else gflop * 1e9 / trial.seconds_per_tile / peak
    exact = Numerics(backend="openvino", precision="float32", batch=1, threads=numerics.threads)
    # A quantised network keeps its eight bits in any precision; its float32 is the bundle that it was made from.
    miou_exact = None if quantized_type(bundle.contract) else measure_miou(bundle, exact, ground)
    return BundleRow(
        ref, numerics, trial.seconds_per_tile, gflop, share, measure_miou(bundle, numerics, ground), miou_exact
    )


def print_rows(rows: list[BundleRow], peaks: dict[str, float]) -> None:
    print("peak: " + ", ".join(f"{name} {value / 1e9:.0f} GFLOP/s" for name, value in peaks.items()))
    print("| bundle | numerics | ms per tile | tiles/s | Mpx/s | GFLOP per tile | of the peak | mIoU | in float32 |")
    print("|---|---|---|---|---|---|---|---|---|")
    for row in rows:
        n, per_s = row.numerics, 1 / row.seconds_per_tile
        cells = (
            row.name,
            f"{n.backend} {n.precision}, batch {n.batch}",
            f"{1000 * row.seconds_per_tile:.1f}",
            f"{per_s:.1f}",
            f"{per_s * Tiling().core ** 2 / 1e6:.1f}",
            *(format_figure(value, form) for value, form in ((row.gflop, ".2f"), (row.peak_share, ".0%"))),
            *(format_figure(value, ".4f") for value in (row.miou, row.miou_float32)),
        )
        print(f"| {' | '.join(cells)} |")


def format_figure(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundles", nargs="*", metavar="BUNDLE", default=[f"zoo:{name}" for name in zoo_names()])
    parser.add_argument("--rounds", type=int, default=3, help="rounds; the fastest counts (default 3)")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="CPU threads (default: all)")
    args = parser.parse_args()
    bundles = {ref: open_bundle(ref) for ref in args.bundles}
    numerics = {
        ref: replace(bundle.contract.find_numerics("cpu"), threads=args.threads) for ref, bundle in bundles.items()
    }
    tiles = {
        ref: make_synthetic_tiles(one, numerics[ref].batch, one.contract.default_tile_px)
        for ref, one in bundles.items()
    }
    best: dict[str, Trial] = {}
    for _ in range(args.rounds):
        for ref, bundle in bundles.items():
            trial = run_trial(bundle, numerics[ref], "cpu", tiles[ref])
            if ref not in best or trial.seconds_per_tile < best[ref].seconds_per_tile:
                best[ref] = trial
    precisions = sorted({find_precision(bundles[ref].contract, numerics[ref]) for ref in bundles} | {"float32"})
    peaks = {name: measure_peak_flops(name, args.threads) for name in precisions}
    print_rows([measure_bundle(ref, best[ref], numerics[ref], peaks) for ref in bundles], peaks)


if __name__ == "__main__":
    main()
