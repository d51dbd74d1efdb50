from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rasterio.enums import ColorInterp

from batchseg.errors import SceneError
from batchseg.recipe import NodataPolicy
from batchseg.scene.header import read_header
from batchseg.scene.nodata import ValidityRule, check_policy, convert_to_dtype, find_valid, resolve_policy
from batchseg.scene.raster_file import RasterFile
from tests.batchseg.scene.scene_rasters import UTM, noise, write

AUTO = NodataPolicy(from_="auto")
RGBA = (ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha)


def scene(tmp_path: Path, bands: int = 3, **facts: Any) -> RasterFile:
    pixels_BHW = facts.pop("pixels_BHW", noise(bands, 300, 300, facts.pop("dtype", "uint8")))
    return read_header(str(write(tmp_path / "x.tif", pixels_BHW, **facts, **UTM))).raster


def rgba(tmp_path: Path, **facts: Any) -> RasterFile:
    pixels_BHW = noise(4, 300, 300)
    pixels_BHW[3] = np.where(pixels_BHW[3] > 60, 255, 0)
    return scene(tmp_path, pixels_BHW=pixels_BHW, colours=RGBA, **facts)


MASK_HW = np.ones((300, 300), bool)


def test_auto_takes_alpha_then_mask_then_value_then_none(tmp_path: Path) -> None:
    assert resolve_policy(rgba(tmp_path, nodata=0), AUTO, (1, 2, 3)).kind == "alpha"
    inside = {"options": {"GDAL_TIFF_INTERNAL_MASK": True}, "mask_HW": MASK_HW}
    assert resolve_policy(scene(tmp_path, nodata=0, **inside), AUTO, (1, 2, 3)).kind == "mask"
    assert resolve_policy(scene(tmp_path, nodata=0), AUTO, (1, 2, 3)) == ValidityRule(
        kind="value", values=(0.0, 0.0, 0.0), alpha=None, rule="all"
    )
    assert resolve_policy(scene(tmp_path), AUTO, (1, 2, 3)).kind == "none"


def test_alpha_that_the_model_reads_is_a_picture(tmp_path: Path) -> None:
    header = rgba(tmp_path, nodata=0)
    assert resolve_policy(header, AUTO, (1, 2, 3, 4)).kind == "value"
    with pytest.raises(SceneError, match="the alpha band is one of the model's bands; got band 4 as both"):
        check_policy(header, NodataPolicy(from_="alpha"), (1, 2, 3, 4))


def test_alpha_that_looks_like_a_picture_is_not_believed(tmp_path: Path) -> None:
    header = scene(tmp_path, 4, colours=RGBA)
    with pytest.raises(SceneError, match="band 4 is flagged as alpha but holds a picture"):
        check_policy(header, AUTO, (1, 2, 3))
    check_policy(header, NodataPolicy(from_="alpha"), (1, 2, 3))
    check_policy(header, NodataPolicy(from_="none"), (1, 2, 3))
    assert resolve_policy(header, AUTO, (1, 2, 3, 4)).kind == "none"


@pytest.mark.parametrize(
    ("from_", "message"),
    [
        ("alpha", "expected an alpha band, got 1 red, 2 green, 3 blue"),
        ("mask", "expected a mask, got no mask inside the file and no .msk beside it"),
        ("value", "expected a nodata value, got the scene has none. Give `value:` in the recipe"),
    ],
)
def test_a_policy_that_the_scene_cannot_follow(tmp_path: Path, from_: Any, message: str) -> None:
    with pytest.raises(SceneError, match=message):
        check_policy(scene(tmp_path, photometric="rgb"), NodataPolicy(from_=from_), (1, 2, 3))


def test_value_of_the_recipe_wins(tmp_path: Path) -> None:
    policy = NodataPolicy(from_="value", value=255, rule="any")
    assert resolve_policy(scene(tmp_path, nodata=0), policy, (1, 1)).values == (255, 255)
    assert resolve_policy(scene(tmp_path), policy, (1, 1)).rule == "any"


def value(number: float | None, bands: int, rule: Any = "all") -> ValidityRule:
    return ValidityRule(kind="value", values=(number,) * bands, alpha=None, rule=rule)


NONE = ValidityRule(kind="none", values=(), alpha=None, rule="all")


def pixels(*bands: list[float], dtype: str = "uint8") -> np.ndarray:
    return np.array(bands, dtype=dtype)[:, None, :]


def test_rules() -> None:
    raw_BHW = pixels([0, 0, 7, 7], [0, 7, 0, 7])
    assert find_valid(raw_BHW, value(0, 2)).tolist() == [[False, True, True, True]]
    assert find_valid(raw_BHW, value(0, 2, "any")).tolist() == [[False, False, False, True]]


