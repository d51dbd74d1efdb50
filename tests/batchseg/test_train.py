from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file

from batchseg.errors import RecipeError
from batchseg.model.bundle import load_bundle, read_weights
from batchseg.model.graph import WholeGraph
from batchseg.model.networks import BulkNet
from batchseg.model.segmenter import load_graph
from batchseg.synth import CLASSES
from batchseg.train import loop
from batchseg.train.crops import Crops
from batchseg.train.ground import UNLABELLED, Ground, open_ground
from batchseg.train.loop import train
from batchseg.train.loss import hard_loss, unlike
from batchseg.train.measure import measure
from batchseg.train.recipe import GroundSpec, TrainRecipe, load_train_recipe

MADE = "2026-01-31T00:00:00Z"
CONFIGS = Path(__file__).parents[2] / "configs" / "train"
GROUND = GroundSpec(seeds=(1000, 1002), size_px=256, window_px=128)
RECIPE = TrainRecipe(
    name="tiny-net",
    tier="bulk",
    architecture={"kind": "bulknet", "width": 8},
    halo_px=16,
    train=GROUND,
    validate=replace(GROUND, seeds=(2000, 2001)),
    crop_px=64,
    batch=2,
    steps=6,
    learning_rate=0.01,
    checkpoint_every=2,
    threads=1,
)


def quietly(step: int, steps: int, facts: dict[str, float]) -> None:
    assert step <= steps
    assert facts["loss"] > 0


