"""The training loop: from labelled ground to a bundle. Seeded, and resumable from its last checkpoint."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load, save

from batchseg.errors import RecipeError
from batchseg.model.bundle import read_weights, write_bundle
from batchseg.model.card import write_card
from batchseg.model.graph import WholeGraph
from batchseg.model.networks import build_network
from batchseg.model.segmenter import check_device
from batchseg.tiers import DeviceKind
from batchseg.training.bundle_contract import make_contract
from batchseg.training.checkpoint import Training, load_best, restore, save_best, save_checkpoint
from batchseg.training.checks import check_train_recipe
from batchseg.training.crops import Batch, Crops
from batchseg.training.curves import Curve, open_curves
from batchseg.training.ground import Ground
from batchseg.training.lineage import public_ground, public_recipe
from batchseg.training.loss import hard_loss, soft_loss, unlike
from batchseg.training.sources import Sources, is_made, open_sources
from batchseg.training.teacher import soft_labels
from batchseg.training.train_recipe import TrainRecipe
from batchseg.training.validation import mean_of, measure

TRAINING = "training"
"""Beside the bundle: checkpoint, curves and a teacher's answers. Not part of it, and free to go once it is made."""
Show = Callable[[int, int, dict[str, float]], None]


def train(
    recipe: TrainRecipe, folder: Path, *, made: str, commit: str | None = None, device: DeviceKind = "cpu", show: Show
) -> Path:
    """Train, measure on ground never seen, and write a bundle into `folder`. What is made already is left as it is."""
    check_train_recipe(recipe)
    check_device(device)
    torch.set_num_threads(recipe.threads)
    torch.manual_seed(recipe.seed)
    sources = open_sources(recipe)
    lineage: dict[str, Any] = {
        "recipe": public_recipe(recipe),
        "data": sources.data,
        "commit": commit,
        **sources.parents,
    }
    if is_made(folder, lineage):
        return folder
    training, beside = _begin(recipe, sources, device), folder / TRAINING
    restore(training, beside / "checkpoint")
    crops = _crops(recipe, sources, beside / "teacher", device, show)
    for _ in range(training.step):
        crops.draw()  # the same crops as without the interruption
    names = () if sources.watched is None else sources.watched.names
    facts = ("loss", *(("unlike",) if recipe.agree else ()), "learning_rate", "seconds")
    with open_curves(beside, training.step, facts, names) as curves:
        _steps(training, crops, sources.watched, beside / "checkpoint", curves, show)
    if sources.watched is not None:
        load_best(training, beside / "checkpoint")
    lineage["steps"] = training.best_step or training.step
    iou = measure(training.graph, sources.unseen, halo_px=recipe.halo_px, device=device)
    _write(training, folder, iou, lineage, made)
    return folder


def _crops(recipe: TrainRecipe, sources: Sources, kept: Path, device: DeviceKind, show: Show) -> Crops:
    crops = Crops(
        sources.ground,
        recipe.crop_px,
        recipe.batch,
        recipe.balanced_share,
        np.random.default_rng(recipe.seed),
        recipe.input_range,
        light=recipe.light,
        zoom=recipe.zoom,
        mix=recipe.mix,
        shift_px=recipe.shift_px,
    )
    if sources.teacher is not None:
        crops.soft = soft_labels(
            sources.teacher, sources.ground, kept, device, told=lambda done, all_: show(done, all_, {"teacher": 1.0})
        )
    return crops


def _steps(
    training: Training, crops: Crops, watched: Ground | None, checkpoint: Path, curves: tuple[Curve, Curve], show: Show
) -> None:
    recipe, (steps, looks) = training.recipe, curves
    while training.step < recipe.steps and not (watched and _got_no_better(training)):
        facts = _step(training, crops.draw())
        steps.add(training.step, facts)
        show(training.step, recipe.steps, facts)
        if watched is not None and (training.step % recipe.watch_every == 0 or training.step == recipe.steps):
            _look(training, watched, checkpoint, looks)
        if training.step % recipe.checkpoint_every == 0:
            save_checkpoint(training, checkpoint)
    save_checkpoint(training, checkpoint)  # else the same command would repeat the last steps


def _got_no_better(training: Training) -> bool:
    return training.step - training.best_step >= training.recipe.patience * training.recipe.watch_every


def _look(training: Training, watched: Ground, checkpoint: Path, looks: Curve) -> None:
    """Early stopping's eye: the best moment so far is kept."""
    device = training.graph.mean.device.type
    iou = measure(training.graph, watched, halo_px=training.recipe.halo_px, device=device)
    miou = mean_of(iou)
    looks.add(training.step, {"miou": miou} | {name: iou.get(name, math.nan) for name in watched.names})
    if miou > training.best_miou:
        training.best_step, training.best_miou = training.step, miou
        save_best(training, checkpoint)


