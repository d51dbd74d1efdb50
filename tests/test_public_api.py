"""What users import: the names are all there, typed, documented, and cost nothing before their first use."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import batchseg
import jobs

ROOT = Path(__file__).parent.parent
HEAVY = {"torch", "rasterio", "zarr", "ray", "geopandas", "transformers", "openvino", "numpy", "yaml", "pyarrow"}
PACKAGES = (batchseg, jobs)


def source_of(package: ModuleType) -> str:
    return Path(str(package.__file__)).read_text("utf-8")


def imports_for_types(package: ModuleType) -> dict[str, str]:
    """Name -> module, of the imports that mypy and editors see."""
    (block,) = [node for node in ast.parse(source_of(package)).body if isinstance(node, ast.If)]
    return {
        alias.name: str(node.module) for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }


@pytest.mark.parametrize("name", ["batchseg", "jobs"])
def test_importing_the_package_loads_nothing_heavy(name: str) -> None:
    program = f"import sys, {name}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    loaded = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert HEAVY & set(loaded.stdout.split()) == set()


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.__name__)
def test_every_public_name_has_a_home_a_type_and_a_line_in_the_docstring(package: ModuleType) -> None:
    assert sorted(package._HOMES) == sorted(package.__all__) == list(package.__all__)
    assert imports_for_types(package) == package._HOMES, "what mypy sees is what is imported"
    assert set(package.__all__) <= set(dir(package))
    for name in package.__all__:
        assert name in str(package.__doc__), f"the docstring of {package.__name__} does not mention {name}"


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.__name__)
def test_every_public_name_can_be_imported(package: ModuleType) -> None:
    for name in package.__all__:
        value = getattr(package, name)
        assert (value.__module__, value.__name__) == (package._HOMES[name], name)


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.__name__)
def test_another_name_is_refused_as_python_does(package: ModuleType) -> None:
    with pytest.raises(AttributeError, match=f"module '{package.__name__}' has no attribute 'nothing'"):
        _ = package.nothing
