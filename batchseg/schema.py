"""Plain data (parsed YAML or JSON) -> frozen dataclasses, strictly, and back.

`build` refuses an unknown key with the nearest valid name, and a wrong type with the place where it stands. It reads
recipes, fleets and every JSON file of a run, so no file is ever half understood. `build_unchecked` is for data that
`build` has checked before and whose digest is right: it is several times as fast. `plain` is the inverse of both.
"""

from __future__ import annotations

import difflib
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, Field, field, fields, is_dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar, Union, get_args, get_origin

from batchseg.errors import RecipeError, UnknownKeyError

T = TypeVar("T")

if TYPE_CHECKING:
    Json: TypeAlias = "bool | int | float | str | Sequence[Json] | Mapping[str, Json] | None"
    """The values that a JSON file can hold. The containers are read-only, so that a list of text is one too."""
    JsonObject: TypeAlias = Mapping[str, Json]
else:  # what `build` understands: it passes such a value on as it is
    Json = Any
    JsonObject = Mapping[str, Any]


def setting(default: Any = MISSING, *, doc: str, key: str | None = None, is_optional: bool = False) -> Any:
    """A documented field of a recipe or fleet.

    Args:
        default: The value where the key is absent.
        doc: Text of the page of recipes.
        key: Name in YAML, where the field's name would be a reserved word of Python.
        is_optional: Whether `plain` leaves the key out where the value is None.
    """
    metadata = {"doc": doc, "key": key, "optional": is_optional}
    if default is MISSING:
        return field(metadata=metadata)
    if callable(default):
        return field(default_factory=default, metadata=metadata)
    return field(default=default, metadata=metadata)


def optional() -> Any:
    """A field that is None where its key is absent; `plain` leaves the key out then."""
    return field(default=None, metadata={"optional": True})


def inlined() -> Any:
    """A nested dataclass, or one of several, whose keys stand in the file among those of the class that holds it."""
    return field(metadata={"inlined": True})


def yaml_name(of: Field[Any]) -> str:
    return of.metadata.get("key") or of.name


def build(kind: type[T], data: object, *, where: str) -> T:
    """Make a dataclass from a mapping, strictly.

    Args:
        kind: The dataclass.
        data: Parsed YAML or JSON.
        where: The place for messages, like `recipe.yaml: tiling`.

    Raises:
        RecipeError: A key is unknown or missing, or a value has the wrong type.
    """
    if not isinstance(data, Mapping):
        raise RecipeError("this must be a mapping", where=where, expected="key: value lines", got=repr(data))
    known = {yaml_name(f): f for f in fields(kind)}  # type: ignore[arg-type]
    data = _gather_inlined(kind, data)
    for key in data:
        if key not in known:
            raise _unknown_key(str(key), list(known), where)
    hints = _hints(kind)  # type: ignore[arg-type]
    given = {f.name: _convert(hints[f.name], data[key], f"{where}: {key}") for key, f in known.items() if key in data}
    for key, f in known.items():
        if f.name not in given and f.default is MISSING and f.default_factory is MISSING:
            doc = f" ({f.metadata['doc']})" if "doc" in f.metadata else ""
            raise RecipeError(f"`{key}` is missing", where=where, todo=f"add a line `{key}: …`{doc}")
    return kind(**given)


def _gather_inlined(kind: type, data: Mapping[Any, object]) -> Mapping[Any, object]:
    """The same data with the keys of each inlined field in a mapping of its own."""
    for f in fields(kind):
        if f.metadata.get("inlined"):
            hint = _hints(kind)[f.name]
            keys = {yaml_name(inner) for option in get_args(hint) or (hint,) for inner in fields(option)}
            rest = {key: value for key, value in data.items() if key not in keys}
            data = rest | {f.name: {key: value for key, value in data.items() if key in keys}}
    return data


@cache
def _hints(kind: type) -> dict[str, Any]:
    """Cached, since understanding annotations takes longer than using them, and a ledger has many records."""
    return typing.get_type_hints(kind)


def _unknown_key(key: str, known: list[str], where: str) -> UnknownKeyError:
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    todo = f"did you mean `{near[0]}`?" if near else f"valid keys are {', '.join(known)}"
    return UnknownKeyError(f"unknown key `{key}`", where=where, todo=todo)


def _convert(hint: Any, value: object, where: str) -> Any:
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return _convert_union(args, value, where)
    if origin is Literal:
        if value not in args:
            raise _wrong(where, " or ".join(map(str, args)), value)
        return value
    if origin is tuple:
        return _convert_tuple(args, value, where)
    if origin in (dict, Mapping):
        if not isinstance(value, Mapping):
            raise _wrong(where, "a mapping", value)
        return {_convert(args[0], k, where): _convert(args[1], v, f"{where}: {k}") for k, v in value.items()}
    if is_dataclass(hint):
        return build(hint, value, where=where)  # type: ignore[arg-type]
    return _convert_scalar(hint, value, where)


