"""The engine alone on a GPU, without Ray: the share of the bare forward's speed that is left with transfers.

    python -m bench.gpu [--device cuda] [--size 16384] [--models zoo:synthetic-heavy zoo:synthetic-bulk]
                        [--how eager graph compiled] [--usd-per-hour 2.5] [--peak-tflops 989] [--folder DIR]

For each model and each way to run it, host threads decode a scene, `bench/device_engine.py` segments it, and host
threads encode the Zarr. It prints Mpx/s, the share of the bare forward's speed (full batches that never leave the
device), the share of time that the device computed, the share of the matrix peak (measured here, or from the data
sheet), bytes over the bus, and dollars per km². It also prints whether a second pass, and a tile alone in its batch,
give the same bytes.
`--device cpu` runs the same path to check its results, not its speed: its maps are compared with those of the ordinary
engine.
"""

from __future__ import annotations

import argparse
import hashlib
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.flop_counter import FlopCounterMode

from batchseg.engine.chunk import ChunkWork
from batchseg.engine.segment import Model, segment_chunk
from batchseg.model.bundle import Bundle, open_bundle
from batchseg.model.segmenter import open_segmenter
from batchseg.model.torch_graph import load_graph
from batchseg.output.stored import write_chunk
from batchseg.recipe import Models, Recipe
from batchseg.resolve.job import Job, SceneJob
from batchseg.resolve.resolve import resolve
from batchseg.store import LocalStore
from batchseg.synth import write_scene
from batchseg.synth.scene_files import PIXEL_M
from batchseg.tiers import DeviceKind
from bench.device_engine import DeviceEngine, How, Slot
from tiling.grid import tiles_of
from tiling.pad import replicate
from tiling.span import Span, Window

SLOTS = 3
"""Slots: one is filled or uploaded, one computed, one downloaded or emptied."""
PEAK_SIDE = 8192


