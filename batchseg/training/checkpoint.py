"""Checkpoints without pickle: one safetensors file, replaced atomically, so that its parts belong together."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from batchseg.atomic import make_folder, replace_file
from batchseg.egress import format_json
from batchseg.errors import RecipeError
from batchseg.regular_files import check_file
from batchseg.schema import JsonObject
from batchseg.training.provenance import make_public_recipe, select_deciding
from batchseg.training.state import TrainingState

_STATE, _BEST = "state.safetensors", "best.safetensors"
CHECKPOINT_FILES = (_STATE, _BEST)


def save_checkpoint(state: TrainingState, folder: Path) -> None:
    tensors = {f"graph.{name}": value for name, value in state.graph.state_dict().items()}
    for number, moments in state.optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{number}.{name}": value for name, value in moments.items()}
    device = state.graph.mean.device
    # For dropout; crops are drawn again from their seed.
    tensors["random"] = torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.get_rng_state()
    metadata = {"step": str(state.step), "made of": format_json(_describe_training(state))}
    _write(tensors, folder / _STATE, metadata)


def save_best(state: TrainingState, folder: Path) -> None:
    """Save the weights of the best step."""
    metadata = {"step": str(state.best_step), "miou": str(state.best_miou)}
    _write(state.graph.state_dict(), folder / _BEST, metadata)


def load_best(state: TrainingState, folder: Path) -> None:
    """Load the weights of the best step into the network."""
    state.graph.load_state_dict(load_file(folder / _BEST))


def is_checkpoint(path: Path) -> bool:
    """Test if a training wrote this file."""
    try:
        with safe_open(path, "pt") as file:
            return "step" in (file.metadata() or {})
    except (OSError, SafetensorError):
        return False


def restore_checkpoint(state: TrainingState, folder: Path) -> None:
    """Continue from the checkpoint in the folder. Without one, the state stays before the first step."""
    path = folder / _STATE
    if not path.exists():
        return
    check_file(path)
    with safe_open(path, "pt") as file:
        metadata, tensors = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    _check_same_training(state, folder, metadata)
    state.step = int(metadata["step"])
    device, random = state.graph.mean.device, tensors.pop("random")
    if device.type == "cuda":
        torch.cuda.set_rng_state(random, device)
    else:
        torch.set_rng_state(random)
    state.graph.load_state_dict({k.removeprefix("graph."): v for k, v in tensors.items() if k.startswith("graph.")})
    moments: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        if key.startswith("optimiser."):
            _, number, name = key.split(".", 2)
            moments.setdefault(int(number), {})[name] = value
    groups = state.optimiser.state_dict()["param_groups"]
    state.optimiser.load_state_dict({"state": moments, "param_groups": groups})
    _restore_best(state, folder / _BEST)


def _restore_best(state: TrainingState, path: Path) -> None:
    """Read the best step from the file that has its weights.

    The file may be later than the checkpoint. The same step is then measured again, and is no improvement.
    """
    if state.recipe.watch is not None and path.exists():
        check_file(path)
        with safe_open(path, "pt") as file:
            metadata = file.metadata()
        state.best_step, state.best_miou = int(metadata["step"]), float(metadata["miou"])


def _write(tensors: Mapping[str, Tensor], path: Path, metadata: dict[str, str]) -> None:
    make_folder(path.parent)
    with replace_file(path, tag="checkpoint") as unfinished:
        save_file({name: tensor.cpu().contiguous() for name, tensor in tensors.items()}, unfinished, metadata)


def _describe_training(state: TrainingState) -> JsonObject:
    """The values that must not change between a checkpoint and the training that continues from it.

    The recipe is the public one: a URL with a new signature is the same, and no signature is stored.
    """
    digests = {f"digest of {name}": digest for name, digest in state.digests.items()}
    return select_deciding(make_public_recipe(state.recipe)) | digests


def _check_same_training(state: TrainingState, folder: Path, metadata: dict[str, str]) -> None:
    own, other = json.loads(format_json(_describe_training(state))), json.loads(metadata.get("made of", "{}"))
    differing = sorted(key for key in own.keys() | other.keys() if own.get(key) != other.get(key))
    if differing:
        raise RecipeError(
            f"the folder holds an unfinished training with another {' and another '.join(differing)}",
            where=str(folder),
            expected=", ".join(f"{key}: {other.get(key)}" for key in differing),
            got=", ".join(f"{key}: {own.get(key)}" for key in differing),
            todo="give another folder, or delete this checkpoint",
        )
    if int(metadata["step"]) > state.recipe.steps:
        raise RecipeError(
            "the checkpoint has more steps than the recipe",
            where=str(folder),
            expected=f"at least {metadata['step']}",
            got=f"steps: {state.recipe.steps}",
            todo="give another folder, or more steps",
        )
