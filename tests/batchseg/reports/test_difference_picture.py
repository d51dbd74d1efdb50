"""The picture of a difference: the scene, both maps and their difference, with titles and a legend."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.errors import NotGeoreferencedWarning

from batchseg.recipe import NO_TRUST
from batchseg.reports.compare import compare
from batchseg.reports.difference_picture import GAP_PX, GREY, RED, _compose
from batchseg.reports.lettering import make_mask, shorten, write_text
from batchseg.reports.page.pictures import read_scene_picture
from tests.runs import CLASSES, Workplace, noise
from tiling.span import Window

SIDE_PX, SCALE = 400, 2
LINE_PX = 11 * SCALE


@pytest.fixture
def outputs(tmp_path: Path) -> tuple[Path, Path]:
    """Two runs whose models see different context, over one scene."""
    place = Workplace.of(tmp_path, noise(25, 25).repeat(16, 1).repeat(16, 2))
    first, second = tmp_path / "first run", tmp_path / "second"
    place.run(output=str(first))
    place.run(output=str(second), bands=(3, 2, 1))
    return first, second


def read_picture(path: Path) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path) as file:
            return file.read().transpose(1, 2, 0)


def cut_panels(picture_HWC: np.ndarray) -> list[np.ndarray]:
    rows = slice(LINE_PX, LINE_PX + SIDE_PX)
    return [picture_HWC[rows, left : left + SIDE_PX] for left in range(0, 4 * (SIDE_PX + GAP_PX), SIDE_PX + GAP_PX)]


def read_labels(output: Path) -> np.ndarray:
    with rasterio.open(output / "scene0" / "labels.tif") as file:
        return file.read(1)


def test_the_four_panels_are_the_scene_both_maps_and_their_difference(outputs: tuple[Path, Path]) -> None:
    first, second = outputs
    folder = first.parent / "compared"
    (block,) = compare(first, second, folder=folder).differences
    assert block.picture == folder / "crop_1.png"
    scene_HWC, *maps, difference_HWC = cut_panels(read_picture(folder / "crop_1.png"))
    window = Window.of(0, SIDE_PX, 0, SIDE_PX)
    scene = str(first.parent / "scene0.tif")
    expected = read_scene_picture(scene, (1, 2, 3), window.shape, window, trust=NO_TRUST)
    assert expected is not None
    assert np.array_equal(scene_HWC, expected.transpose(1, 2, 0))
    colours = np.array([one.rgb for one in CLASSES], np.uint8)
    labels = [read_labels(output) for output in outputs]
    for panel_HWC, labels_HW in zip(maps, labels, strict=True):
        assert np.array_equal(panel_HWC, colours[labels_HW])
    differs_HW = labels[0] != labels[1]
    assert np.array_equal(difference_HWC, np.array([GREY, RED], np.uint8)[differs_HW.astype(int)])


def find_text(picture_HWC: np.ndarray, text: str, row: int) -> list[int]:
    """The columns at which a text is written in a row of the picture."""
    mask = make_mask(text)[:, :-1].repeat(SCALE, 0).repeat(SCALE, 1)
    band = (picture_HWC[row : row + mask.shape[0]] == 0).all(axis=2)
    width = mask.shape[1]
    return [left for left in range(band.shape[1] - width + 1) if np.array_equal(band[:, left : left + width], mask)]


def test_titles_and_a_legend_say_what_is_seen(outputs: tuple[Path, Path]) -> None:
    first, second = outputs
    folder = first.parent / "compared"
    (block,) = compare(first, second, folder=folder).differences
    picture_HWC = read_picture(folder / "crop_1.png")
    titles = ("the scene", "A: first run", "B: second", f"{block.differing_share:.1%} differ")
    for number, title in enumerate(titles):
        assert find_text(picture_HWC, title, SCALE) == [number * (SIDE_PX + GAP_PX)]
    legend_row = LINE_PX + SIDE_PX + GAP_PX
    for name in (*(one.name for one in CLASSES), "no label", "A and B differ", "A and B agree"):
        (left,) = find_text(picture_HWC, name, legend_row)
        swatch = picture_HWC[legend_row + 5, left - 10 * SCALE + 5]
        expected = {one.name: one.rgb for one in CLASSES} | {
            "no label": (255, 255, 255),
            "A and B differ": RED,
            "A and B agree": GREY,
        }
        assert tuple(swatch) == expected[name], name


def test_a_scene_that_is_gone_leaves_a_panel_that_says_so(outputs: tuple[Path, Path]) -> None:
    first, second = outputs
    (first.parent / "scene0.tif").unlink()
    folder = first.parent / "compared"
    compare(first, second, folder=folder)
    scene_HWC, *_ = cut_panels(read_picture(folder / "crop_1.png"))
    is_text_HW = (scene_HWC != GREY).any(axis=2)
    assert 50 < is_text_HW.sum() < 1000


@pytest.mark.parametrize("shape", [(1, 1), (20, 300), (300, 20), (1024, 1024)])
@pytest.mark.parametrize("num_classes", [1, 40])
def test_everything_fits_whatever_the_window_and_the_number_of_classes(
    shape: tuple[int, int], num_classes: int
) -> None:
    panels = [np.full((*shape, 3), 200, np.uint8)] * 4
    legend = [(f"class number {number}", (number, 0, 0)) for number in range(num_classes)]
    picture_HWC = _compose(panels, ["a title that is much too long for its panel " * 3] * 4, legend)
    assert 1300 <= picture_HWC.shape[1] <= 4120
    assert (picture_HWC[-1] == 255).all()
    for _, rgb in legend:
        assert (picture_HWC == rgb).all(axis=2).sum() >= 100


def test_letters() -> None:
    assert make_mask("").shape == (7, 0)
    assert make_mask("Ab 1").shape == (7, 24)
    assert np.array_equal(make_mask("É"), make_mask("E"))
    assert np.array_equal(make_mask("水"), make_mask("?"))
    assert not np.array_equal(make_mask("O"), make_mask("0"))
    masks = {make_mask(chr(code)).tobytes() for code in range(0x20, 0x7F)}
    assert len(masks) == 95, "no two letters look alike"
    assert shorten("a long name", width_px=60, scale=1) == "a long n.."
    assert shorten("short", width_px=60, scale=1) == "short"
    canvas_HWC = np.full((7, 8, 3), 255, np.uint8)
    assert write_text(canvas_HWC, "II", row=0, col=0, scale=1) == 12
    assert (canvas_HWC == 0).any()
