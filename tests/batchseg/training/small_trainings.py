"""Trainings that take seconds, and ground that any network learns."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from batchseg.model.architecture import BulkNetSpec
from batchseg.model.bundle import Bundle
from batchseg.synth import CLASSES
from batchseg.training.crops import CropSampler
from batchseg.training.ground import TrainingGround
from batchseg.training.loop import ShowStep
from batchseg.training.rasters import UNLABELLED
from batchseg.training.train import train
from batchseg.training.train_recipe import GroundSpec, TrainRecipe

GROUND = GroundSpec(seeds=(1000, 1002), size_px=256, window_px=128)
RECIPE = TrainRecipe(
    name="tiny-net",
    tier="bulk",
    architecture=BulkNetSpec(width=8),
    halo_px=16,
    train=GROUND,
    validate=replace(GROUND, seeds=(2000, 2001)),
    crop_px=64,
    batch=2,
    steps=6,
    learning_rate=0.01,
    checkpoint_every=2,
    threads=1,
)


def train_on_cpu(recipe: TrainRecipe, folder: Path, *, show: ShowStep) -> Bundle:
    """Train on the CPU, also on machines with a GPU, since the tests compare bytes."""
    return train(recipe, folder, device="cpu", show=show)


def quietly(step: int, steps: int, facts: dict[str, float]) -> None:
    assert step <= steps
    assert facts["loss"] > 0


def square_ground(size: int = 96) -> TrainingGround:
    """Blocks of classes, each with its own brightness; one column has no labels."""
    blocks = np.add.outer(np.arange(size // 16), 2 * np.arange(size // 16)) % len(CLASSES)
    labels = blocks.repeat(16, 0).repeat(16, 1).astype(np.uint8)[None]
    pixels = np.repeat((40 + 30 * labels)[:, None], 3, axis=1).astype(np.uint8)
    labels[:, :, -1] = UNLABELLED
    places = {c.id: np.argwhere(labels == c.id) for c in CLASSES}
    mean, inside_W2 = np.full(3, 115.0), np.array([[size, size]])
    return TrainingGround(pixels, labels, places, mean, np.full(3, 50.0), mean, inside_W2)


def crops(ground: TrainingGround, *, seed: int = 0, size: int = 48) -> CropSampler:
    return CropSampler(ground, size, 8, 0.5, np.random.default_rng(seed))
