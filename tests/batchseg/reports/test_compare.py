"""Two runs side by side: numbers that others compute, ranges that cover, and a verdict for a script."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.errors import NotGeoreferencedWarning
from sklearn.metrics import jaccard_score

from batchseg.errors import RecipeError
from batchseg.recipe import Models
from batchseg.reports.bootstrap import Interval
from batchseg.reports.compare import BLOCK_PX, compare
from batchseg.reports.comparison import Block, measure_iou
from jobs.cli import main as batchseg
from tests.batchseg.engine.test_route import layer, tiling
from tests.batchseg.reports.test_evaluate import place, reference  # noqa: F401 - a fixture
from tests.runs import Workplace
from tiling.span import Window

CLASSES = ("soil", "water", "roof")


def two_runs(place: Workplace) -> tuple[Path, Path]:  # noqa: F811
    """Bulk alone, in other chunks, and heavy alone."""
    models = place.changes["models"]
    plain = {"route": type(place.changes["route"])()}
    outputs = place.folder / "a", place.folder / "b"
    place.run(models=Models(bulk=models.bulk), tiling=tiling(48), output=str(outputs[0]), **plain)
    place.run(models=Models(heavy=models.heavy), tiling=tiling(64), output=str(outputs[1]), **plain)
    return outputs


def test_the_numbers_are_those_of_the_files(place: Workplace) -> None:  # noqa: F811
    a, b = two_runs(place)
    labels = reference(place)
    comparison = compare(a, b, labels)
    with rasterio.open(labels) as file:
        truth_HW = file.read(1)
    first_HW, second_HW = layer(a, "labels"), layer(b, "labels")
    assert comparison.agreement.value == pytest.approx((first_HW == second_HW).mean(), abs=1e-5)
    known_HW = truth_HW < 5
    for side, labels_HW in (("a", first_HW), ("b", second_HW)):
        iou = jaccard_score(truth_HW[known_HW], labels_HW[known_HW], labels=range(5), average=None)
        assert [getattr(sides, side).value for sides in comparison.iou.values()] == pytest.approx(iou, abs=1e-5)
        assert getattr(comparison.miou, side).value == pytest.approx(iou.mean(), abs=1e-5)
    assert comparison.num_blocks == 1
    (block,) = comparison.differences
    assert block.differing_share == pytest.approx((first_HW != second_HW).mean())
    assert block.picture is None
    assert comparison == compare(str(a), str(b), {"scene0": labels})
    assert list(place.folder.rglob("compare.json")) == [], "nothing is written without a folder"


def test_without_labels_quality_is_unknown(place: Workplace) -> None:  # noqa: F811
    a, b = two_runs(place)
    comparison = compare(a, b)
    assert comparison.miou is None
    assert comparison.verdict.quality == "unknown"
    assert str(comparison.verdict).endswith("quality=unknown")
    same = compare(a, a)
    assert same.agreement == Interval(value=1.0, low=1.0, high=1.0)
    assert same.differences == ()


def drawn_blocks(quality_a: float, quality_b: float, num: int, seed: int) -> list[Block]:
    """Blocks whose hits vary from one to the next by more than they differ between the runs."""
    random = np.random.default_rng(seed)
    blocks = []
    for index in range(num):
        shift = random.normal(0, 0.1)
        truth = random.integers(0, 3, 900)
        sides = []
        for quality in (quality_a, quality_b):
            right = random.random(900) < np.clip(quality + shift, 0, 1)
            answer = np.where(right, truth, (truth + 1) % 3)
            hits = np.bincount(truth[right], minlength=3)
            sides.append([hits, np.bincount(truth, minlength=3), np.bincount(answer, minlength=3)])
        window = Window.of(index * BLOCK_PX, (index + 1) * BLOCK_PX, 0, BLOCK_PX)
        blocks.append(Block("s", window, 900, 800, np.array(sides)))
    return blocks


def test_the_range_of_a_difference_covers_it_and_is_narrower_than_that_of_the_sides() -> None:
    covered = 0
    for seed in range(40):
        _, miou = measure_iou(drawn_blocks(0.7, 0.72, 30, seed), CLASSES)
        # Right with 0.7 and 0.72 in three equal classes: an IoU of p / (2 - p).
        true = 0.72 / 1.28 - 0.7 / 1.3
        covered += miou.difference.low <= true <= miou.difference.high
        width = miou.a.high - miou.a.low
        assert miou.difference.high - miou.difference.low < width / 2
    assert covered >= 34


def test_the_command(place: Workplace, capsys: pytest.CaptureFixture[str]) -> None:  # noqa: F811
    a, b = two_runs(place)
    assert batchseg(["compare", str(a), str(b), "--labels", reference(place), "--to", str(place.folder / "c")]) == 0
    told = capsys.readouterr().out.splitlines()
    word, *pairs = told[-1].split()
    facts = dict(pair.split("=") for pair in pairs)
    assert word == "verdict"
    assert set(facts) == {"cost_ratio", "agreement", "miou_difference", "low", "high", "quality"}
    content = json.loads((place.folder / "c/compare.json").read_text())
    assert list(content) == ["scenes", "blocks", "cost", "agreement", "iou", "miou", "verdict"]
    assert list(content["cost"]["a"]) == ["cost_usd", "cost_usd_per_km2", "wall_s", "heavy_share"]
    assert list(content["miou"]["difference"]) == ["value", "low", "high"]
    assert content["verdict"] == told[-1].removeprefix("verdict ")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        file = rasterio.open(place.folder / "c/crop_1.png")
    with file:
        # Panels of 130 px are enlarged three times, below a line of text that is 22 px high.
        assert file.width == 4 * 3 * 130 + 3 * 8
        panel_HWC = file.read()[:, 22 : 22 + 300 : 3, -390::3].transpose(1, 2, 0)
        red_HW = (panel_HWC == (203, 24, 29)).all(2)
    assert np.array_equal(red_HW, layer(a, "labels") != layer(b, "labels"))
    assert batchseg(["compare", str(a), str(place.folder)]) == 2
    assert "this is not the output of a run" in capsys.readouterr().err
    assert batchseg(["compare", str(a), str(b), "--to", str(place.scenes[0])]) == 2
    assert "the folder of the comparison cannot be made" in capsys.readouterr().err


FOREIGN_COMPARISONS = ["compare.json", "crop_1.png", "crop_6.png"]


@pytest.mark.parametrize("name", FOREIGN_COMPARISONS)
def test_files_of_others_in_the_folder_of_a_comparison_are_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "compare").mkdir()
    (tmp_path / "compare" / name).write_text('{"mine": 1}')
    with pytest.raises(RecipeError, match=f"no comparison into this folder made them; got {name}"):
        compare("nowhere", "nowhere", folder=tmp_path / "compare")
    assert (tmp_path / "compare" / name).read_text() == '{"mine": 1}'


@pytest.mark.parametrize("name", FOREIGN_COMPARISONS)
def test_labels_in_the_place_of_a_comparison_are_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "compare").mkdir()
    (tmp_path / "compare" / name).write_text("mine")
    (tmp_path / "labels.tif").symlink_to(tmp_path / "compare" / name)
    with pytest.raises(RecipeError, match="the output must not replace an input"):
        compare("nowhere", "nowhere", {"scene0": str(tmp_path / "labels.tif")}, folder=tmp_path / "compare")


def test_a_comparison_is_written_again_beside_files_of_others(place: Workplace) -> None:  # noqa: F811
    a, b = two_runs(place)
    folder = place.folder / "both"
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    (place.folder / "elsewhere").write_text("mine")
    compare(a, b, folder=folder)
    first = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert set(first) == {"notes.txt", "compare.json", "crop_1.png"}
    (folder / "crop_1.png").unlink()
    (folder / "crop_1.png").symlink_to(place.folder / "elsewhere")
    compare(a, b, folder=folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == first
    assert (place.folder / "elsewhere").read_text() == "mine"