def _convert_union(args: tuple[Any, ...], value: object, where: str) -> Any:
    if value is None and type(None) in args:
        return None
    options = [arg for arg in args if arg is not type(None)]
    if len(options) == 1:
        return _convert(options[0], value, where)
    mappings = [option for option in options if is_dataclass(option)]
    if mappings and isinstance(value, Mapping):
        mappings = _select_by_tag(mappings, value, where)
        # The option that shares most keys is meant, so that a wrong key is compared with the keys of that option.
        keys = {option: {yaml_name(f) for f in fields(option)} for option in mappings}
        return _convert(max(mappings, key=lambda option: len(keys[option] & value.keys())), value, where)
    for option in options:
        try:
            return _convert(option, value, where)
        except RecipeError:
            continue
    words = [word for option in options if get_origin(option) is Literal for word in get_args(option)]
    near = difflib.get_close_matches(str(value), words, n=1, cutoff=0.6)
    raise _wrong(where, " or ".join(map(_option_name, options)), value, f"did you mean `{near[0]}`?" if near else None)


def _select_by_tag(options: list[Any], value: Mapping[Any, Any], where: str) -> list[Any]:
    """The options with the value's tag. A tag is a key that has one fixed word in each option, such as `kind`."""
    words = [_tags(option) for option in options]
    for key in set.intersection(*(set(word) for word in words)):
        known = list(dict.fromkeys(word[key] for word in words))
        got = value.get(key)
        if got not in known:
            near = difflib.get_close_matches(str(got), known, n=1, cutoff=0.6)
            todo = f"did you mean `{near[0]}`?" if near else None
            raise _wrong(f"{where}: {key}", " or ".join(known), got, todo)
        options = [option for option, word in zip(options, words, strict=True) if word[key] == got]
    return options


@cache
def _tags(option: Any) -> dict[str, str]:
    hints = _hints(option)
    words = {yaml_name(f): get_args(hints[f.name]) for f in fields(option) if get_origin(hints[f.name]) is Literal}
    return {key: word[0] for key, word in words.items() if len(word) == 1}


def _option_name(option: Any) -> str:
    if get_origin(option) is Literal:
        return " or ".join(f"`{value}`" for value in get_args(option))
    if is_dataclass(option):
        return f"a mapping like {{{yaml_name(fields(option)[0])}: …}}"
    return getattr(option, "__name__", str(option))


def _convert_tuple(args: tuple[Any, ...], value: object, where: str) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise _wrong(where, "a list like [a, b]", value)
    if len(args) == 2 and args[1] is Ellipsis:
        return tuple(_convert(args[0], item, f"{where}[{i}]") for i, item in enumerate(value))
    if len(value) != len(args):
        raise _wrong(where, f"{len(args)} values", value)
    return tuple(_convert(arg, item, f"{where}[{i}]") for i, (arg, item) in enumerate(zip(args, value, strict=True)))


def _convert_scalar(hint: Any, value: object, where: str) -> Any:
    if hint is Any:
        return value
    if hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError as error:
            raise _wrong(where, "a number with fewer than 309 digits", value) from error
    if isinstance(value, hint) and not (hint is int and isinstance(value, bool)):
        return value
    words = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}
    raise _wrong(where, words.get(hint, str(hint)), value)


def _wrong(where: str, expected: str, got: object, todo: str | None = None) -> RecipeError:
    return RecipeError("wrong value", where=where, expected=expected, got=repr(got), todo=todo)


def build_unchecked(kind: type[T], data: Any) -> T:
    """Make a dataclass of `kind` from data that was checked when it was written. Wrong data make a wrong dataclass."""
    value: T = _make_converter(typing.cast("type", kind))(data)  # type[T] hashes like any type; mypy doubts it
    return value


@cache
def _make_converter(kind: type) -> Callable[[Any], Any]:
    """A function from plain data to a dataclass, made once from the annotations."""
    hints = _hints(kind)
    known = [(f.name, yaml_name(f), _find_converter(hints[f.name])) for f in fields(kind)]
    optional = {f.name for f in fields(kind) if f.default is not MISSING or f.default_factory is not MISSING}

    def convert_fields(data: Any) -> Any:
        values = {
            name: data[key] if convert is None else convert(data[key])
            for name, key, convert in known
            if name not in optional or key in data
        }
        return kind(**values)

    return convert_fields


def _find_converter(hint: Any) -> Callable[[Any], Any] | None:
    """A function for values with this hint; None for values that JSON gives as they are."""
    origin, args = get_origin(hint), get_args(hint)
    if is_dataclass(hint):
        return _make_converter(typing.cast("type", hint))  # is_dataclass is true of instances too, a hint is none
    if origin in (Union, types.UnionType):
        (inner,) = (arg for arg in args if arg is not type(None))
        convert = _find_converter(inner)
        return None if convert is None else lambda value: None if value is None else convert(value)
    if origin is tuple:
        convert_item = _find_converter(args[0])
        return tuple if convert_item is None else lambda value: tuple(map(convert_item, value))
    return None


def plain(value: object) -> Any:
    """The inverse of `build`: dataclasses to data that JSON can hold, with the names of YAML."""
    if is_dataclass(value) and not isinstance(value, type):
        content: dict[str, Any] = {}
        for f in fields(value):
            part = plain(getattr(value, f.name))
            if f.metadata.get("inlined"):
                content |= part
            elif part is not None or not f.metadata.get("optional"):
                content[yaml_name(f)] = part
        return content
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    return value
