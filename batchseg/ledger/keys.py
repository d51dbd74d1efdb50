"""The names of tasks: chunks of a scene, sheets made of them, and whatever other kinds `tasks/table.py` lists."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

from batchseg.errors import RecipeError
from batchseg.paths import RECORDS_FOLDER, SHEET_RECORDS_FOLDER

Story = tuple[str, ...]
"""Attempts at one task, in order."""


@dataclass(frozen=True, slots=True, order=True)
class TaskKey:
    """One task of a run: its kind is its class, and the fields are its place."""

    kind: ClassVar[str] = "task"
    """The kind's name in the log, like `chunk_committed`."""
    prefix: ClassVar[str] = ""
    """Prefix of ROW_COLUMN in the task's name, which tells its kind."""
    records_folder: ClassVar[str] = ""
    reads_scene: ClassVar[bool] = False
    """True if the task needs the pixels of its scene."""

    scene: str
    row: int
    col: int

    def __str__(self) -> str:
        return f"{self.scene}/{self.prefix}{self.row}_{self.col}"

    @property
    def record_key(self) -> str:
        """The object that the task's record is committed to."""
        return f"{self.records_folder}/{self.scene}/{self.row}_{self.col}.json"

    @classmethod
    def parse(cls, name: str) -> Self | None:
        """The inverse of `str`; None for a name of another kind."""
        scene, _, cell = name.rpartition("/")
        row, _, col = cell.removeprefix(cls.prefix).partition("_")
        if scene and cell.startswith(cls.prefix) and row.isdecimal() and col.isdecimal():
            return cls(scene, int(row), int(col))
        return None


@dataclass(frozen=True, slots=True, order=True)
class ChunkKey(TaskKey):
    """One output window of one scene: the unit of scheduling, retry, commit and accounting."""

    kind: ClassVar[str] = "chunk"
    records_folder: ClassVar[str] = RECORDS_FOLDER
    reads_scene: ClassVar[bool] = True


@dataclass(frozen=True, slots=True, order=True)
class SheetKey(TaskKey):
    """The GeoTIFFs over a block of chunks of one scene, made from what the chunks committed."""

    kind: ClassVar[str] = "sheet"
    prefix: ClassVar[str] = "sheet_"
    records_folder: ClassVar[str] = SHEET_RECORDS_FOLDER


def parse_chunk_key(name: str) -> ChunkKey:
    """The inverse of `str(ChunkKey)`, for command lines."""
    key = ChunkKey.parse(name)
    if key is None:
        raise RecipeError("this is not the name of a chunk", expected="SCENE/ROW_COLUMN", got=name)
    return key
