"""Training: recipes, losses and scores; it learns, continues after an interruption, and writes a bundle."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from batchseg.classes import ClassInfo
from batchseg.errors import BundleError, RecipeError, StoppedError
from batchseg.model.architecture import Architecture, BulkNetSpec, SegformerSpec
from batchseg.model.bundle import open_bundle, read_weights
from batchseg.model.graph import WholeGraph
from batchseg.model.networks import BulkNet
from batchseg.model.torch_graph import load_graph
from batchseg.synth import CLASSES
from batchseg.training import sources
from batchseg.training.checks import check_train_recipe, load_train_recipe
from batchseg.training.losses import compute_hard_loss, measure_disagreement
from batchseg.training.rasters import UNLABELLED
from batchseg.training.train import train
from batchseg.training.train_recipe import GroundSpec, LabelledRaster
from batchseg.training.validation import measure_iou
from tests.batchseg.training.small_trainings import RECIPE, quietly, square_ground, train_on_cpu

CONFIGS = Path(__file__).parents[3] / "configs" / "train"


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_the_recipes_of_shipped_bundles_can_be_loaded(path: Path) -> None:
    recipe = load_train_recipe(path)
    assert recipe.name == path.stem
    if recipe.train.seeds is None or recipe.validate.seeds is None:
        return  # a split of rasters is checked where recipes are read
    assert recipe.train.seeds[0] >= 1000
    # Ground to measure on is never trained on, and seeds below 100 belong to users.
    assert recipe.validate.seeds[0] >= max(2000, recipe.train.seeds[1])


GOOD = """
name: x
tier: bulk
architecture: {kind: bulknet, width: 8}
halo_px: 16
train: {seeds: [1000, 1002]}
validate: {seeds: [2000, 2001]}
"""


def test_keys_that_have_an_effect_are_taken(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(
        f"{GOOD}watch: {{seeds: [3000, 3001], size_px: 2048}}\nwatch_every: 50\npatience: 3\nsoft_share: 0.5"
    )
    assert load_train_recipe(path).watch_every == 50


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: [", "cannot be read"),
        ("name: x\nstep: 3", "did you mean `steps`"),
        ("- a", "must be a mapping"),
        (f"{GOOD}watch_every: 50", "`watch_every` has no effect without `watch`. Give `watch`, or leave"),
        (f"{GOOD}watch: null\npatience: 3", "`patience` has no effect without `watch`"),
        (f"{GOOD}soft_share: 0.7", "`soft_share` has no effect without `teacher`"),
        (f"{GOOD}teacher: null\ntemperature: 3", "`temperature` has no effect without `teacher`"),
        (
            f"{GOOD}watch: {{seeds: [3000, 3001], windows: 4}}",
            "watch: windows: `windows` has no effect",
        ),
    ],
)
def test_an_invalid_recipe_is_refused(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    with pytest.raises(RecipeError, match=f"(?i){message}"):
        load_train_recipe(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"zoom": (0.1, 1.0)}, "a zoom must rise within"),
        ({"zoom": (0.3, 1.0)}, "the smallest zoom shows must fit a window"),
        ({"mix": 1.5}, "`mix` must be a share from 0 to 1"),
        ({"mix": 0.5, "agree": 1.0}, "crops of two places"),
        ({"light": -1.0}, "0 or more"),
        ({"agree": 1.0, "batch": 3}, "`batch` must be even"),
        ({"agree": 1.0, "crop_px": 128}, "a pair of crops must fit a window"),
        ({"agree": 1.0}, "overlap by four halos"),
    ],
)
def test_an_invalid_augmentation_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        check_train_recipe(replace(RECIPE, **change))


def test_training_learns_and_writes_a_bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "read_ground", lambda *_, **__: square_ground())
    recipe = replace(RECIPE, steps=60, checkpoint_every=100)
    bundle = train_on_cpu(recipe, tmp_path / "bundle", show=quietly)
    assert read_weights(bundle)
    assert [(c.id, c.name, c.rgb) for c in bundle.contract.classes] == [(c.id, c.name, c.rgb) for c in CLASSES]
    assert bundle.contract.quality.miou > 0.5
    card = (bundle.folder / "README.md").read_text()
    assert "tiny-net" in card
    quality = bundle.contract.quality
    scores = (quality.iou["building"], quality.recall["building"], quality.precision["building"])
    assert f"| building | {' | '.join(f'{score:.3f}' for score in scores)} |" in card
    assert f"| **mean** | **{quality.miou:.3f}** |" in card
    curve = [line.split(",") for line in (bundle.folder / "training" / "curve.csv").read_text().splitlines()]
    assert curve.pop(0) == ["step", "loss", "learning_rate", "seconds"]
    assert [int(row[0]) for row in curve] == list(range(1, 61))
    losses = [float(row[1]) for row in curve]
    assert np.mean(losses[-10:]) < 0.6 * np.mean(losses[:10])
    # What is stored in half the bytes still gives what was measured.
    again = measure_iou(load_graph(bundle), square_ground(), halo_px=recipe.halo_px)
    assert again == pytest.approx(bundle.contract.quality.iou, abs=0.02)


class Interrupted(BaseException):
    pass


def interrupt(step: int, steps: int, facts: dict[str, float]) -> None:
    if step == 5:
        raise Interrupted


@pytest.mark.parametrize(
    "architecture", [RECIPE.architecture, SegformerSpec(size="b0", decoder=16)], ids=lambda a: a.kind
)
def test_an_interrupted_training_ends_as_one_without_interruption(architecture: Architecture, tmp_path: Path) -> None:
    """Transformers drop paths at random, so the state of the random numbers is restored, too."""
    recipe = replace(RECIPE, architecture=architecture)
    train_on_cpu(recipe, tmp_path / "whole", show=quietly)
    with pytest.raises(Interrupted):
        train_on_cpu(recipe, tmp_path / "parts", show=interrupt)
    train_on_cpu(recipe, tmp_path / "parts", show=quietly)
    folders = [tmp_path / name for name in ("whole", "parts")]
    curves = [(folder / "training" / "curve.csv").read_text().splitlines() for folder in folders]
    rows = [[line.split(",")[:3] for line in curve] for curve in curves]
    assert rows[0] == rows[1]
    ours, theirs = (load_file(folder / "weights.safetensors") for folder in folders)
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        assert torch.equal(tensor, theirs[name]), name


@pytest.mark.parametrize("after", [1, 3, 5])
def test_a_training_that_is_told_to_stop_loses_no_step(after: int, tmp_path: Path) -> None:
    """Checkpoints are due after every second step; the one that the stop makes may come between two of them."""
    steps: list[int] = []
    with pytest.raises(StoppedError, match=f"stopped after step {after} of 6. The same command continues"):
        train(
            RECIPE,
            tmp_path / "parts",
            device="cpu",
            show=lambda step, _, __: steps.append(step),
            should_stop=lambda: len(steps) == after,
        )
    assert not (tmp_path / "parts" / "item.json").exists()
    train_on_cpu(RECIPE, tmp_path / "parts", show=lambda step, _, __: steps.append(step))
    assert steps == [1, 2, 3, 4, 5, 6], "no step is done twice"
    train_on_cpu(RECIPE, tmp_path / "whole", show=quietly)
    ours, theirs = (load_file(tmp_path / name / "weights.safetensors") for name in ("parts", "whole"))
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in ours.items())


def test_a_stop_after_the_last_step_changes_nothing(tmp_path: Path) -> None:
    bundle = train(RECIPE, tmp_path, device="cpu", show=quietly, should_stop=(tmp_path / "never").exists)
    assert bundle.contract.lineage.steps == RECIPE.steps
    done: list[int] = []
    again = replace(RECIPE, steps=7)
    train(again, tmp_path, device="cpu", show=lambda n, _, __: done.append(n), should_stop=lambda: bool(done))
    assert done == [7]


def test_a_finished_bundle_is_left_as_it_is(tmp_path: Path) -> None:
    """Its numerics may have been tuned meanwhile. A last step without a checkpoint is not done twice."""
    recipe = replace(RECIPE, steps=5)
    item = train_on_cpu(recipe, tmp_path / "out", show=quietly).folder / "item.json"
    item.write_text(item.read_text().replace('"threads": 2', '"threads": 3'))
    before = [path.read_bytes() for path in sorted((tmp_path / "out").glob("*.*"))]
    train_on_cpu(recipe, tmp_path / "out", show=fail)
    assert [path.read_bytes() for path in sorted((tmp_path / "out").glob("*.*"))] == before
    more = replace(recipe, steps=6)
    again = train_on_cpu(more, tmp_path / "out", show=lambda step, *_: check_is(step, 6))
    assert again.contract.lineage.steps == 6


def fail(*_: object) -> None:
    pytest.fail("no step is due")


def check_is(step: int, only: int) -> None:
    assert step == only


def test_a_bundle_of_another_recipe_is_not_written_over(tmp_path: Path) -> None:
    folder = train_on_cpu(RECIPE, tmp_path / "out", show=quietly).folder
    shutil.rmtree(folder / "training")
    with pytest.raises(BundleError, match="holds a bundle of another recipe"):
        train_on_cpu(replace(RECIPE, seed=1), folder, show=fail)
    assert open_bundle(str(folder)).contract.lineage.recipe["seed"] == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"learning_rate": 0.5}, "an unfinished training with another learning_rate"),
        ({"steps": 3}, "the checkpoint has more steps than the recipe"),
    ],
)
def test_a_checkpoint_of_another_training_is_refused(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        train_on_cpu(RECIPE, tmp_path, show=interrupt)
    with pytest.raises(RecipeError, match=message):
        train_on_cpu(replace(RECIPE, **change), tmp_path, show=fail)


def test_corrected_labels_make_another_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "read_ground", lambda *_, **__: square_ground())
    with pytest.raises(Interrupted):
        train_on_cpu(RECIPE, tmp_path, show=interrupt)
    corrected = square_ground()
    corrected.labels_WHW[0, 0, 0] = 1
    monkeypatch.setattr(sources, "read_ground", lambda *_, **__: corrected)
    with pytest.raises(RecipeError, match="an unfinished training with another digest of train"):
        train_on_cpu(RECIPE, tmp_path, show=fail)


def test_an_infinite_loss_ends_the_training(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="the loss is no longer a finite number") as caught:
        train_on_cpu(replace(RECIPE, steps=40, learning_rate=1e30), tmp_path, show=lambda *_: None)
    assert "a lower `learning_rate`" in str(caught.value)
    assert not (tmp_path / "item.json").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [({"bands": ("nir", "red", "green")}, "other bands"), ({"range": (0.0, 100.0)}, "other range")],
)
def test_a_start_of_other_inputs_is_refused(change: dict[str, Any], message: str) -> None:
    scenes = [GroundSpec(rasters=(LabelledRaster(image=f"{name}.tif", labels="l.tif"),)) for name in "ab"]
    classes = (ClassInfo(id=0, name="land", rgb=(1, 2, 3)),)
    recipe = replace(RECIPE, train=scenes[0], validate=scenes[1], classes=classes, start="zoo:synthetic-bulk", **change)
    with pytest.raises(BundleError, match=f"the bundle to start from has {message}"):
        sources.open_start(recipe)


def test_validation_ground_is_the_same_for_all_seeds() -> None:
    first, second = (sources.open_sources(replace(RECIPE, seed=seed)).ground_digests for seed in (0, 1))
    assert first["validate"] == second["validate"]
    assert first["train"] != second["train"]


def test_ground_without_data_has_the_mean_of_the_bundle_to_start_from() -> None:
    start = open_bundle("zoo:aerial-bulk")
    opened = sources.open_sources(replace(RECIPE, start="zoo:aerial-bulk"))
    assert opened.mean == start.contract.mean != tuple(np.round(opened.train_ground.mean, 3))
    for ground in (opened.train_ground, opened.validation_ground):
        np.testing.assert_array_equal(ground.fill, np.rint(start.contract.mean))


def test_detail_layers_are_added_to_a_trained_transformer(tmp_path: Path) -> None:
    plain = replace(RECIPE, architecture=SegformerSpec(size="b0", decoder=16), steps=1)
    start = train_on_cpu(plain, tmp_path / "plain", show=quietly).folder
    more = replace(plain, architecture=replace(plain.architecture, detail=8), start=str(start), learning_rate=1e-9)
    detailed = load_file(train_on_cpu(more, tmp_path / "detailed", show=quietly).folder / "weights.safetensors")
    taken = load_file(start / "weights.safetensors")
    for name in taken.keys() & detailed.keys():
        if "running" not in name and "num_batches" not in name:
            torch.testing.assert_close(detailed[name], taken[name], atol=1e-3, rtol=0)
    assert {name.split(".")[0] for name in detailed.keys() - taken.keys()} == {
        "coarse", "stem", "squeeze", "mix", "detail"
    }  # fmt: skip
    other = replace(more, architecture=BulkNetSpec(width=8), start=str(start))
    with pytest.raises(RecipeError, match="another architecture"):
        train_on_cpu(other, tmp_path / "other", show=quietly)


def test_a_network_that_depends_on_the_place_in_the_crop_disagrees_with_itself() -> None:
    torch.manual_seed(0)
    wide = torch.randn(2, 3, 64, 96)
    pairs = torch.stack([part for one in wide for part in (one[..., :64], one[..., 32:])])
    assert float(measure_disagreement(pairs, 32, 8)) == 0
    by_place = pairs + torch.linspace(0, 4, 64).expand(1, 64, 64)[:, None] * torch.tensor([1.0, 0, 0])[:, None, None]
    assert float(measure_disagreement(by_place, 32, 8)) > 0.1
    # What lies within a halo of a crop's edge is no tile's core.
    edges = pairs.clone()
    edges[0::2, ..., -8:], edges[1::2, ..., :8] = 9, -9
    assert float(measure_disagreement(edges, 32, 8)) == 0


def test_training_can_ask_for_agreement(tmp_path: Path) -> None:
    seen: list[dict[str, float]] = []
    recipe = replace(RECIPE, agree=1.0, steps=2, halo_px=8)
    train_on_cpu(recipe, tmp_path, show=lambda _step, _steps, facts: seen.append(facts))
    assert all(facts["unlike"] > 0 for facts in seen)
    curve = [line.split(",") for line in (tmp_path / "training" / "curve.csv").read_text().splitlines()]
    assert curve[0] == ["step", "loss", "unlike", "learning_rate", "seconds"]
    assert [float(row[2]) for row in curve[1:]] == pytest.approx([facts["unlike"] for facts in seen], abs=1e-4)


@pytest.mark.parametrize("kind", ["dice", "focal"])
def test_the_loss_ignores_unlabelled_pixels(kind: Literal["dice", "focal"]) -> None:
    torch.manual_seed(0)
    scores, y = torch.randn(1, 6, 8, 8), torch.randint(0, 6, (1, 8, 8))
    y[:, :4] = UNLABELLED
    changed = scores.clone()
    changed[:, :, :4] = torch.randn(1, 6, 4, 8) * 50
    assert torch.equal(compute_hard_loss(scores, y, kind), compute_hard_loss(changed, y, kind))
    perfect = torch.nn.functional.one_hot(y.where(y != UNLABELLED, 0), 6).movedim(-1, 1) * 40.0
    assert float(compute_hard_loss(perfect, y, kind)) < 0.01 < float(compute_hard_loss(scores, y, kind))


def test_iou_covers_labelled_classes_only() -> None:
    class Oracle(WholeGraph):
        def forward(self, x_NBHW: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            index = ((x_NBHW[:, 0].float() - 40) / 30).round().to(torch.uint8)
            return index, torch.full_like(index, 254)

    ground = square_ground()
    oracle = Oracle(BulkNet(3, 6, width=8), (0.0,) * 3, (1.0,) * 3)
    assert measure_iou(oracle, ground, halo_px=16) == {c.name: 1.0 for c in CLASSES}
    ground.labels_WHW[ground.labels_WHW == 5] = 4
    iou = measure_iou(oracle, ground, halo_px=16)
    assert iou["water"] == 1.0
    assert "bare" not in iou, "what the labels have not is no part of their mean, whatever is predicted"
    assert 0.4 < iou["building"] < 0.6
    ground.pixels_WBHW[:], ground.labels_WHW[:] = 40, 0
    assert measure_iou(oracle, ground, halo_px=16) == {"water": 1.0}
