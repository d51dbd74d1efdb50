"""A peer's command line, the same for all: a scene, where its labels go, and the model that it is handed."""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from bench.peers.handed import Backend, Form, Handed

MAP = {
    "driver": "GTiff", "count": 1, "dtype": "uint8", "nodata": 255, "tiled": True, "blockxsize": 512,
    "blockysize": 512, "compress": "deflate", "zlevel": 1, "num_threads": 2, "bigtiff": "if_safer",
}  # fmt: skip
"""How a peer's labels are stored: with the level of compression that our own files have."""


@dataclass(frozen=True, slots=True)
class Task:
    scene: Path
    labels: Path
    model: str
    backend: Backend
    cache: Path

    def open_model(self, form: Form) -> Handed:
        return Handed(self.model, self.backend, form, self.cache)


def task_of_command_line(doc: str | None) -> Task:
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scene", type=Path, required=True)
    parser.add_argument("--labels", type=Path, required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--backend", choices=get_args(Backend), required=True)
    parser.add_argument("--cache", type=Path, required=True)
    return Task(**vars(parser.parse_args()))


def ready() -> None:
    """Said once all is imported, opened and compiled: what follows is work on the scene."""
    print(f"ready {time.time():.6f}", flush=True)


def map_profile(scene_profile: dict[str, Any]) -> dict[str, Any]:
    return {name: scene_profile[name] for name in ("width", "height", "crs", "transform")} | MAP
