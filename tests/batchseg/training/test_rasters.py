"""Training from real rasters: the split, the classes, and pixels that are read as in a run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray

from batchseg.classes import ClassInfo
from batchseg.errors import BundleError, RecipeError, SceneError
from batchseg.model.architecture import BulkNetSpec
from batchseg.model.quality import RasterRecord
from batchseg.scene.source import RasterSource
from batchseg.schema import plain
from batchseg.training import train as training
from batchseg.training.checks import check_train_recipe, load_train_recipe
from batchseg.training.ground import read_ground
from batchseg.training.provenance import make_public_recipe
from batchseg.training.rasters import UNLABELLED
from batchseg.training.train_recipe import GroundSpec, LabelledRaster, TrainRecipe
from tests.batchseg.scene.scene_rasters import UTM, write
from tests.batchseg.training.small_trainings import train_on_cpu

CLASSES = (ClassInfo(id=7, name="dark", rgb=(0, 0, 0)), ClassInfo(id=2, name="bright", rgb=(255, 255, 0)))
COLOURS = {"red": 0, "green": 1, "blue": 2}


def write_pair(folder: Path, name: str, *, shape: tuple[int, int] = (100, 90), **facts: Any) -> LabelledRaster:
    """Bright ground is class 2, dark ground class 7; the first rows have no label."""
    rng = np.random.default_rng(len(name))
    bright_HW = rng.random((shape[0] // 10, shape[1] // 10)).repeat(10, 0).repeat(10, 1) > 0.5
    pixels_BHW = (np.where(bright_HW, 200, 60) + rng.integers(-9, 9, (3, *shape))).astype(np.uint8)
    labels_HW = np.where(bright_HW, 2, 7).astype(np.uint8)
    labels_HW[:4] = 255
    image = write(folder / f"{name}.tif", pixels_BHW, names=tuple(COLOURS), **UTM, **facts)
    labels = write(folder / f"{name}_labels.tif", labels_HW[None], **UTM)
    return LabelledRaster(image=str(image), labels=str(labels))


def recipe_of(train_: LabelledRaster, validate: LabelledRaster, **changes: Any) -> TrainRecipe:
    values: dict[str, Any] = {
        "name": "real-net",
        "tier": "bulk",
        "architecture": BulkNetSpec(width=8),
        "halo_px": 16,
        "train": GroundSpec(rasters=(train_,), window_px=64),
        "validate": GroundSpec(rasters=(validate,), window_px=64),
        "classes": CLASSES,
        "gsd_m": (5.0, 20.0),
        "crop_px": 32,
        "batch": 4,
        "steps": 40,
        "learning_rate": 0.02,
        "threads": 1,
        "limits": "Two shades.",
    }
    return TrainRecipe(**(values | changes))


def quietly(step: int, steps: int, facts: dict[str, float]) -> None:
    assert step <= steps


def test_windows_cover_a_raster_and_nothing_beyond_it_is_labelled(tmp_path: Path) -> None:
    pair = write_pair(tmp_path, "scene")
    recipe = recipe_of(pair, write_pair(tmp_path, "other"))
    ground = read_ground(recipe.train, recipe)
    assert ground.pixels_WBHW.shape == (4, 3, 64, 64)  # 100 x 90, two by two
    known = ground.labels_WHW != UNLABELLED
    assert known.sum() == 96 * 90
    assert ground.names == ("dark", "bright")
    bright = ground.pixels_WBHW.mean(1)[known] > 130
    np.testing.assert_array_equal(ground.labels_WHW[known], bright.astype(np.uint8))
    # The edge is repeated, as in a run.
    np.testing.assert_array_equal(ground.pixels_WBHW[1, :, :, 26:], ground.pixels_WBHW[1, :, :, 25:26].repeat(38, 2))


def test_invalid_pixels_are_filled_with_the_mean_of_the_bundle(tmp_path: Path) -> None:
    mask_HW = np.full((100, 90), 255, np.uint8)
    mask_HW[:, :30] = 0
    pair = write_pair(tmp_path, "scene", mask_HW=mask_HW)
    recipe = recipe_of(pair, write_pair(tmp_path, "other"))
    ground = read_ground(recipe.train, recipe)
    np.testing.assert_array_equal(ground.pixels_WBHW[0, :, 50, 3], np.rint(ground.mean))
    assert (ground.labels_WHW[0, :, :30] == UNLABELLED).all()
    given = read_ground(recipe.train, recipe, fill=(1.0, 2.0, 3.0))
    np.testing.assert_array_equal(given.pixels_WBHW[0, :, 50, 3], (1, 2, 3))
    np.testing.assert_allclose(given.mean, ground.mean)


def test_a_draw_of_windows_is_seeded_and_bounded(tmp_path: Path) -> None:
    pair = write_pair(tmp_path, "scene", shape=(200, 200))
    recipe = recipe_of(pair, write_pair(tmp_path, "other"))
    recipe = replace(recipe, train=replace(recipe.train, windows=3))
    ground, again, other = (read_ground(recipe.train, replace(recipe, seed=seed)) for seed in (0, 0, 5))
    assert len(ground.pixels_WBHW) == 3
    assert ground.digest == again.digest != other.digest


def test_training_on_rasters_makes_a_bundle_of_its_own_classes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = recipe_of(write_pair(tmp_path, "scene"), write_pair(tmp_path, "another"))
    monkeypatch.setattr(training, "read_commit", lambda: "abc")
    bundle = train_on_cpu(recipe, tmp_path / "out", show=quietly)
    contract = bundle.contract
    assert contract.classes == CLASSES
    assert contract.gsd_m == (5.0, 20.0)
    assert set(contract.quality.iou) == {"dark", "bright"}
    assert contract.quality.miou > 0.6
    assert contract.lineage.commit == "abc"
    assert set(contract.lineage.data) == {"train", "validate"}
    card = (tmp_path / "out" / "README.md").read_text()
    assert "another.tif, never trained on" in card
    assert "Two shades." in card
    # A bundle is given away.
    assert contract.quality.on.rasters == (RasterRecord(image="another.tif", labels="another_labels.tif"),)
    assert contract.lineage.recipe["train"]["rasters"][0]["image"] == "scene.tif"
    assert str(tmp_path) not in (tmp_path / "out" / "item.json").read_text() + card


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("https://user:word@host/b/a.tif?X-Amz-Signature=SECRET", "https://host/b/a.tif"),
        ("s3://bucket/key/a.tif", "s3://bucket/key/a.tif"),
        ("/vsicurl/https://host/a.tif?sig=SECRET", "/vsicurl/https://host/a.tif"),
        ("/home/alice/a.tif", "a.tif"),
        ("../data/a.tif", "a.tif"),
        ("file:///home/alice/a.tif", "a.tif"),
        ("/vsizip//home/alice/scenes.zip/a.tif", "a.tif"),
        ("models/town-heavy/", "town-heavy"),
        ("zoo:aerial-heavy", "zoo:aerial-heavy"),
    ],
)
def test_a_lineage_has_public_names_of_rasters_and_bundles(address: str, public: str) -> None:
    other = LabelledRaster(image="other.tif", labels="other_labels.tif")
    spec = GroundSpec(rasters=(LabelledRaster(image=address, labels=address),), window_px=64)
    public_recipes = [
        make_public_recipe(recipe_of(spec.rasters[0], other, start=address, teacher=address)),
        make_public_recipe(recipe_of(other, spec.rasters[0])),
        make_public_recipe(recipe_of(other, replace(other, image="third.tif"), watch=spec)),
    ]
    assert [recipe[name] for recipe, name in zip(public_recipes, ("train", "validate", "watch"), strict=True)] == [
        plain(spec) | {"rasters": [{"image": public, "labels": public}]}
    ] * 3
    assert [(recipe["start"], recipe["teacher"]) for recipe in public_recipes] == [
        (public, public),
        (None, None),
        (None, None),
    ]
    assert public_recipes[0] | {"train": 0, "validate": 0} == plain(
        recipe_of(other, replace(other, image="third.tif"), start=public, teacher=public)
    ) | {"train": 0, "validate": 0, "range": [0.0, 255.0]}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"classes": CLASSES[:1]}, "labels must be ids of `classes`"),
        ({"dtype": "uint16", "range": (0.0, 255.0)}, "data type"),
        ({"gsd_m": (0.3, 0.8)}, r"scene\.tif: .*size.*expected 0\.3 to 0\.8 m \(`gsd_m`\), got 10 m\. Write `gsd_m:"),
        ({"bands": ("red", "green", "nir")}, "nir"),
    ],
)
def test_rasters_that_do_not_fit_are_refused(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    recipe = recipe_of(write_pair(tmp_path, "scene"), write_pair(tmp_path, "other"), **change)
    with pytest.raises((BundleError, RecipeError, SceneError), match=message):
        train_on_cpu(recipe, tmp_path / "out", show=quietly)


def test_a_raster_with_another_pixel_size_is_refused_before_any_pixel_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This includes rasters to measure on, which would otherwise be opened after the training."""
    coarse = UTM | {"transform": rasterio.Affine(30, 0, 500_000, 0, -30, 5_000_000)}
    image = write(tmp_path / "coarse.tif", np.full((3, 100, 90), 9, np.uint8), names=tuple(COLOURS), **coarse)
    labels = write(tmp_path / "coarse_labels.tif", np.zeros((1, 100, 90), np.uint8), **coarse)
    recipe = recipe_of(write_pair(tmp_path, "scene"), LabelledRaster(image=str(image), labels=str(labels)))
    monkeypatch.setattr(RasterSource, "read", lambda *_: pytest.fail("a pixel was read"))
    with pytest.raises(BundleError, match=r"coarse\.tif: .*got 30 m"):
        train_on_cpu(recipe, tmp_path / "out", show=quietly)


