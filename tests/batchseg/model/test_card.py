"""Model cards: what they say, and that they say nothing that is not known."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from batchseg.errors import BundleError
from batchseg.model.bundle import open_bundle
from batchseg.model.card import make_card
from batchseg.model.contract import Contract
from batchseg.model.lineage import AdjustedLineage, MixingRecord, QuantizedLineage, TrainedLineage, UnknownLineage
from batchseg.model.quality import (
    AdjustedQuality,
    GroundRecord,
    JudgedPixels,
    JudgedTiles,
    QuantizedQuality,
    RasterRecord,
    TrainedQuality,
)
from batchseg.schema import plain

RASTERS = GroundRecord(
    seeds=None, size_px=4096, rasters=(RasterRecord(image="a.tif", labels="b.tif"),), windows=None, window_px=1024
)
NOT_SAID: dict[str, Any] = dict.fromkeys(("data", "limits", "licence"))


def open_trained(name: str, **recipe: Any) -> tuple[Contract, TrainedLineage]:
    """A shipped contract, and its lineage with changes in the recipe."""
    contract = open_bundle(f"zoo:{name}").contract
    assert isinstance(contract.lineage, TrainedLineage)
    return contract, replace(contract.lineage, recipe={**contract.lineage.recipe, **recipe})


@pytest.mark.parametrize(
    ("rasters", "said", "unsaid"),
    [
        (
            True,
            ("ground like the ground that it was trained on", "Its licence was not named", "Its maker has named no"),
            "synth",
        ),
        (False, ("scenes of `batchseg.synth`", "knows synthetic ground"), "Its maker"),
    ],
)
def test_a_card_says_nothing_that_nobody_said(rasters: bool, said: tuple[str, ...], unsaid: str) -> None:
    changes = NOT_SAID | ({"start": None, "train": plain(RASTERS)} if rasters else {})
    contract, lineage = open_trained("synthetic-heavy", **changes)
    assert isinstance(contract.quality, TrainedQuality)
    quality = replace(contract.quality, on=RASTERS) if rasters else contract.quality
    card = make_card(replace(contract, lineage=lineage, quality=quality))
    assert all(text in card for text in said)
    assert unsaid not in card.replace(contract.name, "")


def test_a_card_says_which_ground_had_no_labels() -> None:
    _, lineage = open_trained("aerial-bulk")
    train: Any = lineage.recipe["train"]
    first, *others = train["rasters"]
    bare = train | {"rasters": [first, *(raster | {"labels": None} for raster in others)]}
    contract, lineage = open_trained("aerial-bulk", train=bare)
    card = make_card(replace(contract, lineage=lineage))
    trained = "Trained on scene_1.tif; scene_4.tif, scene_5.tif, scene_6.tif, scene_7.tif without labels and from"
    assert trained in " ".join(card.split())


@pytest.mark.parametrize("is_trained_here", [True, False])
def test_the_card_of_an_adjusted_bundle_says_nothing_that_nobody_said(is_trained_here: bool) -> None:
    contract, original = open_trained("synthetic-heavy", limits=None)
    lineage = AdjustedLineage(
        adjusted_from="town",
        mixing=MixingRecord(weights=((1.0,),), offsets=(0.0,)),
        original=original if is_trained_here else UnknownLineage(),
    )
    judged_on = JudgedPixels(on="a.tif", tiles=4, pixels=90)
    quality = AdjustedQuality(iou={"water": 0.7}, miou=0.7, miou_of_original=0.5, judged_on=judged_on)
    card = make_card(replace(contract, quality=quality, lineage=lineage))
    assert "It suits a.tif and ground like it, and ends where town does." in " ".join(card.split())
    assert "None" not in card


@pytest.mark.parametrize("is_labelled", [True, False])
def test_the_card_of_a_quantised_bundle_has_iou_only_with_labels(is_labelled: bool) -> None:
    contract, original = open_trained("synthetic-bulk")
    scores: dict[str, Any] = {"iou": {"water": 0.7}, "miou": 0.7, "miou_of_original": 0.71} if is_labelled else {}
    quality = QuantizedQuality(agreement_with_original=0.99, judged_on=JudgedTiles(on="a.tif", tiles=4), **scores)
    lineage = QuantizedLineage(quantized_from="town", original=original)
    card = make_card(replace(contract, quality=quality, lineage=lineage))
    assert "99.00% of their labels" in card
    assert ("## How well it does" in card) == is_labelled
    assert "None" not in card


def test_a_card_needs_a_quality_that_suits_the_lineage() -> None:
    contract, _ = open_trained("synthetic-bulk")
    with pytest.raises(BundleError, match="no card"):
        make_card(replace(contract, lineage=UnknownLineage()))
