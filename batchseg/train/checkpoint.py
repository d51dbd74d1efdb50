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
from batchseg.recipe.build import plain
from batchseg.train.recipe import TrainRecipe

_FREE = ("steps", "threads", "checkpoint_every", "validate", "patience", "licence", "data", "limits")


@dataclass(slots=True)
class Training:
    """The state of one run; `step` counts finished steps."""

    recipe: TrainRecipe
    graph: WholeGraph
    optimiser: torch.optim.Optimizer
    step: int = 0
    best_step: int = 0
    """With `watch`: the moment that became the bundle so far."""
    best_miou: float = -1.0


def save_checkpoint(training: Training, folder: Path) -> None:
    tensors = {f"graph.{name}": value for name, value in training.graph.state_dict().items()}
    for number, state in training.optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{number}.{name}": value for name, value in state.items()}
    facts = {
        "step": str(training.step),
        "best": json.dumps([training.best_step, training.best_miou]),
        "recipe": _must_agree(training.recipe),
    }
    _put(tensors, folder / "state.safetensors", facts)


def save_best(training: Training, folder: Path) -> None:
    _put(training.graph.state_dict(), folder / "best.safetensors", {"step": str(training.step)})


def load_best(training: Training, folder: Path) -> None:
    training.graph.load_state_dict(load_file(folder / "best.safetensors"))


def _put(tensors: Mapping[str, Tensor], path: Path, facts: dict[str, str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name("unfinished.safetensors")
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, unfinished, facts)
    unfinished.replace(path)


def _must_agree(recipe: TrainRecipe) -> str:
    """What of a recipe may not change between a checkpoint and what goes on from it."""
    content = plain(recipe)
    for free in _FREE:
        content.pop(free)
    return json.dumps(content, sort_keys=True)


def restore(training: Training, folder: Path) -> None:
    path = folder / "state.safetensors"
    if not path.exists():
        return
    with safe_open(path, "pt") as file:
        facts, tensors = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    ours = _must_agree(training.recipe)
    if facts["recipe"] != ours:
        raise RecipeError(
            "a training of another recipe is unfinished here",
            where=str(folder),
            expected=facts["recipe"],
            got=ours,
            todo="take another folder, or delete this checkpoint",
        )
    training.step = int(facts["step"])
    training.best_step, training.best_miou = json.loads(facts["best"])
    training.graph.load_state_dict({k.removeprefix("graph."): v for k, v in tensors.items() if k.startswith("graph.")})
    state: dict[int, dict[str, Any]] = {}
    for key, value in tensors.items():
        if key.startswith("optimiser."):
            _, number, name = key.split(".", 2)
            state.setdefault(int(number), {})[name] = value
    groups = training.optimiser.state_dict()["param_groups"]
    training.optimiser.load_state_dict({"state": state, "param_groups": groups})
