"""The state of a training: the network, its optimiser, and the steps that are done."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from safetensors.torch import load

from batchseg.errors import RecipeError
from batchseg.model.bundle import read_weights
from batchseg.model.graph import WholeGraph
from batchseg.model.networks import build_network
from batchseg.tiers import DeviceKind
from batchseg.training.sources import Sources
from batchseg.training.train_recipe import TrainRecipe

_LAST_LAYERS = ("out.", "segformer.decode_head.classifier.")
_DETAIL_LAYERS = ("coarse.", "stem.", "squeeze.", "mix.", "detail.")


@dataclass(slots=True)
class TrainingState:
    recipe: TrainRecipe
    graph: WholeGraph
    optimiser: torch.optim.Optimizer
    digests: dict[str, str]
    """Digests of the ground and the bundles that the training learns from, by name."""
    step: int = 0
    """Number of finished steps."""
    best_step: int = 0
    """With `watch`: the step whose weights are the best so far."""
    best_miou: float = -1.0


def start_training(recipe: TrainRecipe, sources: Sources, device: DeviceKind) -> TrainingState:
    """The state before the first step: random weights, or those of the bundle to start from."""
    network = build_network(recipe.architecture, num_bands=len(recipe.bands), num_classes=len(recipe.class_list))
    if sources.start is not None:
        _copy_weights(network, load(read_weights(sources.start)), str(recipe.start))
    graph = WholeGraph(network, sources.mean, sources.std)
    graph = graph.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimiser = torch.optim.AdamW(
        graph.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay, betas=(0.9, recipe.adam_beta2)
    )
    digests = {name: digest for name, digest in sources.ground_digests.items() if name != "validate"}
    return TrainingState(recipe, graph, optimiser, digests | sources.bundle_digests)


def _copy_weights(network: torch.nn.Module, weights: dict[str, torch.Tensor], start: str) -> None:
    """Copy all weights that fit.

    A last layer for other classes, and detail layers that the start lacks, keep their random weights. Any other
    difference means another architecture.
    """
    own = network.state_dict()
    copied = {name: t.float() for name, t in weights.items() if name in own and own[name].shape == t.shape}
    new = sorted(name for name in own.keys() - copied.keys() if not name.startswith(_DETAIL_LAYERS))
    unused = sorted(
        name for name in weights.keys() - copied.keys() if not name.startswith((*_LAST_LAYERS, *_DETAIL_LAYERS))
    )
    if len(new) > 2 or unused or any(not name.startswith(_LAST_LAYERS) for name in new):
        raise RecipeError(
            "a training cannot start with weights of another architecture",
            where=f"start: {start}",
            got=f"{len(new) + len(unused)} tensors that do not fit, {', '.join([*new, *unused][:3])} …",
            todo="give the recipe the architecture and the bands of that bundle",
        )
    network.load_state_dict(own | copied)