def test_white_roofs_survive_nodata_255_with_all() -> None:
    raw_BHW = pixels([255, 255], [254, 255], [255, 255])
    assert find_valid(raw_BHW, value(255, 3)).tolist() == [[True, False]]


def test_non_finite_values_are_invalid_under_every_policy() -> None:
    raw_BHW = pixels([np.nan, 1, 1, -np.inf, 1], [1, np.inf, 1, 1, 1], dtype="float32")
    expected = [[False, False, True, False, True]]
    assert find_valid(raw_BHW, NONE).tolist() == expected
    assert find_valid(raw_BHW, value(float("nan"), 2)).tolist() == expected
    alpha_MHW = np.array([[[1, 1, 0, 1, 1]]])
    alpha = ValidityRule(kind="alpha", values=(), alpha=3, rule="all")
    assert find_valid(raw_BHW, alpha, alpha_MHW).tolist() == [[False, False, False, False, True]]


def test_bands_with_values_of_their_own() -> None:
    validity = ValidityRule(kind="value", values=(0, 9), alpha=None, rule="all")
    assert find_valid(pixels([0, 0, 9], [9, 0, 9]), validity).tolist() == [[False, True, True]]
    partly = ValidityRule(kind="value", values=(0, None), alpha=None, rule="all")
    assert find_valid(pixels([0, 1], [0, 0]), partly).tolist() == [[True, True]]
    either = ValidityRule(kind="value", values=(0, None), alpha=None, rule="any")
    assert find_valid(pixels([0, 1], [0, 0]), either).tolist() == [[False, True]]


@pytest.mark.parametrize(
    ("validity", "masks", "expected"),
    [
        (value(0, 2), None, [False, False, True, False, True]),
        (value(0, 2, "any"), None, [False, False, False, False, True]),
        (NONE, None, [True, False, True, False, True]),
        (
            ValidityRule(kind="alpha", values=(), alpha=3, rule="all"),
            [9, 9, 9, 9, 0],
            [True, False, True, False, False],
        ),
    ],
)
def test_more_values_are_nodata_beside_what_the_scene_says(
    validity: ValidityRule, masks: list[int] | None, expected: list[bool]
) -> None:
    raw_BHW = pixels([0, 255, 0, 7, 255], [0, 255, 255, 7, 8])
    masks_MHW = None if masks is None else np.array([[masks]])
    # -9999 is no value of a byte, and marks nothing.
    also = replace(validity, also=(255.0, 7.0, -9999.0))
    assert find_valid(raw_BHW, also, masks_MHW).tolist() == [expected]


def test_masks_of_bands_follow_the_rule() -> None:
    masks_MHW = np.array([[[0, 0, 255]], [[0, 255, 255]]])
    raw_BHW = pixels([1, 1, 1], [1, 1, 1])
    every = ValidityRule(kind="band_masks", values=(), alpha=None, rule="all")
    some = ValidityRule(kind="band_masks", values=(), alpha=None, rule="any")
    assert find_valid(raw_BHW, every, masks_MHW).tolist() == [[False, True, True]]
    assert find_valid(raw_BHW, some, masks_MHW).tolist() == [[False, False, True]]


@pytest.mark.parametrize(
    ("number", "dtype", "expected"),
    [
        (-9999, "uint8", None),
        (256, "uint8", None),
        (0.5, "uint8", None),
        (float("nan"), "int16", None),
        (-128, "int8", -128),
        (-32768, "int16", -32768),
        (65535, "uint16", 65535),
        (-3.40282346638529e38, "float32", np.finfo(np.float32).min),
        (-1.7976931348623157e308, "float32", None),
        (float("nan"), "float32", None),
    ],
)
def test_a_value_is_converted_to_what_a_pixel_holds(number: float, dtype: str, expected: float | None) -> None:
    assert convert_to_dtype(number, np.dtype(dtype)) == expected


def test_value_out_of_range_marks_nothing() -> None:
    assert find_valid(pixels([0, 255]), value(-9999, 1)).all()
    assert find_valid(pixels([0, 255]), value(-9999, 1, "any")).all()


@given(
    st.lists(st.lists(st.sampled_from([0, 1, 2]), min_size=4, max_size=4), min_size=1, max_size=4),
    st.sampled_from([0, 1, None]),
    st.sampled_from(["all", "any"]),
)
def test_against_a_loop(bands: list[list[int]], number: int | None, rule: Any) -> None:
    judge = all if rule == "all" else any
    expected = [[not (number is not None and judge(band[i] == number for band in bands)) for i in range(4)]]
    assert find_valid(pixels(*bands), value(number, len(bands), rule)).tolist() == expected
