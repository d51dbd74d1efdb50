"""The participants, and the environment that each needs.

A peer with its own packages runs in an overlay. It is an environment that adds these packages to those of the
development environment, so that all participants have the same torch, numpy and rasterio.
"""

from __future__ import annotations

import subprocess
import sys
import venv
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from sysconfig import get_path
from typing import Any

from bench.peers.peer_model import Form

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


@dataclass(frozen=True, slots=True)
class Peer:
    name: str
    module: str
    form: Form
    requirements: str | None = None
    """File of pinned packages beside this one."""

    def list_edges_px(self, size_px: int, tile_px: int) -> list[int]:
        """List where the peer's tiles begin and end, along one side of the scene."""
        module: Any = import_module(f"bench.peers.{self.module}")
        edges_px: list[int] = module.list_edges_px(size_px, tile_px)
        return edges_px

    def python(self, folder: Path) -> Path:
        """The interpreter of the peer; its environment is made at the first use."""
        return Path(sys.executable) if self.requirements is None else make_overlay(HERE / self.requirements, folder)


PEERS = (
    Peer("rasterio loop", "loop", "labels"),
    Peer("MONAI", "monai_window", "scores", "requirements-monai.txt"),
    Peer("terratorch", "terratorch_tiles", "scores", "requirements-terratorch.txt"),
    Peer("Ray Data", "ray_data", "labels"),
)
OURS = "batchseg"


def make_overlay(requirements: Path, folder: Path) -> Path:
    home = folder / requirements.stem.removeprefix("requirements-")
    python, done = home / "bin" / "python", home / requirements.name
    if done.exists() and done.read_text() == requirements.read_text():
        return python
    venv.create(home, clear=True, with_pip=False, symlinks=True)
    packages = next(home.glob("lib/python*/site-packages"))
    # `addsitedir` also runs the .pth files of the other environment, among them the one of this project.
    (packages / "shared.pth").write_text(f"import site; site.addsitedir({get_path('purelib')!r})\n")
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", packages, "-r", requirements],
        check=True,
    )
    done.write_text(requirements.read_text())
    return python
