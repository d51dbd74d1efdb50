"""Uncertainty of a recipe in the integers that the engine judges by."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from batchseg.errors import RecipeError
from batchseg.layers.confidence import CERTAIN
from batchseg.model.contract import ClassInfo
from batchseg.recipe import Models, Route
from batchseg.recipe.heavy_tiles import ByUncertainty, Uncertain
from batchseg.resolve.resolve import resolve
from tests.runs import Workplace, noise, write_fake_bundle

RGB = ((0, 0, 0), (255, 0, 0), (0, 255, 0), (0, 0, 255))


def resolve_sure(folder: Path, num_classes: int, **changes: object) -> int:
    """The confidence code from which a pixel is certain, for a pair of models with so many classes."""
    classes = tuple(ClassInfo(id=i, name=f"class{i}", rgb=RGB[i]) for i in range(num_classes))
    bulk, heavy = (write_fake_bundle(folder / f"{tier}{num_classes}", classes=classes) for tier in ("bulk", "heavy"))
    place = Workplace.of(folder, noise(64, 64))
    route = Route(priority=(ByUncertainty(uncertain=Uncertain(**changes)),))
    doubt = resolve(place.recipe(models=Models(bulk=bulk, heavy=heavy), route=route)).job.doubt
    assert doubt is not None
    return doubt.sure_confidence


@pytest.mark.parametrize(
    ("num_classes", "changes", "sure"),
    [
        (2, {"statistic": "share"}, 0.75),
        (3, {"statistic": "share"}, 0.5),
        (4, {"statistic": "share"}, 0.5),
        (2, {"statistic": "mean"}, 0.5),  # decides no byte, and keeps the fingerprint
        (2, {"statistic": "share", "sure": 0.6}, 0.6),
        (3, {"statistic": "share", "sure": 0.4}, 0.4),
        (2, {"statistic": "mean", "sure": 0.1}, 0.1),
    ],
)
def test_pixels_are_certain_from_a_confidence_that_they_can_miss(
    tmp_path: Path, num_classes: int, changes: dict[str, object], sure: float
) -> None:
    assert resolve_sure(tmp_path, num_classes, **changes) == pytest.approx(sure * CERTAIN, abs=1)


@pytest.mark.parametrize(("num_classes", "sure", "least"), [(2, 0.5, "0.5"), (2, 0.0, "0.5"), (4, 0.25, "0.25")])
def test_a_confidence_that_no_pixel_can_miss_is_refused_with_one_that_works(
    tmp_path: Path, num_classes: int, sure: float, least: str
) -> None:
    with pytest.raises(RecipeError, match=f"never less confident than {least}.*expected above {least}") as refused:
        resolve_sure(tmp_path, num_classes, statistic="share", sure=sure)
    advice = re.search(r"set `sure: ([\d.]+)`", refused.value.todo or "")
    assert advice is not None
    assert resolve_sure(tmp_path, num_classes, statistic="share", sure=float(advice[1])) > 0
