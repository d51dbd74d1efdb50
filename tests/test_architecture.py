"""The rules of the house that a reader cannot check by looking at one file."""

from __future__ import annotations

import ast
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parent.parent
RINGS = ("tiling", "batchseg", "jobs")
SOURCES = sorted(path for ring in RINGS for path in (ROOT / ring).rglob("*.py"))
MAX_FILE_LINES, MAX_FUNCTION_LINES, TYPICAL_FUNCTION_LINES = 300, 60, 30

IMPORT_ALL = """
import importlib, pkgutil, sys
for name in sys.argv[1].split(","):
    module = importlib.import_module(name)
    for found in pkgutil.walk_packages(getattr(module, "__path__", []), f"{name}."):
        importlib.import_module(found.name)
print(*{name.partition(".")[0] for name in sys.modules})
"""


def loaded_by(*names: str) -> set[str]:
    """Top-level packages in a fresh interpreter after importing these and all modules below them."""
    done = subprocess.run(
        [sys.executable, "-c", IMPORT_ALL, ",".join(names)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def test_tiling_is_numpy_only() -> None:
    outside = loaded_by("tiling") - {"tiling", "numpy"} - set(sys.stdlib_module_names)
    assert {name for name in outside if not name.startswith(("_", "sitecustomize"))} == set()


def test_batchseg_never_loads_ray_nor_the_jobs() -> None:
    assert {"ray", "jobs"} & loaded_by("batchseg") == set()


def test_deciding_needs_no_model_and_no_raster() -> None:
    """What to do next, what was meant and what was done can be tested and read in a moment."""
    loaded = loaded_by(
        "batchseg.recipe",
        "batchseg.ledger",
        "batchseg.runs.runstate",
        "batchseg.ledger.lease",
        "batchseg.engine.segment",
    )
    assert {"torch", "rasterio", "zarr", "ray", "geopandas", "transformers", "openvino"} & loaded == set()


def test_a_run_ends_without_pandas() -> None:
    """It is a quarter of the memory of a small run; who needs it to read vector files still may import it."""
    found = loaded_by(
        "batchseg.workers.worker", "batchseg.reports.write", "batchseg.reports.ledger_table", "batchseg.reports.stac"
    )
    assert found.isdisjoint({"pandas", "geopandas", "zarr", "torch", "transformers"})


def test_imports_run_one_way() -> None:
    program = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([program, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in SOURCES}


def imports_of(path: Path) -> Iterator[str]:
    """Modules of ours that a file imports, also inside functions and for types only."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in MODULES)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            names = (f"{node.module}.{alias.name}" for alias in node.names)
            yield from (target for name in names if (target := name if name in MODULES else node.module) in MODULES)


def test_no_modules_import_each_other_in_a_circle() -> None:
    left = {name: set(imports_of(path)) for name, path in MODULES.items()}
    while free := {name for name, targets in left.items() if not targets & left.keys()}:
        left = {name: targets for name, targets in left.items() if name not in free}
    assert {name: targets & left.keys() for name, targets in left.items()} == {}, "a circle, and what leads to it"


def test_entry_points_are_not_imported() -> None:
    """`import jobs.run` would put the module in the place of the function `jobs.run`."""
    entry_points = {"jobs.run", "jobs.nightly"}
    importing = [
        f"{path}:{node.lineno}"
        for path in [*SOURCES, *(ROOT / "tests").rglob("*.py")]
        for node in ast.walk(tree(path))
        if (isinstance(node, ast.Import) and entry_points & {alias.name for alias in node.names})
        or (isinstance(node, ast.ImportFrom) and node.module in entry_points)
    ]
    assert importing == []


def test_files_are_short() -> None:
    lines = {path: len(path.read_text("utf-8").splitlines()) for path in SOURCES}
    assert {str(path): count for path, count in lines.items() if count > MAX_FILE_LINES} == {}


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"))


def functions(path: Path) -> Iterator[tuple[str, int]]:
    """Each function with its lines, without its docstring."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            doc = node.body[0] if ast.get_docstring(node) is not None else None
            doc_lines = 0 if doc is None else (doc.end_lineno or doc.lineno) - doc.lineno + 1
            yield (
                f"{path.relative_to(ROOT)}:{node.name}",
                (node.end_lineno or node.lineno) - node.lineno + 1 - doc_lines,
            )


_OPENERS = {
    "DatasetReader",
    "WarpedVRT",
    "read_info",
    "read_dataframe",
    "read_arrow",
    "open_arrow",
    "list_layers",
    "read_file",
}
_DOORS = {
    "batchseg/scene/raster_door.py": {"DatasetReader"},
    "batchseg/scene/raster_visitor.py": {"DatasetReader"},
    "batchseg/scene/dataset.py": {"DatasetReader"},
    "batchseg/scene/vectors.py": {"read_info", "list_layers", "raw.read"},
    "batchseg/synth/scene_files.py": {"open"},
}
"""Modules that open rasters and vector files. Workers open in `dataset.py` what came through the door. `synth` looks at
its own rasters, as GeoTIFFs and nothing else."""


def openers(path: Path) -> Iterator[str]:
    """Calls that let GDAL open a file to read it."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Call):
            name, arguments = ast.unparse(node.func), [ast.unparse(each) for each in node.args]
            opens = name == "rasterio.open" and "'w'" not in arguments[1:2]
            if opens or name.split(".")[-1] in _OPENERS:
                yield name.split(".")[-1]
            elif "raw." in name and name.split(".")[-1].startswith(("read", "open")):
                yield f"raw.{name.split('.')[-1]}"


def test_rasters_and_vectors_are_opened_behind_their_doors() -> None:
    opening = {str(path.relative_to(ROOT)): set(openers(path)) for path in SOURCES}
    assert {path: calls for path, calls in opening.items() if calls} == _DOORS


def test_functions_are_short(record_property: Callable[[str, object], None]) -> None:
    lines = dict(found for path in SOURCES for found in functions(path))
    median = statistics.median(lines.values())
    record_property("median_function_lines", median)
    assert {name: count for name, count in lines.items() if count > MAX_FUNCTION_LINES} == {}
    assert median <= TYPICAL_FUNCTION_LINES / 2, f"half of all functions have more than {median} lines"


def caught(handler: ast.ExceptHandler) -> set[str]:
    if handler.type is None:
        return {"everything"}
    kinds = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    return {ast.unparse(kind) for kind in kinds} & {"Exception", "BaseException"}


def passes_on(handler: ast.ExceptHandler) -> bool:
    """Whether it ends by raising the same error again."""
    last = handler.body[-1]
    return isinstance(last, ast.Raise) and last.exc is None


def test_errors_are_caught_wholesale_at_the_edge_of_a_process_only() -> None:
    """One place turns any error into a failure of its task, one carries errors from a thread to its owner, and one says
    why a model that was tried in a process of its own cannot be run that way.
    """
    wide = [
        f"{path.relative_to(ROOT).as_posix()}: {' '.join(caught(node))}"
        for path in SOURCES
        for node in ast.walk(tree(path))
        if isinstance(node, ast.ExceptHandler) and caught(node) and not passes_on(node)
    ]
    assert sorted(wide) == [
        "batchseg/adapt/trial.py: Exception",
        "batchseg/workers/heartbeat.py: BaseException",
        "batchseg/workers/worker.py: Exception",
    ]


def calls(path: Path) -> Iterator[str]:
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func)


def test_only_the_jobs_print() -> None:
    printing = {
        str(path.relative_to(ROOT))
        for path in SOURCES
        if path.relative_to(ROOT).parts[0] != "jobs"
        and {"print", "sys.stdout.write", "sys.stderr.write"} & set(calls(path))
    }
    assert printing == set()


def test_errors_are_raised_from_one_tree() -> None:
    """Classes of errors are made in batchseg.errors, or below one of its classes."""
    roots = {
        f"{path.relative_to(ROOT)}:{node.name}": [ast.unparse(base) for base in node.bases]
        for path in SOURCES
        for node in ast.walk(tree(path))
        if isinstance(node, ast.ClassDef) and node.name.endswith(("Error", "Exception"))
    }
    builtin = {
        name for name, bases in roots.items() if {"Exception", "ValueError", "RuntimeError", "OSError"} & set(bases)
    }
    assert builtin == {"batchseg/errors.py:BatchsegError"}


def test_every_module_reads_annotations_late() -> None:
    late = "from __future__ import annotations"
    defining = [path for path in SOURCES if {ast.FunctionDef, ast.ClassDef} & {type(node) for node in tree(path).body}]
    assert [str(path) for path in defining if late not in path.read_text("utf-8")] == []
