"""The classes of a legend: what a code of a layer means, and the colour it is shown in."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from batchseg.errors import InputError

RGB = tuple[int, int, int]
"""Red, green and blue, from 0 to 255 each."""
MAX_CLASSES = 255
"""The most classes that a model can have: a device returns the place of a class in the list as one byte."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassInfo:
    """One class: of a model, or of any layer whose codes have names."""

    id: int
    """The code of the class in its layer."""
    name: str
    rgb: RGB

    def __post_init__(self) -> None:
        if self.id < 0 or not self.name.isprintable() or not all(0 <= part <= 255 for part in self.rgb):
            raise InputError(
                "this class cannot be shown",
                where=f"class {self.id}",
                expected="an id from 0, a name of printable characters, and three parts of a colour from 0 to 255",
                got=f"{self.name!r} {self.rgb}",
            )


def problems_of_classes(classes: Sequence[ClassInfo]) -> Iterator[str]:
    """Say why these cannot be the classes of a model: scores and areas go by name, labels by id."""
    ids, names = [c.id for c in classes], [c.name for c in classes]
    if not ids or len(set(ids)) < len(ids) or max(ids) > 65534 or 255 in ids:
        yield f"class ids {ids}; they must be different, from 0 to 65534, and not 255, which is nodata"
    if len(set(names)) < len(names) or not all(name.strip() for name in names):
        yield f"class names {names}; they must be different, and none may be empty"
    if len(ids) > MAX_CLASSES:
        yield f"{len(ids)} classes; one model can have {MAX_CLASSES}"
