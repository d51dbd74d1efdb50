"""docs/recipe.md, made from the fields of the dataclasses, so that no default is ever written twice.

`make docs` renews it: `python -m batchseg.recipe.document docs/recipe.md`.
"""

from __future__ import annotations

import sys
import typing
from collections.abc import Iterator
from dataclasses import MISSING, Field, fields, is_dataclass
from pathlib import Path
from typing import Any, get_args, get_origin

from batchseg.egress import write_text
from batchseg.recipe.fleet import Fleet
from batchseg.recipe.recipe import Recipe
from batchseg.schema import plain, yaml_name

HEAD = """# Recipe and fleet

A **recipe** holds everything that decides output bytes; a **fleet** holds workers, prices and retries, and never
changes a byte. Unknown keys are refused with the nearest valid name. Paths are relative to the current folder.

This page is made from the code (`make docs`).
"""


def document() -> str:
    return "\n".join([HEAD, section("Recipe", Recipe), section("Fleet", Fleet)])


def section(title: str, kind: type[Any]) -> str:
    """A table of all keys that `build` reads for a dataclass."""
    rows = "\n".join(_rows(kind, ""))
    return f"## {title}\n\n| key | default | what it is |\n|---|---|---|\n{rows}\n"


def _rows(kind: type[Any], prefix: str) -> Iterator[str]:
    hints = typing.get_type_hints(kind)
    for of in fields(kind):
        if "doc" not in of.metadata:
            continue  # what it is was said where it is held
        name = f"{prefix}{yaml_name(of)}"
        inner = list(_inner(hints[of.name]))
        nested = bool(inner) and of.default is MISSING and of.default_factory in (MISSING, *inner)
        yield f"| `{name}` | {'' if nested else _default(of)} | {_cell(of.metadata['doc'])} |"
        in_list = get_origin(hints[of.name]) is tuple
        for held in inner:
            yield from _rows(held, f"{name}[]." if in_list else f"{name}.")


def _inner(hint: Any) -> Iterator[type[Any]]:
    """The dataclasses with documented fields that a field may hold, alone or in a list."""
    if isinstance(hint, type) and is_dataclass(hint) and any("doc" in of.metadata for of in fields(hint)):
        yield hint
    for part in get_args(hint):
        yield from _inner(part)


def _default(of: Field[Any]) -> str:
    if of.default is not MISSING:
        value = of.default
    elif of.default_factory is not MISSING:
        value = of.default_factory()
    else:
        return "**required**"
    return f"`{_yaml(plain(value))}`"


def _yaml(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_yaml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_yaml(item) for item in value) + "]"
    return str(value)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    write_text(Path(sys.argv[1]), document())
