"""The training loop: from labelled ground to a bundle. Seeded, and resumable from its last checkpoint."""

from __future__ import annotations

import csv
import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.torch import load, save, save_file
from torch import Tensor
from torch.nn import functional

from batchseg.engine.inputs import cut_tile
from batchseg.errors import RecipeError
from batchseg.model.bundle import load_bundle, read_weights, write_bundle
from batchseg.model.contract import ClassInfo, Contract, Numerics
from batchseg.model.graph import WholeGraph
from batchseg.model.networks import build_network
from batchseg.model.segmenter import load_graph
from batchseg.recipe.build import plain
from batchseg.scene.bands import BandWanted
from batchseg.synth import CLASSES
from batchseg.train.card import write_card
from batchseg.train.ground import UNLABELLED, Crops, Ground, synth_ground
from batchseg.train.recipe import TrainRecipe
from tiling.grid import Grid, tiles_of
from tiling.span import Window

BANDS = tuple(BandWanted(name=name, common=name) for name in ("red", "green", "blue"))
_CORE_PX = 512
Show = Callable[[int, int, dict[str, float]], None]


@dataclass(slots=True)
class Training:
    """The state of one run; `step` counts finished steps."""

    recipe: TrainRecipe
    graph: WholeGraph
    optimiser: torch.optim.Optimizer
    teacher: WholeGraph | None
    step: int = 0


def train(recipe: TrainRecipe, folder: Path, *, made: str, show: Show) -> Path:
    """Train, measure on ground never seen, and write a bundle into `folder`."""
    torch.set_num_threads(recipe.threads)
    torch.manual_seed(recipe.seed)
    ground = synth_ground(recipe.train, seed=recipe.seed)
    training = _begin(recipe, ground)
    checkpoint = folder / "checkpoint"
    _restore(training, checkpoint)
    crops = Crops(ground, recipe.crop_px, recipe.batch, recipe.balanced_share, np.random.default_rng(recipe.seed))
    for _ in range(training.step):
        crops.draw()  # the same crops as without the interruption
    folder.mkdir(parents=True, exist_ok=True)
    with _open_curve(folder / "curve.csv", training.step) as file:
        curve = csv.writer(file)
        while training.step < recipe.steps:
            facts = _step(training, crops)
            curve.writerow([training.step, *(f"{value:.5f}" for value in facts.values())])
            file.flush()
            show(training.step, recipe.steps, facts)
            if training.step % recipe.checkpoint_every == 0:
                _save(training, checkpoint)
    iou = measure(training.graph, synth_ground(recipe.validate, seed=recipe.seed), halo_px=recipe.halo_px)
    _write(training, folder, iou, made)
    return folder


def _open_curve(path: Path, steps: int) -> TextIO:
    """One line a step; those that the last checkpoint does not know are done again."""
    kept = path.read_text("utf-8").splitlines(keepends=True)[:steps] if path.exists() else []
    path.write_text("".join(kept), "utf-8")
    return path.open("a", newline="", encoding="utf-8")


def _begin(recipe: TrainRecipe, ground: Ground) -> Training:
    network = build_network(recipe.architecture, num_bands=len(BANDS), num_classes=len(CLASSES))
    mean, std = (tuple(round(float(v), 3) for v in values) for values in (ground.mean, ground.std))
    if recipe.start is not None:
        start = load_bundle(recipe.start)
        network.load_state_dict({name: tensor.float() for name, tensor in load(read_weights(start)).items()})
        mean, std = start.contract.mean, start.contract.std
    graph = WholeGraph(network, mean, std)
    graph.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimiser = torch.optim.AdamW(
        graph.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay, betas=(0.9, recipe.adam_beta2)
    )
    teacher = None if recipe.teacher is None else load_graph(load_bundle(recipe.teacher))
    return Training(recipe, graph, optimiser, teacher)


def _step(training: Training, crops: Crops) -> dict[str, float]:
    recipe, graph = training.recipe, training.graph
    begun_s = time.perf_counter()
    rate = _learning_rate(recipe, training.step)
    for group in training.optimiser.param_groups:
        group["lr"] = rate
    pixels, labels = crops.draw()
    x, y = torch.from_numpy(pixels).contiguous(memory_format=torch.channels_last), torch.from_numpy(labels).long()
    graph.train()
    with torch.autocast("cpu", torch.bfloat16):
        scores = graph.scores(x)
    loss = _loss(scores, y)
    if training.teacher is not None:
        loss = (1 - recipe.soft_share) * loss + recipe.soft_share * _soft_loss(training.teacher, x, scores, recipe)
    training.optimiser.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(graph.parameters(), 1.0)
    training.optimiser.step()
    training.step += 1
    return {"loss": loss.item(), "learning_rate": rate, "seconds": time.perf_counter() - begun_s}


def _learning_rate(recipe: TrainRecipe, step: int) -> float:
    warm = max(1, recipe.steps // 10)
    if step < warm:
        return recipe.learning_rate * (step + 1) / warm
    return recipe.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, recipe.steps - warm)))


def _loss(scores: Tensor, y: Tensor) -> Tensor:
    """Cross-entropy for every pixel, Dice for the shape of small classes; unlabelled pixels count in neither."""
    entropy = functional.cross_entropy(scores, y, ignore_index=UNLABELLED)
    known = (y != UNLABELLED).unsqueeze(1)
    chances = scores.softmax(1) * known
    truth = functional.one_hot(y.where(y != UNLABELLED, 0), scores.shape[1]).movedim(-1, 1) * known
    shared, total = (chances * truth).sum((0, 2, 3)), (chances + truth).sum((0, 2, 3))
    return entropy + 0.5 * (1 - (2 * shared + 1) / (total + 1)).mean()


