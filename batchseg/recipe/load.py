"""Reads recipe and fleet files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml

from batchseg.egress import list_texts, redact_errors
from batchseg.errors import IrregularFileError, RecipeError
from batchseg.known_secrets import learn_credentials
from batchseg.recipe.fleet import Fleet
from batchseg.recipe.recipe import Recipe
from batchseg.regular_files import read_regular
from batchseg.schema import build

T = TypeVar("T")


class _StrictLoader(yaml.SafeLoader):
    """Refuses duplicate keys, of which YAML keeps the last one silently, and aliases.

    With aliases of aliases, a file of a few hundred bytes stands for more values than fit into memory.
    """

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            line = self.get_mark().line + 1
            raise RecipeError("an alias is not allowed here", where=f"line {line}", todo="write the value out")
        return super().compose_node(parent, index)


def _no_duplicates(loader: _StrictLoader, node: yaml.MappingNode) -> dict[object, object]:
    seen: dict[object, object] = {}
    for key_node, value_node in node.value:
        key = loader.construct_object(key_node, deep=True)
        if isinstance(key, list | dict):
            raise RecipeError("a key must not be a list or a mapping", where=f"line {key_node.start_mark.line + 1}")
        if key in seen:
            raise RecipeError(f"`{key}` is given twice", where=f"line {key_node.start_mark.line + 1}")
        seen[key] = loader.construct_object(value_node, deep=True)
    return seen


_StrictLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _no_duplicates)


@redact_errors
def load_recipe(path: str | Path) -> Recipe:
    """Read a recipe file.

        from batchseg import load_recipe

        recipe = load_recipe("recipe.yaml")

    Args:
        path: A YAML file. Paths in it are relative to the current folder, like those of a command.

    Returns:
        The recipe, checked, with its defaults.

    Raises:
        RecipeError: The file cannot be read, or a key or a value in it is wrong.
    """
    return load_as(Recipe, path, "recipe")


@redact_errors
def load_fleet(path: str | Path | None) -> Fleet:
    """Read a fleet file.

        from batchseg import load_fleet

        fleet = load_fleet("fleet.yaml")

    Args:
        path: A YAML file, or None for the default fleet, a single worker in this process.

    Returns:
        The fleet, checked, with its defaults.

    Raises:
        RecipeError: The file cannot be read, or a key or a value in it is wrong.
    """
    return Fleet() if path is None else load_as(Fleet, path, "fleet")


def load_as(
    kind: type[T],
    path: str | Path,
    what: str,
    check: Callable[[T], None] | None = None,
    check_keys: Callable[[Mapping[str, object]], None] | None = None,
) -> T:
    """Read a settings file in the strict way of recipes.

    Args:
        kind: The dataclass of the settings.
        path: The YAML file.
        what: A word for such a file in messages.
        check: Checks the settings together; it may raise a RecipeError.
        check_keys: Checks which keys the file gives, before defaults are filled in; it may raise a RecipeError.
    """
    try:
        text = read_regular(path).decode("utf-8")
    except IrregularFileError as error:
        raise RecipeError(
            f"this {what} cannot be read", where=str(path), expected="a regular file", got=error.got, todo=error.todo
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(
            f"this {what} cannot be read", where=str(path), got=str(error), todo="check the path"
        ) from error
    learn_credentials(text)
    try:
        data = yaml.load(text, Loader=_StrictLoader)  # noqa: S506 - a SafeLoader that also refuses duplicate keys
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: of a date like 2024-99-99
        raise RecipeError("this YAML cannot be read", where=str(path), got=_describe(error)) from error
    except RecipeError as error:
        raise RecipeError(error.what, where=f"{path}: {error.where}", todo=error.todo) from error
    learn_credentials(*list_texts(data))
    try:
        settings = build(kind, {} if data is None else data, where=str(path))
        if check_keys is not None:
            check_keys(data or {})
        if check is not None:
            check(settings)
    except RecipeError as error:
        # An error that a dataclass raises itself names the key but not the file.
        if error.where is not None and f"{error.where}: ".startswith(f"{path}: "):
            raise
        raise RecipeError(
            error.what,
            where=f"{path}: {error.where}",
            expected=error.expected,
            got=error.got,
            todo=error.todo,
        ) from error
    return settings


def _describe(error: Exception) -> str:
    """Say what is wrong and where, without the line itself: a part of a credential is not recognised."""
    if not isinstance(error, yaml.MarkedYAMLError):
        return " ".join(str(error).split())
    parts = [(error.context, error.context_mark), (error.problem, error.problem_mark)]
    return ", ".join(
        text if mark is None else f"{text} in line {mark.line + 1}, column {mark.column + 1}"
        for text, mark in parts
        if text is not None
    )
