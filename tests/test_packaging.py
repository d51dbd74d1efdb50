"""What the repository ships for installing and for images: pinned by hash, without rights and without secrets."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent


def read_pins(path: Path) -> dict[str, list[str]]:
    """The hashes of each requirement of a lock file."""
    joined = path.read_text("utf-8").replace("\\\n", " ")
    lines = [line.split() for line in joined.splitlines() if line.strip()]
    return {words[0]: [word for word in words[1:] if word.startswith("--hash=sha256:")] for words in lines}


@pytest.mark.parametrize("name", ["cpu", "cuda"])
def test_every_locked_package_has_a_version_and_hashes(name: str) -> None:
    pins = read_pins(ROOT / "requirements" / f"{name}.txt")
    assert len(pins) > 100
    assert {pin for pin, hashes in pins.items() if "==" not in pin or not hashes} == set()


def test_the_cpu_build_of_torch_is_of_the_version_of_the_gpu_build() -> None:
    (torch,) = read_pins(ROOT / "requirements" / "torch.txt")
    assert torch in read_pins(ROOT / "requirements" / "cuda.txt")


def test_installations_check_hashes() -> None:
    for name in ("Makefile", "Dockerfile"):
        installs = re.findall(r"pip install[^\n]*-r \S*(?:LOCK|cuda)\S*", (ROOT / name).read_text("utf-8"))
        assert installs, name
        assert all("--require-hashes" in line for line in installs), name


def test_the_image_runs_without_rights() -> None:
    lines = (ROOT / "Dockerfile").read_text("utf-8").splitlines()
    assert [line for line in lines if line.startswith("USER ")] == ["USER batchseg"]
    assert not any(line.startswith(("RUN", "COPY")) for line in lines[lines.index("USER batchseg") :])


@pytest.mark.parametrize("name", [".dockerignore", ".rayignore", ".gitignore"])
def test_secrets_stay_at_home(name: str) -> None:
    patterns = set((ROOT / name).read_text("utf-8").split())
    assert {".env", ".env.*", "*.pem", "*.key"} <= patterns


def test_the_cluster_runs_one_image() -> None:
    assert re.search(r"image: \S+@sha256:", (ROOT / "ray_cluster.yaml").read_text("utf-8"))


def locked_versions(*names: str) -> dict[str, str]:
    pins = [pin for name in names for pin in read_pins(ROOT / "requirements" / f"{name}.txt")]
    return {canonicalize_name(name): version for name, _, version in (pin.partition("==") for pin in pins)}


@pytest.mark.parametrize("name", ["cpu", "cuda"])
def test_every_dependency_has_a_lower_bound_that_the_lock_files_meet(name: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = project["optional-dependencies"] if name == "cpu" else {}
    listed = [*project["dependencies"], *(text for extra in extras.values() for text in extra)]
    locked = locked_versions(name, "torch")
    for requirement in map(Requirement, listed):
        assert [bound.operator for bound in requirement.specifier] == [">="], requirement
        assert requirement.specifier.contains(locked[canonicalize_name(requirement.name)]), requirement
