"""What users import: the names are all there, typed, documented, and cost nothing before their first use."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

import batchseg
import jobs
from jobs.python_page import split_docstring

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


FUNCTIONS = [
    pytest.param(package, name, id=f"{package.__name__}.{name}")
    for package in PACKAGES
    for name in package.__all__
    if name[0].islower()
]


@pytest.mark.parametrize(("package", "name"), FUNCTIONS)
def test_every_public_function_says_what_it_takes_and_gives_with_an_example(package: ModuleType, name: str) -> None:
    function = getattr(package, name)
    doc = split_docstring(str(inspect.getdoc(function)))
    assert doc.text
    assert {"Args", "Returns"} <= doc.sections.keys()
    for parameter in inspect.signature(function).parameters:
        assert f"{parameter}: " in doc.sections["Args"], f"{name} does not say what {parameter} is"
    assert doc.examples
    for example in doc.examples:
        imports = [node for node in ast.walk(ast.parse(example)) if isinstance(node, ast.ImportFrom)]
        assert any(alias.name == name for node in imports for alias in node.names), "an example imports its function"
        for node in imports:
            for alias in node.names:
                assert hasattr(import_module(str(node.module)), alias.name)


def test_public_values_say_what_they_are() -> None:
    values = [getattr(package, name) for package in PACKAGES for name in package.__all__ if name[0].isupper()]
    silent = [value.__name__ for value in values if str(value.__doc__).startswith(f"{value.__name__}(")]
    assert silent == []


def test_no_folder_bears_the_name_of_a_public_function() -> None:
    """`import batchseg.train` would put the folder in the place of the function."""
    functions = {name for package in PACKAGES for name in package.__all__ if name[0].islower()}
    folders = {path.parent.name for ring in ("batchseg", "jobs") for path in (ROOT / ring).rglob("*.py")}
    assert functions & folders == set()
    assert functions & {path.stem for path in (ROOT / "batchseg").glob("*.py")} == set()


@pytest.mark.parametrize(("package", "name"), FUNCTIONS)
def test_no_error_of_a_public_function_shows_a_credential(package: ModuleType, name: str) -> None:
    """`redact_errors` replaces causes that do."""
    decorators = inspect.getsource(getattr(package, name)).partition("def ")[0]
    assert "@redact_errors" in decorators