def square_ground(size: int = 96) -> Ground:
    """Each class has a brightness of its own, in blocks; a column without labels."""
    blocks = np.add.outer(np.arange(size // 16), 2 * np.arange(size // 16)) % len(CLASSES)
    labels = blocks.repeat(16, 0).repeat(16, 1).astype(np.uint8)[None]
    pixels = np.repeat((40 + 30 * labels)[:, None], 3, axis=1).astype(np.uint8)
    labels[:, :, -1] = UNLABELLED
    places = {c.id: np.argwhere(labels == c.id) for c in CLASSES}
    return Ground(pixels, labels, places, np.full(3, 115.0), np.full(3, 50.0))


def crops(ground: Ground, *, seed: int = 0, size: int = 48) -> Crops:
    return Crops(ground, size, 8, 0.5, np.random.default_rng(seed))


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_the_recipes_of_what_is_shipped(path: Path) -> None:
    recipe = load_train_recipe(path)
    assert recipe.name == path.stem
    if recipe.train.seeds is None or recipe.validate.seeds is None:
        return  # a split of rasters is checked where recipes are read
    assert recipe.train.seeds[0] >= 1000
    # Ground that is measured on is never trained on, and seeds below 100 belong to users.
    assert recipe.validate.seeds[0] >= max(2000, recipe.train.seeds[1])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name: [", "cannot be read"),
        ("name: x\nstep: 3", "did you mean `steps`"),
        ("- a", "has to be a mapping"),
    ],
)
def test_a_recipe_that_cannot_be_meant(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    with pytest.raises(RecipeError, match=f"(?i){said}"):
        load_train_recipe(path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"zoom": (0.3, 1.0)}, "a zoom is"),
        ({"mix": 1.5}, "shares are 0 to 1"),
        ({"mix": 0.5, "agree": 1.0}, "crops of two places"),
        ({"light": -1.0}, "0 or more"),
        ({"agree": 1.0, "batch": 3}, "an even `batch`"),
        ({"agree": 1.0, "crop_px": 128}, "a pair of crops fits a window"),
        ({"agree": 1.0}, "overlap by four halos"),
    ],
)
def test_an_augmentation_that_cannot_be_meant(change: dict[str, Any], said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        replace(RECIPE, **change)


def test_ground_without_data_is_filled_with_the_mean_as_at_inference() -> None:
    ground = open_ground(replace(GROUND, window_px=256), RECIPE)
    assert (ground.pixels_WBHW != 0).any(axis=1).all()
    void = (ground.pixels_WBHW == np.rint(ground.mean)[None, :, None, None]).all(axis=1)
    assert void.mean() > 0.005  # every scene has a corner without data
    assert (ground.labels_WHW[void] == UNLABELLED).mean() > 0.99
    known = np.moveaxis(ground.pixels_WBHW[:1], 1, -1)[~void[:1]]
    np.testing.assert_allclose(ground.mean, known.mean(0), atol=1.0)


def test_crops_are_the_same_for_the_same_seed() -> None:
    ground = square_ground()
    for array, again in zip(crops(ground).draw(), crops(ground).draw(), strict=True):
        np.testing.assert_array_equal(array, again)
    assert not np.array_equal(crops(ground, seed=1).draw()[0], crops(ground).draw()[0])


def test_pixels_and_labels_are_turned_together() -> None:
    """Brightness says the class, and augmentation of light is weaker than the difference of two classes."""
    ground, made = square_ground(), crops(square_ground())
    for _ in range(20):
        x, y = made.draw()[:2]
        known = y != UNLABELLED
        assert known.any()
        agreement = [np.corrcoef(x[i, 0][known[i]], y[i][known[i]])[0, 1] for i in range(len(x))]
        assert min(agreement) > 0.95
    assert x.dtype == np.float32
    assert (x.min(), x.max()) >= (0.0, ground.pixels_WBHW.min())


@pytest.mark.parametrize("zoom", [(0.5, 0.5), (2.0, 2.0), (0.6, 1.6)])
def test_what_is_zoomed_stays_together(zoom: tuple[float, float]) -> None:
    """Pixels, labels and soft labels of one place; blocks of 16 px are so many times wider."""
    ground = square_ground()
    soft = ground.pixels_WBHW[0, :1].reshape(1, 24, 4, 24, 4).mean((2, 4)).astype(np.float16)
    made = Crops(ground, 48, 8, 0.5, np.random.default_rng(0), soft=[soft], light=0.0, zoom=zoom)
    for batch in (made.draw() for _ in range(10)):
        assert batch.pixels_NBHW.shape[1:] == (3, 48, 48)
        known = batch.labels_NHW != UNLABELLED
        expected = 40 + 30.0 * batch.labels_NHW
        near = np.abs(batch.pixels_NBHW[:, 0] - expected)[known] < 12
        assert near.mean() > 0.8  # all but the borders of blocks
        small = batch.pixels_NBHW.mean(1).reshape(8, 12, 4, 12, 4).mean((2, 4))
        seen = batch.seen_Nhw
        assert np.corrcoef(small[seen], batch.soft_NKhw[:, 0][seen])[0, 1] > 0.9


def test_a_zoom_shows_more_or_less_of_the_ground() -> None:
    def changes(zoom: float) -> int:
        labels = Crops(square_ground(), 48, 32, 0.0, np.random.default_rng(0), zoom=(zoom, zoom)).draw().labels_NHW
        known = (labels[:, 1:] != UNLABELLED) & (labels[:, :-1] != UNLABELLED)
        return int(((labels[:, 1:] != labels[:, :-1]) & known).sum())

    assert changes(0.5) > 1.6 * changes(1.0) > 1.6**2 * changes(2.0)


def test_a_mixed_crop_is_two_places_side_by_side() -> None:
    ground = square_ground()
    soft = ground.pixels_WBHW[0, :1].reshape(1, 24, 4, 24, 4).mean((2, 4)).astype(np.float16)
    alone, mixed = (
        Crops(ground, 48, 8, 0.5, np.random.default_rng(3), soft=[soft], mix=mix).draw() for mix in (0.0, 1.0)
    )
    for i in range(8):
        parts = [
            (axis, at)
            for axis in (0, 1)
            for at in range(12, 37, 4)
            if all(
                np.array_equal(array[i], joined(one[i], one[(i + 1) % 8], axis, at * array.shape[-1] // 48))
                for array, one in zip(mixed, alone, strict=True)
            )
        ]
        assert len(parts) == 1


def joined(first: NDArray[Any], second: NDArray[Any], axis: int, at: int) -> NDArray[Any]:
    return np.concatenate([np.split(first, [at], axis - 2)[0], np.split(second, [at], axis - 2)[1]], axis - 2)


def test_light_changes_as_much_as_is_asked() -> None:
    def spread(light: float) -> float:
        made = Crops(square_ground(), 48, 64, 0.0, np.random.default_rng(0), light=light)
        x, y = made.draw()[:2]
        return float(np.std([x[i, 0][y[i] == 2].mean() for i in range(len(x)) if (y[i] == 2).any()]))

    assert spread(0.0) < 1.0
    assert 5.0 < spread(1.0) < 0.6 * spread(3.0)


def runs_of_equal_lines(x_BHW: NDArray[Any]) -> dict[str, int]:
    """How many lines at each side repeat their neighbour exactly, as beyond the edge of a scene."""
    sides = {
        "top": x_BHW,
        "bottom": x_BHW[:, ::-1],
        "left": x_BHW.swapaxes(1, 2),
        "right": x_BHW[:, :, ::-1].swapaxes(1, 2),
    }
    return {name: int((a[:, 1:] == a[:, :-1]).all((0, 2)).argmin()) for name, a in sides.items()}


def test_edges_are_repeated_on_every_side_sometimes() -> None:
    made = crops(open_ground(GROUND, RECIPE))
    seen = dict.fromkeys(("top", "bottom", "left", "right"), 0)
    filled = 0
    for _ in range(40):
        for x, y in zip(*made.draw()[:2], strict=True):
            repeated = runs_of_equal_lines(x)
            if 0 < max(repeated.values()) < made.crop_px - 1:
                side = max(repeated, key=lambda name: repeated[name])
                seen[side] += 1
                lines = np.rot90(y, {"top": 0, "bottom": 2, "left": 3, "right": 1}[side])
                assert (lines[: repeated[side]] == UNLABELLED).all()
            mean = np.rint(made.ground.mean).astype(np.float32)[:, None, None]
            filled += bool((x == mean).all(0).mean() > 0.02)
    assert min(seen.values()) >= 2
    assert filled >= 2


def test_a_class_that_is_rare_is_drawn_often() -> None:
    ground = square_ground()
    ground.labels_WHW[:] = 2
    ground.labels_WHW[0, 40, 70] = 4
    places = {c.id: np.argwhere(ground.labels_WHW == c.id) for c in CLASSES}
    made = crops(replace(ground, places=places), size=16)
    held = [(y == 4).any() for _ in range(30) for y in made.draw()[1]]
    # Half of the crops hold a pixel of a class drawn evenly out of the two that occur.
    assert 0.12 < np.mean(held) < 0.45


def test_training_learns_and_writes_a_bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "open_ground", lambda *_, **__: square_ground())
    recipe = replace(RECIPE, steps=60, checkpoint_every=100)
    folder = train(recipe, tmp_path / "bundle", made=MADE, show=quietly)
    bundle = load_bundle(str(folder))
    assert read_weights(bundle)
    assert [(c.id, c.name, c.rgb) for c in bundle.contract.classes] == [(c.id, c.name, c.rgb) for c in CLASSES]
    assert bundle.contract.quality["miou"] > 0.5
    card = (folder / "README.md").read_text()
    assert "tiny-net" in card
    assert f"| building | {bundle.contract.quality['iou']['building']:.3f} |" in card
    assert f"| **mean** | **{bundle.contract.quality['miou']:.3f}** |" in card
    curve = [line.split(",") for line in (folder / "training" / "curve.csv").read_text().splitlines()]
    assert curve.pop(0) == ["step", "loss", "learning_rate", "seconds"]
    assert [int(row[0]) for row in curve] == list(range(1, 61))
    losses = [float(row[1]) for row in curve]
    assert np.mean(losses[-10:]) < 0.6 * np.mean(losses[:10])
    # What is stored in half the bytes still gives what was measured.
    again = measure(load_graph(bundle), square_ground(), halo_px=recipe.halo_px)
    assert again == pytest.approx(bundle.contract.quality["iou"], abs=0.02)


def test_an_interrupted_training_goes_on_as_if_it_had_not_been(tmp_path: Path) -> None:
    class Interrupted(BaseException):
        pass

    def interrupt(step: int, steps: int, facts: dict[str, float]) -> None:
        if step == 5:
            raise Interrupted

    whole = train(RECIPE, tmp_path / "whole", made=MADE, show=quietly)
    with pytest.raises(Interrupted):
        train(RECIPE, tmp_path / "parts", made=MADE, show=interrupt)
    parts = train(RECIPE, tmp_path / "parts", made=MADE, show=quietly)
    curves = [(f / "training" / "curve.csv").read_text().splitlines() for f in (whole, parts)]
    rows = [[line.split(",")[:3] for line in curve] for curve in curves]
    assert rows[0] == rows[1]
    ours, theirs = (load_file(folder / "weights.safetensors") for folder in (whole, parts))
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        assert torch.equal(tensor, theirs[name]), name


def test_a_look_at_details_is_added_to_a_trained_transformer(tmp_path: Path) -> None:
    plain = replace(RECIPE, architecture={"kind": "segformer", "size": "b0", "decoder": 16}, steps=1)
    start = train(plain, tmp_path / "plain", made=MADE, show=quietly)
    more = replace(plain, architecture=plain.architecture | {"detail": 8}, start=str(start), learning_rate=1e-9)
    detailed = load_file(train(more, tmp_path / "detailed", made=MADE, show=quietly) / "weights.safetensors")
    taken = load_file(start / "weights.safetensors")
    for name in taken.keys() & detailed.keys():
        if "running" not in name and "num_batches" not in name:
            torch.testing.assert_close(detailed[name], taken[name], atol=1e-3, rtol=0)
    assert {name.split(".")[0] for name in detailed.keys() - taken.keys()} == {
        "coarse", "stem", "squeeze", "mix", "detail"
    }  # fmt: skip
    other = replace(more, architecture={"kind": "bulknet", "width": 8}, start=str(start))
    with pytest.raises(RecipeError, match="another architecture"):
        train(other, tmp_path / "other", made=MADE, show=quietly)


@pytest.mark.parametrize("soft", [False, True])
def test_a_pair_shows_the_same_ground_in_the_same_light(soft: bool) -> None:
    ground = square_ground(160)
    answers = np.random.default_rng(0).normal(size=(2, 40, 40)).astype(np.float16)
    made = Crops(ground, 64, 8, 0.5, np.random.default_rng(0), soft=[answers] if soft else (), shift_px=32)
    for _ in range(8):
        x, y, answer, seen = made.draw()
        assert len(x) == len(y) == len(answer) == len(seen) == 8
        for array, shift in ((x, 32), (y, 32), (answer, 8), (seen, 8)):
            np.testing.assert_array_equal(array[0::2][..., shift:], array[1::2][..., :-shift])


def test_a_network_that_calls_ground_by_its_place_in_the_crop_is_unlike_itself() -> None:
    torch.manual_seed(0)
    wide = torch.randn(2, 3, 64, 96)
    pairs = torch.stack([part for one in wide for part in (one[..., :64], one[..., 32:])])
    assert float(unlike(pairs, 32, 8)) == 0
    by_place = pairs + torch.linspace(0, 4, 64).expand(1, 64, 64)[:, None] * torch.tensor([1.0, 0, 0])[:, None, None]
    assert float(unlike(by_place, 32, 8)) > 0.1
    # What lies within a halo of a crop's edge is no tile's core.
    edges = pairs.clone()
    edges[0::2, ..., -8:], edges[1::2, ..., :8] = 9, -9
    assert float(unlike(edges, 32, 8)) == 0


def test_training_can_ask_for_agreement(tmp_path: Path) -> None:
    seen: list[dict[str, float]] = []
    recipe = replace(RECIPE, agree=1.0, steps=2, halo_px=8)
    train(recipe, tmp_path, made=MADE, show=lambda _step, _steps, facts: seen.append(facts))
    assert all(facts["unlike"] > 0 for facts in seen)


def test_a_checkpoint_of_another_recipe_is_refused(tmp_path: Path) -> None:
    train(replace(RECIPE, steps=2), tmp_path, made=MADE, show=quietly)
    with pytest.raises(RecipeError, match="another recipe"):
        train(replace(RECIPE, learning_rate=0.5), tmp_path, made=MADE, show=quietly)


@pytest.mark.parametrize("kind", ["dice", "focal"])
def test_the_loss_ignores_what_is_not_labelled(kind: Literal["dice", "focal"]) -> None:
    torch.manual_seed(0)
    scores, y = torch.randn(1, 6, 8, 8), torch.randint(0, 6, (1, 8, 8))
    y[:, :4] = UNLABELLED
    changed = scores.clone()
    changed[:, :, :4] = torch.randn(1, 6, 4, 8) * 50
    assert torch.equal(hard_loss(scores, y, kind), hard_loss(changed, y, kind))
    perfect = torch.nn.functional.one_hot(y.where(y != UNLABELLED, 0), 6).movedim(-1, 1) * 40.0
    assert float(hard_loss(perfect, y, kind)) < 0.01 < float(hard_loss(scores, y, kind))


def test_measure_counts_what_occurs_and_is_labelled() -> None:
    class Oracle(WholeGraph):
        def forward(self, x_NBHW: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            index = ((x_NBHW[:, 0].float() - 40) / 30).round().to(torch.uint8)
            return index, torch.full_like(index, 254)

    ground = square_ground()
    oracle = Oracle(BulkNet(3, 6, width=8), (0.0,) * 3, (1.0,) * 3)
    assert measure(oracle, ground, halo_px=16) == {c.name: 1.0 for c in CLASSES}
    ground.labels_WHW[ground.labels_WHW == 5] = 4
    iou = measure(oracle, ground, halo_px=16)
    assert iou["water"] == 1.0
    assert iou["bare"] == 0.0
    assert 0.4 < iou["building"] < 0.6
    ground.pixels_WBHW[:], ground.labels_WHW[:] = 40, 0
    assert measure(oracle, ground, halo_px=16) == {"water": 1.0}
