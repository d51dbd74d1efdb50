"""Scores after the fact are those of the run; a reference that cannot be read costs the score, not the map."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from sklearn.metrics import confusion_matrix

from batchseg.errors import DamagedError, RecipeError
from batchseg.recipe import LabelPolygons, Models, Route
from batchseg.reports.evaluate import evaluate
from batchseg.reports.evaluation import list_evaluations
from batchseg.schema import plain
from batchseg.store import LocalStore
from jobs.cli import main as batchseg
from tests.batchseg.engine.test_route import layer, polygons, tiling, uncertain
from tests.runs import Workplace, noise, product_bytes, write_fake_bundle, write_scene

SCORES = (
    *("iou", "recall", "precision", "f1", "miou", "fwiou", "accuracy", "scored_px", "confusion", "unknown_label_px"),
    *("by_tier", "by_priority"),
)


@pytest.fixture
def place(tmp_path: Path) -> Workplace:
    workplace = Workplace.of(tmp_path, noise(100, 130))
    bundles = [write_fake_bundle(tmp_path / tier, halo_px=halo) for tier, halo in (("bulk", 8), ("heavy", 13))]
    workplace.changes["models"] = Models(bulk=bundles[0], heavy=bundles[1])
    workplace.changes["route"] = Route(priority=(uncertain(), polygons(tmp_path)))
    return workplace


def reference(place: Workplace, dtype: str = "uint8", **changes: Any) -> str:
    values_HW = np.random.default_rng(3).integers(0, 7, (100, 130))  # 5 and 6 are no classes
    values_HW[:10] = 255
    for at, value in changes.pop("at", {}).items():
        values_HW[at] = value
    return write_scene(place.folder / "labels.tif", values_HW[None].astype(dtype), **changes)


def store_of(output: Path) -> LocalStore:
    return LocalStore(output, durable=False)


@pytest.mark.parametrize("chunk", [16, 48, 144])
def test_the_numbers_after_the_fact_are_those_of_the_run(place: Workplace, chunk: int) -> None:
    labels = reference(place)
    during = place.run(labels=(labels,), tiling=tiling(chunk), output=str(place.folder / "during")).metrics
    place.run(tiling=tiling(chunk))
    after = evaluate(place.output, labels)
    assert after.scores == after.scenes["scene0"] == during.scores
    assert after.scores.unknown_label_px > 0
    again = evaluate(str(place.output), {"scene0": labels})
    assert replace(again, made_unix_s=after.made_unix_s) == after
    content = json.loads((place.output / "evaluation.json").read_text())
    assert content == plain(again)
    assert list(content) == ["fingerprint", "labels", *SCORES, "scenes", "notes", "name", "made_unix_s"]


def test_the_parts_are_those_that_the_layers_show(place: Workplace) -> None:
    labels = reference(place)
    metrics = place.run(labels=(labels,)).metrics
    with rasterio.open(labels) as file:
        truth_HW = file.read(1)
    predicted_HW, tier_HW = layer(place.output, "labels"), layer(place.output, "tier")
    inside_HW = np.zeros(truth_HW.shape, bool)
    inside_HW[:46, :61] = True
    parts = {
        ("by_tier", "bulk"): tier_HW == 0,
        ("by_tier", "heavy"): tier_HW != 0,
        ("by_priority", "inside"): inside_HW,
        ("by_priority", "outside"): ~inside_HW,
    }
    for (group, name), part_HW in parts.items():
        known_HW = part_HW & (truth_HW < 5)
        matrix = confusion_matrix(truth_HW[known_HW], predicted_HW[known_HW], labels=range(5))
        iou = np.diag(matrix) / (matrix.sum(0) + matrix.sum(1) - np.diag(matrix))
        scores = getattr(getattr(metrics.scores, group), name)
        assert list(scores.iou.values()) == pytest.approx(iou, abs=1e-5)
        assert scores.scored_px == known_HW.sum()


def test_a_bad_reference_costs_the_score_and_not_the_map(place: Workplace) -> None:
    place.run(output=str(place.folder / "without"))
    bad = reference(place, "int32", at={(50, 60): 70_000})
    outcome = place.run(labels=(bad,))
    assert outcome.exit_status == 3
    assert "the prediction is whole, but its score is not" in outcome.why
    assert "a reference label is no class id; expected 0 to 65535, got 70000" in outcome.why
    assert outcome.metrics.quarantined == {}
    assert product_bytes(place.output) == product_bytes(place.folder / "without")
    (place.folder / "labels.tif").unlink()
    again = place.run(labels=(reference(place),))
    assert again.exit_status == 0
    assert again.metrics.scores.scored_px + again.metrics.scores.unknown_label_px == 90 * 130


def _damage(output: Path) -> Path:
    path = output / "scene0/mask.zarr/labels/1.0"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    return path


def test_a_damaged_object_is_named_with_what_to_do(place: Workplace) -> None:
    place.run()
    _damage(place.output)
    with pytest.raises(DamagedError, match=r"labels/1\.0: .* Delete run/records/scene0/1_0\.json and run the recipe"):
        evaluate(place.output, reference(place))


def test_a_report_over_a_damaged_object_says_which(place: Workplace, capsys: pytest.CaptureFixture[str]) -> None:
    place.run()
    _damage(place.output)
    assert batchseg(["report", str(place.output)]) == 2
    assert "mask.zarr/labels/1.0: a stream does not decode" in capsys.readouterr().err


def test_a_damaged_object_found_while_scoring_is_made_again_by_the_next_run(place: Workplace) -> None:
    place.run()
    before = product_bytes(place.output)
    _damage(place.output)
    labels = reference(place)
    outcome = place.run(labels=(labels,))
    assert outcome.exit_status == 3
    assert "The same command makes chunk scene0/1_0 again" in outcome.why
    assert place.run(labels=(labels,)).exit_status == 0
    assert product_bytes(place.output) == before


def test_the_command(place: Workplace, capsys: pytest.CaptureFixture[str]) -> None:
    labels = reference(place)
    place.run()
    assert batchseg(["evaluate", str(place.output), "--labels", labels]) == 0
    table = capsys.readouterr().out
    assert "recall" in table
    assert "inside priority: mIoU" in table
    assert batchseg(["evaluate", str(place.output), "--labels", f"scene1={labels}"]) == 2
    assert "the run has no such scene; expected scene0, got scene1" in capsys.readouterr().err
    assert batchseg(["evaluate", str(place.output), "--labels", f"scene0={labels}"]) == 0
    other = write_scene(place.folder / "other.tif", np.zeros((1, 50, 50), np.uint8))
    assert batchseg(["evaluate", str(place.output), "--labels", other]) == 2
    assert "must lie on the scene's grid" in capsys.readouterr().err
    assert batchseg(["evaluate", str(place.output), "--labels", labels, "--all", "water"]) == 2
    assert "--all: this is for polygons, and the reference is a raster" in capsys.readouterr().err


def test_evaluating_against_nothing_is_refused(place: Workplace) -> None:
    place.run()
    with pytest.raises(RecipeError, match="no reference is given"):
        evaluate(place.output, {})
    assert not (place.output / "evaluation.json").exists()


@pytest.mark.parametrize("content", ["mine", '{"type": "FeatureCollection"}', "[]", '{"fingerprint": 1}'])
def test_an_evaluation_replaces_no_file_of_others(place: Workplace, content: str) -> None:
    place.run()
    labels = reference(place)
    evaluate(place.output, labels)
    evaluate(str(place.output), labels)  # its own may be replaced
    (place.output / "evaluation.json").write_text(content)
    with pytest.raises(RecipeError, match=r"no evaluation into this folder made them; got evaluation\.json"):
        evaluate(place.output, labels)
    with pytest.raises(RecipeError, match="the output must not replace an input"):
        evaluate(place.output, LabelPolygons(polygons=f"file://{place.output}/evaluation.json", all_=1))
    assert (place.output / "evaluation.json").read_text() == content


def test_evaluations_are_kept_by_name_and_replace_only_those_against_the_same_references(place: Workplace) -> None:
    place.run()
    first = reference(place)
    other = place.folder / "elsewhere" / Path(first).name
    other.parent.mkdir()
    other.write_bytes(Path(first).read_bytes())
    stem = Path(first).stem
    for given, name, kept in (
        (first, None, {stem}),
        (first, None, {stem}),
        (str(other), None, {stem, f"{stem}-2"}),
        (str(other), None, {stem, f"{stem}-2"}),
        (str(other), "trial.1", {stem, f"{stem}-2", "trial.1"}),
        (first, "trial.1", {stem, f"{stem}-2", "trial.1"}),
    ):
        made = evaluate(place.output, given, name=name)
        assert {path.stem for path in (place.output / "evaluations").iterdir()} == kept
        newest = json.loads((place.output / "evaluation.json").read_text())
        assert newest == json.loads((place.output / "evaluations" / f"{made.name}.json").read_text()) == plain(made)
    assert {made.name: made.labels["scene0"] for made in list_evaluations(LocalStore(place.output))} == {
        stem: first,
        f"{stem}-2": str(other),
        "trial.1": first,
    }


@pytest.mark.parametrize("name", ["", "../up", "a/b", ".hidden", "x" * 101, "a\nb", "a b"])
def test_a_name_that_is_no_file_name_is_refused(place: Workplace, name: str) -> None:
    place.run()
    with pytest.raises(RecipeError, match="the name of an evaluation must be usable as that of a file"):
        evaluate(place.output, reference(place), name=name)
    assert not (place.output / "evaluation.json").exists()


def test_the_report_shows_the_newest_scores_and_says_which(
    place: Workplace, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = reference(place)
    place.run(labels=(labels,))
    assert batchseg(["report", str(place.output)]) == 0
    assert "scores  evaluation" not in capsys.readouterr().out
    wrong = place.folder / "wrong.tif"
    with rasterio.open(labels) as file:
        profile, values = file.profile, file.read()
    with rasterio.open(wrong, "w", **profile) as file:
        file.write(np.where(values == 255, 255, 1).astype(values.dtype))
    made = evaluate(place.output, str(wrong), name="all-ones")
    assert batchseg(["report", str(place.output)]) == 0
    text = capsys.readouterr().out
    assert f"mIoU  {made.scores.miou:.3f}" in text
    assert "scores  evaluation all-ones, " in text
    assert f"against {wrong}" in text
    page = (place.output / "report.html").read_text()
    assert "scores are those of evaluation all-ones, " in page
    own = json.loads((place.output / "metrics.json").read_text())
    assert own["miou"] != made.scores.miou, "metrics.json keeps the scores of the run itself"
    place.run(labels=(str(wrong),))  # the run scores its chunks again, after the evaluation
    assert batchseg(["report", str(place.output)]) == 0
    assert "scores  evaluation" not in capsys.readouterr().out
