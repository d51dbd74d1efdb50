"""Who takes part, and the environment that each needs.

A peer with packages of its own runs in an overlay: an environment that sees the development environment's packages and
adds its own before them, so that all participants have one torch, one numpy and one rasterio.
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

from bench.peers.handed import Form

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


@dataclass(frozen=True, slots=True)
class Peer:
    name: str
    module: str
    form: Form
    requirements: str | None = None
    """A file of pinned packages beside this one."""

    def edges_px(self, size_px: int, tile_px: int) -> list[int]:
        """Where its tiles begin and end, along one side of the scene."""
        module: Any = import_module(f"bench.peers.{self.module}")
        found: list[int] = module.edges_px(size_px, tile_px)
        return found

    def python(self, folder: Path) -> Path:
        """The interpreter that it runs in, made at its first use."""
        return Path(sys.executable) if self.requirements is None else overlay(HERE / self.requirements, folder)


PEERS = (
    Peer("rasterio loop", "loop", "labels"),
    Peer("MONAI", "monai_window", "scores", "requirements-monai.txt"),
    Peer("terratorch", "terratorch_tiles", "scores", "requirements-terratorch.txt"),
    Peer("Ray Data", "ray_data", "labels"),
)
OURS = "batchseg"


def overlay(requirements: Path, folder: Path) -> Path:
    home = folder / requirements.stem.removeprefix("requirements-")
    python, done = home / "bin" / "python", home / requirements.name
    if done.exists() and done.read_text() == requirements.read_text():
        return python
    venv.create(home, clear=True, with_pip=False, symlinks=True)
    packages = next(home.glob("lib/python*/site-packages"))
    # A path alone would not do: this one runs the other's .pth files too, among them the one of this project.
    (packages / "shared.pth").write_text(f"import site; site.addsitedir({get_path('purelib')!r})\n")
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", packages, "-r", requirements],
        check=True,
    )
    done.write_text(requirements.read_text())
    return python