def _soft_loss(teacher: WholeGraph, x: Tensor, scores: Tensor, recipe: TrainRecipe) -> Tensor:
    """How far the student's distribution is from the teacher's, pixel by pixel."""
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        wanted = teacher.scores(x)
    soft = (wanted / recipe.temperature).log_softmax(1)
    ours = (scores / recipe.temperature).log_softmax(1)
    distance = functional.kl_div(ours, soft, reduction="none", log_target=True).sum(1).mean()
    return distance * recipe.temperature**2


def measure(graph: WholeGraph, ground: Ground, *, halo_px: int) -> dict[str, float]:
    """IoU of each class that occurs, over whole windows cut into tiles as in a run."""
    confusion = np.zeros((len(CLASSES), len(CLASSES)), np.int64)
    graph.eval()
    for pixels_BHW, truth_HW in zip(ground.pixels_WBHW, ground.labels_WHW, strict=True):
        predicted_HW = _predict(graph, pixels_BHW, halo_px)
        known = truth_HW != UNLABELLED
        pairs = truth_HW[known].astype(np.int64) * len(CLASSES) + predicted_HW[known]
        confusion += np.bincount(pairs, minlength=len(CLASSES) ** 2).reshape(confusion.shape)
    hits = np.diag(confusion)
    union = confusion.sum(0) + confusion.sum(1) - hits
    return {c.name: round(float(hit / all_), 4) for c, hit, all_ in zip(CLASSES, hits, union, strict=True) if all_}


def _predict(graph: WholeGraph, pixels_BHW: NDArray[np.uint8], halo_px: int) -> NDArray[np.uint8]:
    rows, cols = pixels_BHW.shape[1:]
    have = Window.of(0, rows, 0, cols)
    labels_HW = np.empty((rows, cols), np.uint8)
    for tile in tiles_of(Grid((rows, cols), _CORE_PX), have):
        x_BHW = cut_tile(pixels_BHW, have, tile, halo_px, (rows, cols))
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
            index_NHW, _ = graph(torch.from_numpy(x_BHW[None]).contiguous(memory_format=torch.channels_last))
        of = tile.owned.within(tile.read_window(halo_px))
        labels_HW[tile.owned.within(have)] = index_NHW[0].numpy()[of]
    return labels_HW


def _save(training: Training, checkpoint: Path) -> None:
    """One file, replaced at once: step, network and optimiser are always of one moment."""
    checkpoint.mkdir(parents=True, exist_ok=True)
    tensors = {f"graph.{name}": value for name, value in training.graph.state_dict().items()}
    for number, state in training.optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{number}.{name}": value for name, value in state.items()}
    unfinished = checkpoint / "unfinished.safetensors"
    facts = {"step": str(training.step), "recipe": _must_agree(training.recipe)}
    save_file({k: v.contiguous() for k, v in tensors.items()}, unfinished, facts)
    unfinished.replace(checkpoint / "state.safetensors")


def _must_agree(recipe: TrainRecipe) -> str:
    """What of a recipe may not change between a checkpoint and what goes on from it."""
    content = plain(recipe)
    for free in ("steps", "threads", "checkpoint_every", "validate"):
        content.pop(free)
    return json.dumps(content, sort_keys=True)


def _restore(training: Training, checkpoint: Path) -> None:
    path = checkpoint / "state.safetensors"
    if not path.exists():
        return
    with safe_open(path, "pt") as file:
        facts, tensors = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    ours = _must_agree(training.recipe)
    if facts["recipe"] != ours:
        raise RecipeError(
            "a training of another recipe is unfinished here",
            where=str(checkpoint),
            expected=facts["recipe"],
            got=ours,
            todo="take another folder, or delete this checkpoint",
        )
    training.step = int(facts["step"])
    training.graph.load_state_dict({k.removeprefix("graph."): v for k, v in tensors.items() if k.startswith("graph.")})
    state: dict[int, dict[str, Any]] = {}
    for key, value in tensors.items():
        if key.startswith("optimiser."):
            _, number, name = key.split(".", 2)
            state.setdefault(int(number), {})[name] = value
    groups = training.optimiser.state_dict()["param_groups"]
    training.optimiser.load_state_dict({"state": state, "param_groups": groups})


def _write(training: Training, folder: Path, iou: dict[str, float], made: str) -> None:
    recipe, graph = training.recipe, training.graph
    # Normalisation statistics stay exact; everything else is stored in half the bytes.
    weights = {
        name: (tensor.half() if tensor.is_floating_point() and "running" not in name else tensor).contiguous()
        for name, tensor in graph.network.state_dict().items()
    }
    contract = Contract(
        name=recipe.name,
        tier=recipe.tier,
        bands=BANDS,
        dtype="uint8",
        range=(0.0, 255.0),
        mean=tuple(graph.mean.flatten().tolist()),
        std=tuple(graph.std.flatten().tolist()),
        gsd_m=(0.3, 0.8),
        classes=tuple(ClassInfo(id=c.id, name=c.name, rgb=c.rgb) for c in CLASSES),
        halo_px=recipe.halo_px,
        stride_px=32 if recipe.architecture["kind"] == "segformer" else 8,
        architecture=recipe.architecture,
        numerics={
            "cpu": Numerics(backend="openvino", precision="bfloat16", batch=2, threads=2),
            "cuda": Numerics(backend="torch", precision="bfloat16", batch=16, threads=1),
        },
        quality={"iou": iou, "miou": round(sum(iou.values()) / len(iou), 4), "on": plain(recipe.validate)},
        lineage={"recipe": plain(recipe)},
    )
    write_bundle(folder, contract, save(weights), made=made)
    write_card(folder, contract)
