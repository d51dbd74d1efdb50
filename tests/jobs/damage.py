"""The ways in which a file of a run can be damaged."""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

Damage = Callable[[Path], None]


def empty(path: Path) -> None:
    path.write_bytes(b"")


def cut(path: Path) -> None:
    """As a disk that was full leaves it."""
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def fill_with_noise(path: Path) -> None:
    path.write_bytes(bytes(range(256)))


def change_type(path: Path) -> None:
    """A list instead of an object, which is valid JSON."""
    path.write_text("[1, 2]\n")


def drop_field(path: Path) -> None:
    """The first field of a JSON object, or of each line that is one; other files lose their first byte."""
    try:
        lines = [_drop_first(json.loads(line)) for line in _json_parts(path)]
    except ValueError:
        path.write_bytes(path.read_bytes()[1:])
        return
    path.write_text("\n".join(map(json.dumps, lines)) + "\n")


def _json_parts(path: Path) -> list[str]:
    text = path.read_text("utf-8")
    return text.splitlines() if path.suffix == ".jsonl" else [text]


def _drop_first(content: Any) -> Any:
    return dict(list(content.items())[1:]) if isinstance(content, dict) else content


def replace_by_pipe(path: Path) -> None:
    """Whoever opens it without care waits for ever."""
    path.unlink()
    os.mkfifo(path)


def replace_by_socket(path: Path) -> None:
    path.unlink()
    os.mknod(path, stat.S_IFSOCK | 0o600)


def replace_by_device(path: Path) -> None:
    """Whoever reads to its end never comes back."""
    path.unlink()
    path.symlink_to("/dev/zero")


def replace_by_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def edit_number(path: Path) -> None:
    """As a person edits a figure by hand: the file is still what a program expects."""
    text = path.read_text("utf-8")
    path.write_text(re.sub(r"(?<=[ :])([0-8])(?=[,.\n}])", lambda digit: str(int(digit[1]) + 1), text, count=1))
    assert path.read_text("utf-8") != text, f"{path} has no number to edit"


DAMAGES: dict[str, Damage] = {
    "empty": empty,
    "cut": cut,
    "noise": fill_with_noise,
    "type": change_type,
    "field": drop_field,
}
IRREGULAR: dict[str, Damage] = {
    "pipe": replace_by_pipe,
    "socket": replace_by_socket,
    "device": replace_by_device,
    "folder": replace_by_folder,
}
DAMAGES |= IRREGULAR
