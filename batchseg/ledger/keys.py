"""The names of the pieces of work: chunks of a scene, and the sheets made of them."""

from __future__ import annotations

from dataclasses import dataclass

from batchseg.errors import RecipeError


@dataclass(frozen=True, slots=True, order=True)
class ChunkKey:
    """One output window of one scene: the unit of scheduling, retry, commit and accounting."""

    scene: str
    row: int
    col: int

    def __str__(self) -> str:
        return f"{self.scene}/{self.row}_{self.col}"


@dataclass(frozen=True, slots=True, order=True)
class SheetKey:
    """The GeoTIFFs over a block of chunks of one scene, made from what the chunks committed."""

    scene: str
    row: int
    col: int

    def __str__(self) -> str:
        return f"{self.scene}/sheet_{self.row}_{self.col}"


TaskKey = ChunkKey | SheetKey
Story = tuple[str, ...]
"""What happened to one task, in order."""


def parse_chunk_key(text: str) -> ChunkKey:
    """The inverse of `str(ChunkKey)`; for command lines."""
    scene, _, cell = text.rpartition("/")
    row, _, col = cell.partition("_")
    if not (scene and row.isdecimal() and col.isdecimal()):
        raise RecipeError("this is not the name of a chunk", expected="SCENE/ROW_COLUMN", got=text)
    return ChunkKey(scene, int(row), int(col))


def parse_task_key(text: str) -> TaskKey:
    """The inverse of `str(TaskKey)`."""
    scene, _, cell = text.rpartition("/")
    chunk = parse_chunk_key(f"{scene}/{cell.removeprefix('sheet_')}")
    return SheetKey(chunk.scene, chunk.row, chunk.col) if cell.startswith("sheet_") else chunk
