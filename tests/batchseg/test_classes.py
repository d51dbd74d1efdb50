"""The classes of a legend."""

from __future__ import annotations

from typing import Any

import pytest

from batchseg.classes import ClassInfo
from batchseg.errors import InputError


@pytest.mark.parametrize("wrong", [{"name": "a\0b"}, {"rgb": (0, 0, 256)}, {"id": -1}])
def test_classes_that_cannot_be_shown_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="cannot be shown"):
        ClassInfo(**{"id": 0, "name": "land", "rgb": (0, 0, 0)} | wrong)
