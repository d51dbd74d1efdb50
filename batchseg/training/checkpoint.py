"""Checkpoints without pickle: one safetensors file, replaced at once, so that all of it is of one moment."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from batchseg.errors import RecipeError
from batchseg.model.graph import WholeGraph
from batchseg.training.lineage import public_recipe
from batchseg.training.train_recipe import TrainRecipe

_FREE = (
    *("name", "tier", "gsd_m", "licence", "data", "limits"),
    *("steps", "threads", "checkpoint_every", "validate", "patience"),
)


@dataclass(slots=True)
class Training:
    """The state of one run; `step` counts finished steps."""

    recipe: TrainRecipe
    graph: WholeGraph
    optimiser: torch.optim.Optimizer
    sources: dict[str, str]
    """Digests of what it is made from: ground, and bundles that it begins with or learns from."""
    step: int = 0
    best_step: int = 0
    """With `watch`: the moment that became the bundle so far."""
    best_miou: float = -1.0


def save_checkpoint(training: Training, folder: Path) -> None:
    tensors = {f"graph.{name}": value for name, value in training.graph.state_dict().items()}
    for number, state in training.optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{number}.{name}": value for name, value in state.items()}
    device = training.graph.mean.device
    # Of dropout; crops are drawn anew.
    tensors["random"] = torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.get_rng_state()
    facts = {"step": str(training.step), "made of": json.dumps(_must_agree(training))}
    _put(tensors, folder / "state.safetensors", facts)


def save_best(training: Training, folder: Path) -> None:
    _put(training.graph.state_dict(), folder / "best.safetensors", _facts_of_best(training))


def load_best(training: Training, folder: Path) -> None:
    training.graph.load_state_dict(load_file(folder / "best.safetensors"))


def _facts_of_best(training: Training) -> dict[str, str]:
    return {"step": str(training.best_step), "miou": str(training.best_miou)}


def _put(tensors: Mapping[str, Tensor], path: Path, facts: dict[str, str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name("unfinished.safetensors")
    save_file({name: tensor.cpu().contiguous() for name, tensor in tensors.items()}, unfinished, facts)
    unfinished.replace(path)


def _must_agree(training: Training) -> dict[str, Any]:
    """What may not change between a checkpoint and what goes on from it."""
    # As it is told: an address that was signed anew is the same, and no signature is kept.
    return deciding(public_recipe(training.recipe)) | {
        f"digest of {what}": value for what, value in training.sources.items()
    }


def deciding(recipe: dict[str, Any]) -> dict[str, Any]:
    """Of a plain recipe: what makes it another training."""
    return {key: value for key, value in recipe.items() if key not in _FREE}


def restore(training: Training, folder: Path) -> None:
    """Go on where the checkpoint is. Without one, nothing has been done yet."""
    path = folder / "state.safetensors"
    if not path.exists():
        return
    with safe_open(path, "pt") as file:
        facts, tensors = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    _check(training, folder, facts)
    training.step = int(facts["step"])
    device, random = training.graph.mean.device, tensors.pop("random")
    if device.type == "cuda":
        torch.cuda.set_rng_state(random, device)
    else:
        torch.set_rng_state(random)
    training.graph.load_state_dict({k.removeprefix("graph."): v for k, v in tensors.items() if k.startswith("graph.")})
    state: dict[int, dict[str, Any]] = {}
    for key, value in tensors.items():
        if key.startswith("optimiser."):
            _, number, name = key.split(".", 2)
            state.setdefault(int(number), {})[name] = value
    groups = training.optimiser.state_dict()["param_groups"]
    training.optimiser.load_state_dict({"state": state, "param_groups": groups})
    _restore_best(training, folder / "best.safetensors")


def _restore_best(training: Training, path: Path) -> None:
    """From the file that has its weights. It may be later than the checkpoint: the same moment comes again then, and is
    no better.
    """
    if training.recipe.watch is not None and path.exists():
        with safe_open(path, "pt") as file:
            facts = file.metadata()
        training.best_step, training.best_miou = int(facts["step"]), float(facts["miou"])


def _check(training: Training, folder: Path, facts: dict[str, str]) -> None:
    ours, theirs = json.loads(json.dumps(_must_agree(training))), json.loads(facts.get("made of", "{}"))
    other = sorted(key for key in ours.keys() | theirs.keys() if ours.get(key) != theirs.get(key))
    if other:
        raise RecipeError(
            f"a training with another {' and another '.join(other)} is unfinished here",
            where=str(folder),
            expected=", ".join(f"{key}: {theirs.get(key)}" for key in other),
            got=", ".join(f"{key}: {ours.get(key)}" for key in other),
            todo="take another folder, or delete this checkpoint",
        )
    if int(facts["step"]) > training.recipe.steps:
        raise RecipeError(
            "more steps are done here than are asked for",
            where=str(folder),
            expected=f"at least {facts['step']}",
            got=f"steps: {training.recipe.steps}",
            todo="take another folder, or more steps",
        )
