"""docs/python.md, made from the docstrings of the public functions and values, so that they are written once.

`make docs` renews it: `python -m jobs.python_page docs/python.md`.
"""

from __future__ import annotations

import ast
import inspect
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, is_dataclass
from pathlib import Path
from textwrap import dedent
from types import ModuleType

import batchseg
import jobs
from batchseg.egress import format_json, write_text

HEAD = """# Python

The command line does nothing that Python cannot do. `batchseg` has the functions of one process, `jobs` those that run
on Ray. They take values and return values. The errors that they raise on purpose are `BatchsegError`, whose text is the
line that a command prints. A name that is not on this page is private.

This page is made from the code (`make docs`).
"""
SECTIONS = ("Args", "Returns", "Raises", "Example")
MAX_SIGNATURE = 100


def make_page() -> str:
    packages = (batchseg, jobs)
    functions = [text for package in packages for text in _describe_functions(package)]
    values = [text for package in packages for text in _describe_values(package)]
    return "\n".join([HEAD, *functions, "## Values\n", *values])


def _describe_functions(package: ModuleType) -> Iterator[str]:
    yield f"## Functions of `{package.__name__}`\n"
    for name, function in list_functions(package).items():
        doc = split_docstring(inspect.getdoc(function) or "")
        parts = [f"### `{name}`", _fence(_format_signature(name, inspect.signature(function))), doc.text]
        parts += [_fence(example) for example in doc.examples]
        parts += [_format_section(title, doc.sections[title]) for title in SECTIONS if title in doc.sections]
        yield "\n\n".join(parts) + "\n"


def list_functions(package: ModuleType) -> dict[str, Callable[..., object]]:
    """The public functions of a package, by name."""
    public = {name: getattr(package, name) for name in package.__all__}
    return {name: value for name, value in public.items() if inspect.isfunction(value)}


def _fence(code: str) -> str:
    return f"```python\n{code}\n```"


def _format_signature(name: str, signature: inspect.Signature) -> str:
    """One parameter per line where the signature is long. Annotations are text already."""
    parameters = []
    for parameter in signature.parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY and "*" not in parameters:
            parameters.append("*")
        default = "" if parameter.default is parameter.empty else f" = {_format_default(parameter.default)}"
        parameters.append(f"{parameter.name}: {parameter.annotation}{default}")
    line = f"def {name}({', '.join(parameters)}) -> {signature.return_annotation}: ..."
    if len(line) <= MAX_SIGNATURE:
        return line
    body = "".join(f"    {parameter},\n" for parameter in parameters)
    return f"def {name}(\n{body}) -> {signature.return_annotation}: ..."


def _format_default(value: object) -> str:
    """As the formatter writes it, which formats the code of this page too."""
    return format_json(value) if isinstance(value, str) else repr(value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Docstring:
    """The parts of a function's docstring."""

    text: str
    examples: tuple[str, ...]
    """Python code, either indented or in the style of an interpreter."""
    sections: dict[str, str]
    """Title -> text, for the titles of SECTIONS but `Example`."""


def split_docstring(doc: str) -> Docstring:
    head, *rest = re.split(rf"^({'|'.join(SECTIONS)}):\n", doc, flags=re.MULTILINE)
    sections = {title: dedent(text).strip() for title, text in zip(rest[::2], rest[1::2], strict=True)}
    blocks = re.split(r"\n\n(?! )", head.strip())
    texts, examples = [], []
    for block in blocks:
        text, _, code = block.partition("\n\n    ")
        texts.append(text)
        if code:
            examples.append(dedent("    " + code).strip())
    if "Example" in sections:
        examples.append(_convert_session(sections.pop("Example")))
    return Docstring(text="\n\n".join(texts), examples=tuple(examples), sections=sections)


def _convert_session(session: str) -> str:
    """Code from an interpreter's session; its answers become comments, and a blank line follows the imports."""
    lines = [line[4:] if line.startswith((">>> ", "... ")) else f"# {line}" for line in session.splitlines()]
    num_imports = next((i for i, line in enumerate(lines) if not line.startswith(("from ", "import "))), len(lines))
    blank = [""] if 0 < num_imports < len(lines) else []
    return "\n".join([*lines[:num_imports], *blank, *lines[num_imports:]])


def _format_section(title: str, text: str) -> str:
    if title == "Returns":
        return f"**{title}**: {' '.join(text.split())}"
    entries = re.findall(r"^(\w[\w, ]*): (.*(?:\n +.*)*)", text, re.MULTILINE)
    return f"**{title}**\n\n" + "\n".join(f"- `{name}`: {' '.join(meaning.split())}" for name, meaning in entries)


def _describe_values(package: ModuleType) -> Iterator[str]:
    for name in package.__all__:
        value = getattr(package, name)
        if inspect.isclass(value):
            fields = "\n".join(_describe_fields(value)) if is_dataclass(value) else ""
            table = f"\n| field | type | meaning |\n|---|---|---|\n{fields}\n" if fields else ""
            doc = inspect.getdoc(value) or ""
            yield f"### `{name}`\n\n{doc}\n{table}"


def _describe_fields(kind: type) -> Iterator[str]:
    """The fields of a dataclass, with the strings that stand below them."""
    (node,) = ast.parse(dedent(inspect.getsource(kind))).body
    assert isinstance(node, ast.ClassDef)
    followers = [*node.body[1:], None]
    for statement, follower in zip(node.body, followers, strict=True):
        if isinstance(statement, ast.AnnAssign) and not ast.unparse(statement.target).startswith("_"):
            kind_text = ast.unparse(statement.annotation).replace("|", "\\|")
            yield f"| `{ast.unparse(statement.target)}` | `{kind_text}` | {_read_text(follower)} |"


def _read_text(node: ast.stmt | None) -> str:
    """The text of a statement that is nothing but text, on one line."""
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
        return " ".join(node.value.value.split())
    return ""


if __name__ == "__main__":
    write_text(Path(sys.argv[1]), make_page())
