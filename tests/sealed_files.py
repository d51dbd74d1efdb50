"""Sealed files that are edited on purpose, as batchseg itself would write them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from batchseg.seals import SEAL_KEY, add_seal
from batchseg.store import LocalStore


def read_sealed(root: Path, key: str) -> dict[str, Any]:
    """The content of a sealed file, without its seal."""
    content: dict[str, Any] = json.loads((root / key).read_text())
    content.pop(SEAL_KEY, None)
    return content


def write_sealed(root: Path, key: str, content: dict[str, Any]) -> None:
    LocalStore(root).put(key, add_seal(json.dumps(content, indent=1).encode(), key))


def change_sealed(root: Path, key: str, **changes: Any) -> None:
    write_sealed(root, key, read_sealed(root, key) | changes)


def drop_seal(root: Path, key: str) -> None:
    """The file as a version without seals wrote it."""
    (root / key).write_bytes(json.dumps(read_sealed(root, key), indent=1).encode())