def test_a_raster_without_a_place_passes_the_check_of_pixel_sizes(tmp_path: Path) -> None:
    image = write(tmp_path / "a.tif", np.full((3, 64, 64), 9, np.uint8), names=tuple(COLOURS))
    labels = write(tmp_path / "b.tif", np.full((1, 64, 64), 2, np.uint8))
    pair = LabelledRaster(image=str(image), labels=str(labels))
    recipe = recipe_of(pair, LabelledRaster(image="another.tif", labels="c.tif"), gsd_m=(0.3, 0.8))
    assert read_ground(recipe.train, recipe).pixels_WBHW.shape == (1, 3, 64, 64)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"classes": (CLASSES[0], replace(CLASSES[1], name=CLASSES[0].name))},
            "classes: the classes contradict each other; got.*names",
        ),
        (
            {"classes": (CLASSES[0], replace(CLASSES[1], id=CLASSES[0].id))},
            "classes: the classes contradict each other; got.*ids",
        ),
        ({"dtype": "uint16"}, r"range: uint16 must have a range.*Add `range: \[low, high\]`"),
        ({"dtype": "float32", "scale": (0.0, 4000.0)}, "range: float32 must have a range"),
    ],
)
def test_classes_and_ranges_without_a_valid_bundle_are_refused(
    change: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(RecipeError, match=message):
        check_train_recipe(recipe_of(write_pair(tmp_path, "scene"), write_pair(tmp_path, "other"), **change))
    assert not (tmp_path / "out").exists()


def test_the_recipe_as_yaml(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(
        "name: n\ntier: bulk\narchitecture: {kind: bulknet}\nhalo_px: 32\n"
        "train: {rasters: [{image: a.tif, labels: b.tif}]}\nvalidate: {rasters: [{image: c.tif, labels: d.tif}]}\n"
        "classes: [{id: 0, name: land, rgb: [1, 2, 3]}]\n"
    )
    assert load_train_recipe(path).class_list == (ClassInfo(id=0, name="land", rgb=(1, 2, 3)),)
    path.write_text(path.read_text() + "crop_px: 2048\n")
    with pytest.raises(RecipeError, match="a crop must fit a window"):
        load_train_recipe(path)


def test_wider_types_are_scaled_as_in_a_run(tmp_path: Path) -> None:
    pair = write_pair(tmp_path, "scene")
    wide: NDArray[np.uint16] = np.random.default_rng(0).integers(0, 4000, (3, 100, 90)).astype(np.uint16)
    image = write(tmp_path / "wide.tif", wide, names=tuple(COLOURS), **UTM)
    recipe = recipe_of(LabelledRaster(image=str(image), labels=pair.labels), pair, scale=(0.0, 4000.0))
    ground = read_ground(recipe.train, recipe)
    assert ground.pixels_WBHW.dtype == np.uint8
    np.testing.assert_array_equal(ground.pixels_WBHW[0, 0], np.rint(wide[0, :64, :64] * np.float32(255 / 4000)))


def test_the_range_of_wider_types_is_kept(tmp_path: Path) -> None:
    pair = write_pair(tmp_path, "scene")
    wide = np.random.default_rng(0).integers(300, 4000, (3, 100, 90)).astype(np.uint16)
    image = write(tmp_path / "wide.tif", wide, names=tuple(COLOURS), **UTM)
    recipe = recipe_of(LabelledRaster(image=str(image), labels=pair.labels), pair, dtype="uint16", range=(0.0, 4000.0))
    np.testing.assert_array_equal(read_ground(recipe.train, recipe).pixels_WBHW[0, 0], wide[0, :64, :64])
    # The range of bytes in a wider type must be given explicitly.
    assert replace(recipe, range=(0.0, 255.0)).range == (0.0, 255.0)


def write_flat(
    folder: Path, name: str, value: int, *, shape: tuple[int, int] = (64, 64), **facts: Any
) -> LabelledRaster:
    """Write one value in all bands and one class; 0 is nodata."""
    image = write(folder / f"{name}.tif", np.full((3, *shape), value, np.uint8), names=tuple(COLOURS), nodata=0, **UTM)
    labels = write(folder / f"{name}_labels.tif", np.full((1, *shape), facts.get("label", 2), np.uint8), **UTM)
    return LabelledRaster(image=str(image), labels=str(labels))


def test_all_windows_set_the_scaling(tmp_path: Path) -> None:
    """Five scenes of one window each, of which the first is empty."""
    scenes = tuple(write_flat(tmp_path, f"scene{value}", value) for value in (0, 40, 80, 120, 160))
    recipe = recipe_of(scenes[0], LabelledRaster(image="another.tif", labels="b.tif"))
    recipe = replace(recipe, train=GroundSpec(rasters=scenes, window_px=64))
    ground = read_ground(recipe.train, recipe)
    np.testing.assert_allclose(ground.mean, 100.0)
    np.testing.assert_allclose(ground.std, np.std([40, 80, 120, 160]))
    assert (ground.pixels_WBHW[0] == 100).all()


def test_repeated_edges_do_not_affect_the_scaling(tmp_path: Path) -> None:
    """A window that holds one bright column of its raster and 63 repetitions of it."""
    pixels_BHW = np.full((3, 64, 65), 40, np.uint8)
    pixels_BHW[..., 64] = 240
    image = write(tmp_path / "a.tif", pixels_BHW, names=tuple(COLOURS), **UTM)
    labels = write(tmp_path / "a_labels.tif", np.full((1, 64, 65), 2, np.uint8), **UTM)
    recipe = recipe_of(LabelledRaster(image=str(image), labels=str(labels)), write_flat(tmp_path, "other", 9))
    assert (read_ground(recipe.train, recipe).mean < 60).all()


def test_few_valid_pixels_between_the_sampled_ones_set_the_scaling(tmp_path: Path) -> None:
    pixels_BHW = np.zeros((3, 64, 64), np.uint8)
    pixels_BHW[:, 5, 6:8] = (10, 30)
    image = write(tmp_path / "a.tif", pixels_BHW, names=tuple(COLOURS), nodata=0, **UTM)
    labels = write(tmp_path / "a_labels.tif", np.full((1, 64, 64), 2, np.uint8), **UTM)
    recipe = recipe_of(LabelledRaster(image=str(image), labels=str(labels)), write_flat(tmp_path, "other", 9))
    ground = read_ground(recipe.train, recipe)
    np.testing.assert_allclose((ground.mean, ground.std), ((20,) * 3, (10,) * 3))


@pytest.mark.parametrize("role", ["train", "validate", "watch"])
@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"value": 0}, "no pixel of this ground is valid"),
        ({"value": 9, "label": 255}, "no pixel of this ground has a label; expected ids of `classes`"),
    ],
)
def test_ground_without_valid_or_labelled_pixels_is_refused(
    role: str, facts: dict[str, int], message: str, tmp_path: Path
) -> None:
    grounds = {
        name: GroundSpec(
            rasters=(write_flat(tmp_path, name, **({"value": 50} | (facts if name == role else {}))),), window_px=64
        )
        for name in ("train", "validate", "watch")
    }
    recipe = replace(recipe_of(*(grounds[name].rasters[0] for name in ("train", "validate"))), **grounds)
    with pytest.raises(RecipeError, match=rf"^{role}: .*{role}\.tif: {message}"):
        train_on_cpu(recipe, tmp_path / "out", show=quietly)
    assert not (tmp_path / "out").exists()


def test_ground_without_labels_is_allowed_with_a_teacher(tmp_path: Path) -> None:
    bare, other = write_flat(tmp_path, "bare", 9, label=255), write_flat(tmp_path, "other", 9, label=255)
    recipe = replace(recipe_of(bare, other), teacher="zoo:aerial-heavy")
    assert not sum(map(len, read_ground(recipe.train, recipe).places.values()))
    with pytest.raises(RecipeError, match=r"^validate: .*has a label"):
        read_ground(recipe.validate, recipe)
