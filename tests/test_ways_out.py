"""The ways by which text leaves the process are few and known, so that none of them can forget to redact it.

A module that writes in a new way fails here. It should give its text to `batchseg/egress.py`, or its bytes to a store.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from tests.test_architecture import ROOT, SOURCES, tree

EGRESS = "batchseg/egress.py"
DIGESTING = ("hashlib.", "compute_digest", "hasher.update", "digest.update", "zlib.crc32")
"""Calls whose text goes into a digest, from which it does not come back."""

JSON_FOR_DIGESTS = {
    "batchseg/known_secrets.py": "the forms of a credential to look for",
    "batchseg/ledger/ledger.py": "whether two values are equal",
    "batchseg/model/bundle.py": "digest of a bundle",
    "batchseg/model/fetch.py": "digest of the version of a bundle",
    "batchseg/resolve/fingerprint.py": "digest of a recipe",
    "batchseg/runs/night_reasons.py": "digests of the parts of a key",
}
ENCODING = {
    EGRESS: "all files of text",
    "batchseg/known_secrets.py": "the forms of a credential to look for",
    "batchseg/output/cog_head.py": "words of the format",
    "batchseg/reports/stac.py": "letters without accents; they become text again",
}
WRITING = {
    ("batchseg/egress.py", "write_bytes"): "files of text",
    ("batchseg/store.py", "write_bytes"): "objects",
    ("batchseg/atomic.py", "write_bytes"): "objects",
    ("batchseg/runs/log.py", "open"): "lines of the log, as bytes",
    ("batchseg/output/cog.py", "open"): "pixels",
    ("batchseg/output/pyramid.py", "open"): "pixels",
    ("batchseg/output/gdal_tags.py", "rasterio.open"): "names of layers and numbers",
    ("batchseg/output/mosaic.py", "to_file"): "names of sheets",
    ("batchseg/output/zarr_metadata.py", "zarr.open_group"): "into memory; its text goes on through `encode_text`",
    ("batchseg/reports/difference_picture.py", "rasterio.open"): "pixels",
    ("batchseg/reports/ledger_table.py", "parquet.write_table"): "columns whose texts come from `encode_text`",
    ("batchseg/synth/scene.py", "rasterio.open"): "synthetic pixels",
    ("batchseg/model/bundle.py", "write_bytes"): "weights",
    ("batchseg/model/fetch.py", "write_bytes"): "files of a bundle, as the server gave them",
    ("batchseg/scene/vectors.py", "write_bytes"): "copies of vector files that are removed after the read",
    ("batchseg/training/checkpoint.py", "save_file"): "weights, with metadata from `format_json`",
    ("batchseg/training/curves.py", "open"): "numbers, and names from `encode_text`",
    ("batchseg/training/teacher.py", "open"): "numbers",
    ("batchseg/training/teacher.py", "np.save"): "numbers",
    ("jobs/cluster/actor.py", "write_bytes"): "files of a bundle",
}
WRITERS = frozenset(
    {
        *(
            "write_text",
            "write_bytes",
            "tofile",
            "to_file",
            "to_csv",
            "to_parquet",
            "to_json",
            "write_table",
            "save_file",
        ),
        *("open_group", "savez", "savez_compressed", "savetxt", "dump", "mkstemp", "NamedTemporaryFile"),
    }
)
"""The last part of the name of a call that writes a file."""


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def list_calls(path: Path) -> Iterator[tuple[ast.Call, str, list[ast.AST]]]:
    """Each call with its name, and with all nodes that hold it."""

    def walk(node: ast.AST, above: list[ast.AST]) -> Iterator[tuple[ast.Call, str, list[ast.AST]]]:
        if isinstance(node, ast.Call):
            yield node, ast.unparse(node.func), above
        for child in ast.iter_child_nodes(node):
            yield from walk(child, [*above, node])

    yield from walk(tree(path), [])


def is_digested(above: list[ast.AST]) -> bool:
    return any(isinstance(node, ast.Call) and ast.unparse(node.func).startswith(DIGESTING) for node in above)


def opens_for_writing(call: ast.Call, name: str) -> bool:
    modes = [
        argument.value
        for argument in [*call.args, *(keyword.value for keyword in call.keywords if keyword.arg == "mode")]
        if isinstance(argument, ast.Constant) and isinstance(argument.value, str) and len(argument.value) <= 3
    ]
    return name.rpartition(".")[2] == "open" and any(set(mode) & set("wax+") for mode in modes)


def find_writing(path: Path) -> Iterator[str]:
    for call, name, _ in list_calls(path):
        last = name.rpartition(".")[2]
        if opens_for_writing(call, name):
            yield name if name.startswith("rasterio") else "open"
        elif name == "np.save":
            yield name
        elif name == "save_file" or (last in WRITERS and "." in name):  # functions of ours are called without a dot
            yield name if name.startswith(("zarr.", "parquet.")) else last


def test_json_becomes_text_in_one_place() -> None:
    making = {
        name_of(path) for path in SOURCES for _, name, _ in list_calls(path) if name in ("json.dumps", "json.dump")
    }
    assert making == JSON_FOR_DIGESTS.keys()
    assert "json.dumps," in (ROOT / EGRESS).read_text("utf-8"), "the one place"


def test_text_becomes_bytes_in_one_place() -> None:
    encoding = {
        name_of(path)
        for path in SOURCES
        for _, name, above in list_calls(path)
        if name.endswith(".encode") and not is_digested(above)
    }
    assert encoding == ENCODING.keys()


def test_files_are_written_by_few_modules() -> None:
    """None of them writes text: all of them get bytes, or write pixels and weights."""
    writing = {(name_of(path), what) for path in SOURCES for what in find_writing(path)}
    assert writing == WRITING.keys()


def test_nothing_goes_past_the_streams() -> None:
    past = {
        f"{name_of(path)}: {ast.unparse(node)}"
        for path in SOURCES
        for node in ast.walk(tree(path))
        if (isinstance(node, ast.Attribute) and ast.unparse(node) in ("sys.__stdout__", "sys.__stderr__", "os.write"))
        or (isinstance(node, ast.Attribute) and node.attr == "buffer" and ast.unparse(node).startswith("sys."))
    }
    assert past == set()


def test_two_modules_log() -> None:
    """One listens to GDAL. The other one logs a path, which it redacts."""
    users = {name_of(path) for path in SOURCES for _, name, _ in list_calls(path) if name == "logging.getLogger"}
    assert users == {"batchseg/model/cache.py", "batchseg/scene/dataset.py"}
    logged = {
        ast.unparse(argument)
        for call, name, _ in list_calls(ROOT / "batchseg" / "model" / "cache.py")
        if name.startswith("_LOG.")
        for argument in call.args[1:]
    }
    assert logged == {"redact(str(folder))"}


def test_every_program_redacts_its_streams() -> None:
    programs = [
        path
        for path in SOURCES
        if any(
            isinstance(node, ast.If) and ast.unparse(node.test) == "__name__ == '__main__'" for node in tree(path).body
        )
    ]
    silent = {"batchseg/recipe/document.py", "batchseg/training/document.py", "jobs/python_page.py"}
    assert {name_of(path) for path in programs} == silent | {
        *("jobs/cli.py", "jobs/demo.py", "jobs/nightly.py", "jobs/run.py")
    }
    for path in programs:
        calls = {name for _, name, _ in list_calls(path)}
        assert name_of(path) in silent or {"redact_streams", "redact_output"} & calls
        assert name_of(path) not in silent or "print" not in calls


def test_what_runs_on_ray_redacts_its_streams_and_its_errors() -> None:
    """Both end in log files of Ray."""
    for path in (ROOT / "jobs" / "cluster").glob("*.py"):
        sent = {ast.unparse(call.args[0]) for call, name, _ in list_calls(path) if name == "ray.remote"}
        for source in SOURCES:
            for node in tree(source).body:
                if isinstance(node, ast.ClassDef) and node.name in sent:
                    check_actor(node)
                elif isinstance(node, ast.FunctionDef) and node.name in sent:
                    assert "redact_errors" in map(ast.unparse, node.decorator_list)
                    assert "redact_streams()" in ast.unparse(node)


def check_actor(actor: ast.ClassDef) -> None:
    methods = {node.name: node for node in actor.body if isinstance(node, ast.FunctionDef)}
    assert "redact_streams()" in ast.unparse(methods["__init__"])
    for name, method in methods.items():
        assert name.startswith("_") or "redact_errors" in map(ast.unparse, method.decorator_list), name


def test_metrics_have_few_labels_with_known_values() -> None:
    """Prometheus shows them to all who reach a node."""
    users = {name_of(path) for path in SOURCES if "ray.util.metrics" in path.read_text("utf-8")}
    assert users == {"jobs/cluster/ray_metrics.py"}
    labels = {
        ast.unparse(argument)
        for call, name, _ in list_calls(ROOT / "jobs" / "cluster" / "ray_metrics.py")
        if name.endswith((".inc", ".set"))
        for argument in call.args
        if isinstance(argument, ast.Dict)
    }
    assert labels == {
        *("{'kind': kind}", "{'outcome': 'failed'}", "{'stage': stage}", "{'outcome': record.kind}", "{'tier': tier}")
    }, "each of these values is one of a few words"
