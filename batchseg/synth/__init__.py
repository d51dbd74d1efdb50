"""Synthetic aerial scenes with labels, made from nothing but a seed: for demonstrations, benchmarks and training."""

from __future__ import annotations

from batchseg.synth.materials import CLASSES, UNLABELLED
from batchseg.synth.render import render
from batchseg.synth.scene import write_scene

__all__ = ["CLASSES", "UNLABELLED", "render", "write_scene"]