@dataclass(frozen=True, slots=True)
class ModelScene:
    """A scene as in a run, with one model."""

    job: Job
    scene: SceneJob

    @property
    def windows(self) -> list[Window]:
        grid = self.job.chunk_grid(self.scene)
        return [grid.window(row, col) for row, col in grid]

    def cores(self, chunk: Window) -> tuple[int, int]:
        rows, cols = chunk.shape
        return -(-rows // self.job.core_px), -(-cols // self.job.core_px)


@dataclass(frozen=True, slots=True)
class Pass:
    """One pass over the scene."""

    seconds: float
    compute_s: float
    """Time that the device computed; 0 where the device does not measure it."""
    digest: str


def open_scene(scene: Path, ref: str, output: Path, chunk_px: int | None = None) -> ModelScene:
    recipe = Recipe(scenes=(str(scene),), output=str(output), models=Models(bulk=ref))
    if chunk_px is not None:
        recipe = replace(recipe, tiling=replace(recipe.tiling, chunk=chunk_px))
    job = resolve(recipe).job
    return ModelScene(job, next(iter(job.scenes.values())))


def fill_slot(ground: ModelScene, chunk: Window, slot: Slot) -> NDArray[np.bool_]:
    """Decode a chunk with its halo into a slot, as the engine feeds a model. Returns the validity of its pixels."""
    job, scene = ground.job, ground.scene
    num_rows, num_cols = ground.cores(chunk)
    whole = Window(
        Span(chunk.rows.start, chunk.rows.start + num_rows * job.core_px),
        Span(chunk.cols.start, chunk.cols.start + num_cols * job.core_px),
    ).grow(job.halo_px)
    inside = whole.clip(scene.shape_px)
    pixels = scene.open_source().read(inside)
    x_BHW = replicate(scene.rules["bulk"].apply(pixels), inside, whole)
    slot.host_in_BHW.numpy()[:, : x_BHW.shape[1], : x_BHW.shape[2]] = x_BHW
    return pixels.valid_HW[chunk.within(inside)]


def make_layers(ground: ModelScene, chunk: Window, slot: Slot, valid_HW: NDArray[np.bool_]) -> dict[str, NDArray[Any]]:
    """The downloaded map as stored layers."""
    height, width = chunk.shape
    index_HW, confidence_HW = slot.host_out_LHW.numpy()[:, :height, :width]
    ids = np.array([c.id for c in ground.job.classes], ground.scene.zarr.layer("labels").dtype)
    labels_HW, confidence_HW = ids[index_HW], confidence_HW.copy()
    labels_HW[~valid_HW], confidence_HW[~valid_HW] = ground.job.nodata, 255
    return {"labels": labels_HW, "confidence": confidence_HW}


def run_pass(ground: ModelScene, engine: DeviceEngine, slots: list[Slot], store: LocalStore | None) -> Pass:
    """Run the engine over the scene: host threads fill and empty slots, this thread feeds the device."""
    compute_s: list[float] = []

    def finish(chunk: Window, slot: Slot, valid_HW: NDArray[np.bool_]) -> bytes:
        slot.wait()
        compute_s.append(slot.read_compute_s())
        layers = make_layers(ground, chunk, slot, valid_HW)
        if store is not None:
            layout = replace(ground.scene.zarr, layers=tuple(ground.scene.zarr.layer(name) for name in layers))
            write_chunk(store, layout, chunk, layers)
        return b"".join(hashlib.blake2b(np.ascontiguousarray(layer).data).digest() for layer in layers.values())

    windows, digest = ground.windows, hashlib.blake2b(digest_size=8)
    begun_s = time.perf_counter()
    with ThreadPoolExecutor(SLOTS) as threads:
        filling = {n: threads.submit(fill_slot, ground, windows[n], slots[n]) for n in range(min(SLOTS, len(windows)))}
        finishing: dict[int, Future[bytes]] = {}
        for number, chunk in enumerate(windows):
            slot = slots[number % SLOTS]
            valid_HW = filling.pop(number).result()
            engine.enqueue(slot, *ground.cores(chunk))
            finishing[number] = threads.submit(finish, chunk, slot, valid_HW)
            following = number + SLOTS - 1  # uses the slot of the chunk before this one, once that has finished
            if number and following < len(windows):
                digest.update(finishing.pop(number - 1).result())
                filling[following] = threads.submit(fill_slot, ground, windows[following], slots[following % SLOTS])
        for number in sorted(finishing):
            digest.update(finishing[number].result())
    return Pass(time.perf_counter() - begun_s, sum(compute_s), digest.hexdigest())


def run_ordinary_engine(
    ground: ModelScene, ref: str, device: DeviceKind
) -> Iterator[tuple[Window, dict[str, NDArray[Any]]]]:
    """The maps of the ordinary engine, chunk by chunk."""
    job, scene = ground.job, ground.scene
    halo_px = job.models["bulk"].halo_px
    segmenter = open_segmenter(use_torch(open_bundle(ref)), device=device, tile_px=job.core_px + 2 * halo_px)
    ids = np.array([c.id for c in job.classes], scene.zarr.layer("labels").dtype)
    for chunk in ground.windows:
        have = chunk.grow(job.halo_px).clip(scene.shape_px)
        pixels = scene.open_source().read(have)
        tiles = tiles_of(job.lattice(ground.scene), chunk)
        work = ChunkWork(
            window=chunk, tiles=tiles, tier_codes=[0] * len(tiles), pixels=pixels, rules=scene.rules,
            wanted_HW=pixels.valid_HW[chunk.within(have)], scene_shape_px=scene.shape_px,
        )  # fmt: skip
        model = Model(segmenter, halo_px, ids)
        prediction = segment_chunk(work, {"bulk": model}, nodata=job.nodata, timed=lambda *_, **__: nullcontext())
        yield chunk, {"labels": prediction.labels_HW, "confidence": prediction.confidence_HW}


def digest_ordinary_engine(ground: ModelScene, ref: str, device: DeviceKind) -> str:
    digest = hashlib.blake2b(digest_size=8)
    for _, layers in run_ordinary_engine(ground, ref, device):
        digest.update(b"".join(hashlib.blake2b(np.ascontiguousarray(one).data).digest() for one in layers.values()))
    return digest.hexdigest()


def use_torch(bundle: Bundle) -> Bundle:
    """The same bundle run by torch: OpenVINO rounds differently."""
    numerics = {
        kind: replace(one, backend="torch" if one.backend == "openvino" else one.backend)
        for kind, one in bundle.contract.numerics.items()
    }
    return replace(bundle, contract=replace(bundle.contract, numerics=numerics))


def measure_forward_s(engine: DeviceEngine, num_tiles: int) -> float:
    """Time of full batches that never leave the device, as many as the scene fills."""
    engine.x_NBHW.random_(1, 255)
    wait: Callable[[], object] = torch.cuda.synchronize if engine.x_NBHW.is_cuda else lambda: None
    wait()
    begun_s = time.perf_counter()
    with torch.inference_mode():
        for _ in range(-(-num_tiles // engine.batch)):
            engine.forward()
    wait()
    return time.perf_counter() - begun_s


def depends_on_neighbours(engine: DeviceEngine) -> bool:
    """Test if a tile alone gives another result than among others."""
    with torch.inference_mode():
        engine.x_NBHW.random_(1, 255)
        among = [output[0].clone() for output in engine.forward()]
        engine.x_NBHW[1:] = 0
        return any(not torch.equal(a, b[0]) for a, b in zip(among, engine.forward(), strict=True))


def count_gflop_per_tile(bundle: Bundle, tile_px: int) -> float:
    network = load_graph(bundle).network
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        network(torch.zeros((1, len(bundle.contract.bands), tile_px, tile_px)))
    return float(counter.get_total_flops()) / 1e9


def measure_peak_tflops(device: DeviceKind, precision: str) -> float:
    """Speed of the fastest product of two square matrices in torch on this machine."""
    side = PEAK_SIDE if device == "cuda" else PEAK_SIDE // 8
    matrix = torch.randn(side, side, device=device, dtype=getattr(torch, precision))
    spent_s = []
    for _ in range(10):
        begun_s = time.perf_counter()
        _ = matrix @ matrix
        if device == "cuda":
            torch.cuda.synchronize()
        spent_s.append(time.perf_counter() - begun_s)
    return 2 * side**3 / min(spent_s) / 1e12


def measure_model(ref: str, how: How, scene: Path, folder: Path, args: argparse.Namespace) -> None:
    bundle, device = use_torch(open_bundle(ref)), args.device
    ground = open_scene(scene, ref, folder / "out", args.chunk)
    job = ground.job
    engine = DeviceEngine(bundle, device, core_px=job.core_px, chunk_px=job.chunk_px, how=how)
    slots = [engine.new_slot() for _ in range(SLOTS)]
    run_pass(ground, engine, slots, None)  # warm: codecs, caches, clocks of the device
    bare_s = measure_forward_s(engine, len(job.lattice(ground.scene)))
    first = run_pass(ground, engine, slots, LocalStore(folder / "stored"))
    again = run_pass(ground, engine, slots, None)
    height, width = ground.scene.shape_px
    mpx, km2 = height * width / 1e6, height * width * PIXEL_M**2 / 1e6
    tiles_per_s = len(job.lattice(ground.scene)) / first.seconds
    tflops = tiles_per_s * count_gflop_per_tile(bundle, engine.tile_px) / 1e3
    peak = args.peak_tflops or measure_peak_tflops(device, bundle.contract.find_numerics(device).precision)
    moved = len(ground.windows) * (slots[0].host_in_BHW.numel() + slots[0].host_out_LHW.numel())
    print(
        f"{ref}, {how}, {device}: {mpx / first.seconds:.1f} Mpx/s, bare forward {mpx / bare_s:.1f} "
        f"({bare_s / first.seconds:.3f} of it kept), computing {first.compute_s / first.seconds:.2f} of the time, "
        f"{tflops:.3g} of {peak:.3g} TFLOP/s, {moved / 1e9:.2f} GB over the bus, "
        f"{first.seconds / 3600 * args.usd_per_hour / km2:.2e} $ per km2\n"
        f"  the same bytes again: {first.digest == again.digest}; "
        f"with other neighbours: {not depends_on_neighbours(engine)}",
        flush=True,
    )
    if device == "cpu":
        print(
            f"  the ordinary engine's bytes: {digest_ordinary_engine(ground, ref, device) == first.digest}", flush=True
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=get_args(DeviceKind), default="cuda")
    parser.add_argument("--size", type=int, default=16384, help="side of the scene in pixels (default 16384)")
    parser.add_argument("--chunk", type=int, help="side of a chunk in pixels (default: the recipe's)")
    parser.add_argument("--models", nargs="+", default=["zoo:synthetic-heavy", "zoo:synthetic-bulk"])
    parser.add_argument("--how", nargs="+", choices=get_args(How), default=["eager"])
    parser.add_argument("--usd-per-hour", type=float, default=2.5, help="price of the machine (default 2.5)")
    parser.add_argument("--peak-tflops", type=float, help="matrix peak of the card (default: measured)")
    parser.add_argument("--folder", type=Path, help="folder for temporary files")
    args = parser.parse_args()
    if args.device == "cuda" and not torch.cuda.is_available():
        parser.error("this machine has no CUDA device; --device cpu checks the same path")
    with TemporaryDirectory(dir=args.folder) as folder:
        write_scene(Path(folder) / "input", size_px=args.size, seed=5)
        for ref in args.models:
            for how in args.how:
                measure_model(ref, how, Path(folder) / "input" / "scene.tif", Path(folder), args)


if __name__ == "__main__":
    main()
