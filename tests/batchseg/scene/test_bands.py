from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from rasterio.enums import ColorInterp

from batchseg.errors import RecipeError, SceneError
from batchseg.scene.bands import BandWanted, choose_bands
from batchseg.scene.header import read_header
from batchseg.scene.raster_file import RasterFile
from tests.batchseg.scene.scene_rasters import UTM, noise, write

RGB = tuple(BandWanted(name=name, common=name) for name in ("red", "green", "blue"))
RGBN = (*RGB, BandWanted(name="nir", common="nir"))


def scene(tmp_path: Path, bands: int, **facts: Any) -> RasterFile:
    return read_header(str(write(tmp_path / "x.tif", noise(bands, 4, 4), **facts, **UTM))).raster


def test_by_photometric(tmp_path: Path) -> None:
    assert choose_bands(scene(tmp_path, 3, photometric="rgb"), RGB, None) == (1, 2, 3)


def test_by_colour_in_another_order(tmp_path: Path) -> None:
    colours = (ColorInterp.blue, ColorInterp.green, ColorInterp.red, ColorInterp.alpha)
    assert choose_bands(scene(tmp_path, 4, colours=colours), RGB, None) == (3, 2, 1)


def test_by_description(tmp_path: Path) -> None:
    header = scene(tmp_path, 4, names=("NIR", "Red", "Green", "Blue"))
    assert choose_bands(header, RGBN, None) == (2, 3, 4, 1)


def test_name_wins_over_common(tmp_path: Path) -> None:
    header = scene(tmp_path, 3, names=("red", "B4 red", "other"))
    assert choose_bands(header, [BandWanted(name="b4 red", common="red")], None) == (2,)


def test_name_alone(tmp_path: Path) -> None:
    header = scene(tmp_path, 2, names=("VV", "VH"))
    wanted = [BandWanted(name="vh", common=None), BandWanted(name="vv", common=None)]
    assert choose_bands(header, wanted, None) == (2, 1)


def test_near_infrared_flagged_as_alpha_serves_when_described(tmp_path: Path) -> None:
    colours = (ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha)
    header = scene(tmp_path, 4, photometric="rgb", colours=colours, names=("", "", "", "near infrared"))
    assert choose_bands(header, RGBN, None) == (1, 2, 3, 4)


def test_unnamed_bands_are_not_guessed(tmp_path: Path) -> None:
    header = scene(tmp_path, 3, photometric="minisblack")
    with pytest.raises(SceneError) as caught:
        choose_bands(header, RGB, None)
    assert str(caught.value) == (
        f"{header.url}: the scene names no band as the model's red; expected red, green, blue, got 1 without a name, "
        "2 without a name, 3 without a name. Name them by index in the recipe, in the order red, green, blue: "
        "`bands: [1, 2, 3]`"
    )


def test_two_dates_are_ambiguous(tmp_path: Path) -> None:
    header = scene(tmp_path, 6, names=("red 1", "green 1", "blue 1", "red 2", "green 2", "blue 2"))
    with pytest.raises(SceneError, match="several bands could be the model's red"):
        choose_bands(header, RGB, None)


def test_a_paletted_scene_has_no_red(tmp_path: Path) -> None:
    with pytest.raises(SceneError, match=r"got 1 palette.*`bands: \[1, 1, 1\]`"):
        choose_bands(scene(tmp_path, 1, palette={1: (255, 0, 0)}), RGB, None)


def test_override(tmp_path: Path) -> None:
    header = scene(tmp_path, 4, names=("NIR", "Red", "Green", "Blue"))
    assert choose_bands(header, RGB, (1, 2, 3)) == (1, 2, 3)
    assert choose_bands(header, RGB, (4, 4, 4)) == (4, 4, 4)
    assert choose_bands(header, RGB, ("nir", "red", 3)) == (1, 2, 3)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ((1, 2), r"must have one entry per band of the model; expected 3 \(red, green, blue\), got \[1, 2\]"),
        ((1, 2, 5), "no band is 5; expected bands of .*: 1 red, 2 green, 3 blue, got 5"),
        ((0, 1, 2), "no band is 0"),
        ((1, 2, "swir"), "no band is 'swir'"),
    ],
)
def test_wrong_override(tmp_path: Path, override: tuple[int | str, ...], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        choose_bands(scene(tmp_path, 3, photometric="rgb"), RGB, override)
