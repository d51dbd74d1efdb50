"""The training loop: steps of the optimiser, checkpoints, and measurements for early stopping."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path

import torch

from batchseg.errors import RecipeError, StoppedError
from batchseg.training.checkpoint import save_best, save_checkpoint
from batchseg.training.crops import CropBatch, CropSampler
from batchseg.training.curves import Curve
from batchseg.training.ground import TrainingGround
from batchseg.training.losses import compute_hard_loss, compute_soft_loss, measure_disagreement
from batchseg.training.state import TrainingState
from batchseg.training.train_recipe import TrainRecipe
from batchseg.training.validation import compute_miou, measure_iou

ShowStep = Callable[[int, int, dict[str, float]], None]
"""Called with the number of finished steps, the number of all steps, and the figures of the last step by name."""
ShouldStop = Callable[[], bool]
"""Called after each step; True stops the training."""
DISAGREEMENT = "unlike"
"""Name of the figure for the disagreement of pairs, also in the file of curves."""


def run_steps(
    state: TrainingState,
    crops: CropSampler,
    watch_ground: TrainingGround | None,
    checkpoint: Path,
    curves: tuple[Curve, Curve],
    show: ShowStep,
    should_stop: ShouldStop,
) -> None:
    """Run the remaining steps, or stop early when the IoU of `watch_ground` no longer improves.

    Raises:
        StoppedError: The user has stopped the training. Its checkpoint is written.
    """
    recipe, (step_curve, watch_curve) = state.recipe, curves
    while state.step < recipe.steps and not (watch_ground and _has_stopped_improving(state)):
        figures = _run_step(state, crops.draw())
        step_curve.add(state.step, figures.values())
        show(state.step, recipe.steps, figures)
        if watch_ground is not None and (state.step % recipe.watch_every == 0 or state.step == recipe.steps):
            _measure_step(state, watch_ground, checkpoint, watch_curve)
        is_stopped = should_stop() and state.step < recipe.steps
        if is_stopped or state.step % recipe.checkpoint_every == 0:
            save_checkpoint(state, checkpoint)
        if is_stopped:
            raise StoppedError(
                f"the training was stopped after step {state.step} of {recipe.steps}",
                where=str(checkpoint.parent.parent),
                todo="the same command continues from there",
            )
    save_checkpoint(state, checkpoint)  # otherwise the same command would repeat the last steps


def list_figures(recipe: TrainRecipe) -> tuple[str, ...]:
    """The names of a step's figures, in order."""
    return ("loss", *((DISAGREEMENT,) if recipe.agree else ()), "learning_rate", "seconds")


def _has_stopped_improving(state: TrainingState) -> bool:
    return state.step - state.best_step >= state.recipe.patience * state.recipe.watch_every


def _measure_step(state: TrainingState, ground: TrainingGround, checkpoint: Path, curve: Curve) -> None:
    """Measure the IoU for early stopping, and keep the weights of the best step so far."""
    device = state.graph.mean.device.type
    iou = measure_iou(state.graph, ground, halo_px=state.recipe.halo_px, device=device)
    miou = compute_miou(iou)
    curve.add(state.step, [miou, *(iou.get(name, math.nan) for name in ground.names)])
    if miou > state.best_miou:
        state.best_step, state.best_miou = state.step, miou
        save_best(state, checkpoint)


def _run_step(state: TrainingState, batch: CropBatch) -> dict[str, float]:
    recipe, graph = state.recipe, state.graph
    started_s = time.perf_counter()
    rate = _compute_learning_rate(recipe, state.step)
    for group in state.optimiser.param_groups:
        group["lr"] = rate
    x, y, soft, seen = (torch.from_numpy(array).to(graph.mean.device) for array in batch)
    graph.train()
    with torch.autocast(x.device.type, torch.bfloat16):
        scores = graph.scores(x.contiguous(memory_format=torch.channels_last))
    loss = compute_hard_loss(scores, y.long(), recipe.loss)
    if recipe.teacher is not None:
        distance = compute_soft_loss(scores, soft.float(), seen, recipe.temperature)
        loss = (1 - recipe.soft_share) * loss + recipe.soft_share * distance
    figures: dict[str, float] = {}
    if recipe.shift_px:
        disagreement = measure_disagreement(scores, recipe.shift_px, recipe.halo_px)
        loss = loss + recipe.agree * disagreement
        figures[DISAGREEMENT] = disagreement.item()
    state.optimiser.zero_grad(set_to_none=True)
    if not torch.isfinite(loss):
        raise RecipeError(
            "the loss is no longer a finite number",
            where=f"step {state.step + 1}",
            got=str(loss.item()),
            todo="take a lower `learning_rate`, and look at the values of the rasters",
        )
    loss.backward()
    torch.nn.utils.clip_grad_norm_(graph.parameters(), 1.0)
    state.optimiser.step()
    state.step += 1
    return {"loss": loss.item(), **figures, "learning_rate": rate, "seconds": time.perf_counter() - started_s}


def _compute_learning_rate(recipe: TrainRecipe, step: int) -> float:
    """A linear rise over the first tenth of the steps, then a cosine that falls to zero."""
    rise = max(1, recipe.steps // 10)
    if step < rise:
        return recipe.learning_rate * (step + 1) / rise
    return recipe.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, recipe.steps - rise)))
