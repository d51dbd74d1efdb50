"""What a training run is made of; strictly read, like every recipe."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from batchseg.errors import RecipeError
from batchseg.recipe.build import build, setting


@dataclass(frozen=True, slots=True, kw_only=True)
class SynthGround:
    """Windows of synthetic scenes, one from each seed."""

    seeds: tuple[int, int] = setting(doc="first seed and the one after the last")
    size_px: int = setting(4096, doc="side of the scenes that the windows are cut from")
    window_px: int = setting(1024, doc="side of a window")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainRecipe:
    name: str = setting(doc="of the bundle")
    tier: Literal["bulk", "heavy"] = setting(doc="the slot that the model is made for")
    architecture: dict[str, Any] = setting(
        doc="{kind: bulknet, width: 64} or {kind: segformer, size: b0, decoder: 128}"
    )
    halo_px: int = setting(doc="context around a core at inference")
    train: SynthGround = setting(doc="ground to learn from")
    validate: SynthGround = setting(doc="ground to measure on; never trained on")
    start: str | None = setting(None, doc="bundle of the same architecture whose weights training begins with")
    crop_px: int = setting(256, doc="side of a training crop")
    batch: int = setting(8, doc="crops a step")
    steps: int = setting(3000, doc="optimiser steps")
    learning_rate: float = setting(1e-3, doc="at its peak; warmed up over a tenth of the steps, then cosine to zero")
    weight_decay: float = setting(0.01, doc="of AdamW")
    adam_beta2: float = setting(0.99, doc="how long AdamW remembers the size of gradients")
    balanced_share: float = setting(0.5, doc="share of crops that are centred on a pixel of a class drawn evenly")
    seed: int = setting(0, doc="of everything random")
    teacher: str | None = setting(None, doc="bundle whose soft labels are learnt beside the hard ones")
    soft_share: float = setting(0.5, doc="with a teacher: weight of its soft labels in the loss")
    temperature: float = setting(2.0, doc="with a teacher: softens both distributions")
    threads: int = setting(2, doc="CPU threads")
    checkpoint_every: int = setting(200, doc="steps between checkpoints; a run goes on from the last one")


def load_train_recipe(path: Path) -> TrainRecipe:
    try:
        data = yaml.safe_load(path.read_text("utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise RecipeError("this training recipe cannot be read", where=str(path), got=str(error)) from error
    return build(TrainRecipe, data, where=str(path))
