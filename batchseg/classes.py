"""The classes of a legend: what a code of a layer means, and the colour it is shown in."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from batchseg.errors import InputError

RGB = tuple[int, int, int]
"""Red, green and blue, from 0 to 255 each."""
MAX_CLASSES = 255
"""The most classes that a model can have: a device returns the place of a class in the list as one byte."""
MAX_NAME_LENGTH = 200
"""The most characters of a name that is shown in legends and tables."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassInfo:
    """One class: of a model, or of any layer whose codes have names."""

    id: int
    """The code of the class in its layer."""
    name: str
    rgb: RGB

    def __post_init__(self) -> None:
        if self.id < 0 or not is_plain_name(self.name) or not all(0 <= part <= 255 for part in self.rgb):
            raise InputError(
                "this class cannot be shown",
                where=f"class {self.id}",
                expected=f"an id from 0, a name of {PLAIN_NAME}, and three parts of a colour from 0 to 255",
                got=f"{self.name!r} {self.rgb}",
                todo="give the class another name, colour or id",
            )


PLAIN_NAME = f"1 to {MAX_NAME_LENGTH} printable characters, without spaces around them"


def is_plain_name(name: str) -> bool:
    """Test if every output can hold a name and show it on one line."""
    return name.isprintable() and name == name.strip() and 0 < len(name) <= MAX_NAME_LENGTH


def problems_of_classes(classes: Sequence[ClassInfo]) -> Iterator[str]:
    """Say why these cannot be the classes of a model.

    Scores and areas go by name, labels by id, and features of vector files by either, in any case.
    """
    ids, names = [c.id for c in classes], [c.name for c in classes]
    if not ids or len(set(ids)) < len(ids) or max(ids) > 65534 or 255 in ids:
        yield f"class ids {ids}; they must be different, from 0 to 65534, and not 255, which is nodata"
    for first, second in _find_alike(names):
        yield f"class names {first!r} and {second!r}; they must differ in more than case, width and spaces"
    for info in classes:
        if re.fullmatch(r"-?\d+", info.name) and info.name != str(info.id):
            yield f"class {info.id} with the name {info.name!r}; a number as a name must be the id"
    if len(ids) > MAX_CLASSES:
        yield f"{len(ids)} classes; one model can have {MAX_CLASSES}"


def _find_alike(names: Iterable[str]) -> Iterator[tuple[str, str]]:
    seen: dict[str, str] = {}
    for name in names:
        folded = " ".join(unicodedata.normalize("NFKC", name).casefold().split())
        if folded in seen:
            yield seen[folded], name
        seen.setdefault(folded, name)


def make_distinct(words: Sequence[str], codes: Sequence[int]) -> list[str]:
    """Add its code to each word that others have too, for formats that allow fewer letters than names have."""
    distinct = list(words)
    while len(set(distinct)) < len(distinct):  # what is added may make a word that is there already
        counts = Counter(distinct)
        distinct = [f"{word}_{code}" if counts[word] > 1 else word for word, code in zip(distinct, codes, strict=True)]
    return distinct
