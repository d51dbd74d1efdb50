"""The command line of every peer: a scene, the file for its labels, and the model."""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from bench.peers.peer_model import Backend, Form, PeerModel

MAP = {
    "driver": "GTiff", "count": 1, "dtype": "uint8", "nodata": 255, "tiled": True, "blockxsize": 512,
    "blockysize": 512, "compress": "deflate", "zlevel": 1, "num_threads": 2, "bigtiff": "if_safer",
}  # fmt: skip
"""Profile of a peer's file of labels, with the level of compression of our own files."""


@dataclass(frozen=True, slots=True)
class Task:
    scene: Path
    labels: Path
    model: str
    backend: Backend
    cache: Path

    def open_model(self, form: Form) -> PeerModel:
        return PeerModel(self.model, self.backend, form, self.cache)


def parse_task(doc: str | None) -> Task:
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scene", type=Path, required=True)
    parser.add_argument("--labels", type=Path, required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--backend", choices=get_args(Backend), required=True)
    parser.add_argument("--cache", type=Path, required=True)
    return Task(**vars(parser.parse_args()))


def print_ready() -> None:
    """Print that everything is imported, opened and compiled, so that the work on the scene starts now."""
    print(f"ready {time.time():.6f}", flush=True)


def make_map_profile(scene_profile: dict[str, Any]) -> dict[str, Any]:
    return {name: scene_profile[name] for name in ("width", "height", "crs", "transform")} | MAP