def _begin(recipe: TrainRecipe, sources: Sources, device: DeviceKind) -> Training:
    network = build_network(recipe.architecture, num_bands=len(recipe.bands), num_classes=len(recipe.class_list))
    if sources.start is not None:
        _take_weights(network, load(read_weights(sources.start)), str(recipe.start))
    graph = WholeGraph(network, sources.mean, sources.std)
    graph = graph.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimiser = torch.optim.AdamW(
        graph.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay, betas=(0.9, recipe.adam_beta2)
    )
    learnt = {name: digest for name, digest in sources.data.items() if name != "validate"}
    return Training(recipe, graph, optimiser, learnt | sources.parents)


def _take_weights(network: torch.nn.Module, weights: dict[str, torch.Tensor], start: str) -> None:
    """All that fit. A last layer of other classes, and a look at details that the start has not, begin anew; anything
    else that differs is another architecture.
    """
    ours = network.state_dict()
    taken = {name: t.float() for name, t in weights.items() if name in ours and ours[name].shape == t.shape}
    new = sorted(name for name in ours.keys() - taken.keys() if not name.startswith(_DETAIL))
    unused = sorted(name for name in weights.keys() - taken.keys() if not name.startswith((*_LAST, *_DETAIL)))
    if len(new) > 2 or unused or any(not name.startswith(_LAST) for name in new):
        raise RecipeError(
            "training cannot begin with weights of another architecture",
            where=f"start: {start}",
            got=f"{len(new) + len(unused)} tensors that do not fit, {', '.join([*new, *unused][:3])} …",
            todo="give the recipe the architecture and the bands of that bundle",
        )
    network.load_state_dict(ours | taken)


_LAST = ("out.", "segformer.decode_head.classifier.")
_DETAIL = ("coarse.", "stem.", "squeeze.", "mix.", "detail.")


def _step(training: Training, batch: Batch) -> dict[str, float]:
    recipe, graph = training.recipe, training.graph
    begun_s = time.perf_counter()
    rate = _learning_rate(recipe, training.step)
    for group in training.optimiser.param_groups:
        group["lr"] = rate
    x, y, soft, seen = (torch.from_numpy(array).to(graph.mean.device) for array in batch)
    graph.train()
    with torch.autocast(x.device.type, torch.bfloat16):
        scores = graph.scores(x.contiguous(memory_format=torch.channels_last))
    loss = hard_loss(scores, y.long(), recipe.loss)
    if recipe.teacher is not None:
        distance = soft_loss(scores, soft.float(), seen, recipe.temperature)
        loss = (1 - recipe.soft_share) * loss + recipe.soft_share * distance
    facts: dict[str, float] = {}
    if recipe.shift_px:
        distance = unlike(scores, recipe.shift_px, recipe.halo_px)
        loss = loss + recipe.agree * distance
        facts["unlike"] = distance.item()
    training.optimiser.zero_grad(set_to_none=True)
    if not torch.isfinite(loss):
        raise RecipeError(
            "the loss is no number any more",
            where=f"step {training.step + 1}",
            got=str(loss.item()),
            todo="take a lower `learning_rate`, and look at the values of the rasters",
        )
    loss.backward()
    torch.nn.utils.clip_grad_norm_(graph.parameters(), 1.0)
    training.optimiser.step()
    training.step += 1
    return {"loss": loss.item(), **facts, "learning_rate": rate, "seconds": time.perf_counter() - begun_s}


def _learning_rate(recipe: TrainRecipe, step: int) -> float:
    warm = max(1, recipe.steps // 10)
    if step < warm:
        return recipe.learning_rate * (step + 1) / warm
    return recipe.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, recipe.steps - warm)))


def _write(training: Training, folder: Path, iou: dict[str, float], lineage: dict[str, object], made: str) -> None:
    recipe, graph = training.recipe, training.graph
    # Normalisation statistics stay exact; everything else is stored in half the bytes.
    weights = {
        name: (tensor.half() if tensor.is_floating_point() and "running" not in name else tensor).cpu().contiguous()
        for name, tensor in graph.network.state_dict().items()
    }
    contract = make_contract(
        recipe,
        mean=tuple(graph.mean.flatten().tolist()),
        std=tuple(graph.std.flatten().tolist()),
        quality={"iou": iou, "miou": mean_of(iou), "on": public_ground(recipe.validate)},
        lineage=lineage,
    )
    write_card(folder, contract)
    write_bundle(folder, contract, save(weights), made=made)
