"""The model card of a bundle: what it is, what it was made from, how well it does, where it ends."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from batchseg.model.contract import Contract

CARD = "README.md"


def write_card(folder: Path, contract: Contract) -> None:
    cards = {"quantized_from": quantized_card, "adjusted_from": adjusted_card}
    card = next((made for key, made in cards.items() if key in contract.lineage), model_card)
    (folder / CARD).write_text(card(contract), "utf-8")


def model_card(contract: Contract) -> str:
    """Markdown. Every number in it comes from the contract."""
    recipe, on = contract.lineage["recipe"], contract.quality["on"]
    low_m, high_m = contract.gsd_m
    learnt = f" and from the soft labels of {recipe['teacher']}" if recipe["teacher"] else ""
    begun = f"begun with the weights of {recipe['start']}" if recipe["start"] else "trained from scratch"
    others = ", no weights or images of others" if recipe["train"]["seeds"] and not recipe["start"] else ""
    return f"""# {contract.name}

{_paragraph(f"The {contract.tier} tier for {_data(recipe)}. {_licence(recipe)}")}

- Network: {_words(contract.architecture)}; {begun}{others}.
- Input: {", ".join(band.name for band in contract.bands)}, {contract.dtype}, {low_m:g} to {high_m:g} m a pixel.
- Learnt from {_ground(recipe["train"])}{learnt}, {contract.lineage["steps"]} steps of {recipe["batch"]} crops of
  {recipe["crop_px"]} px. The whole recipe is in `item.json`, under `batchseg:lineage`.
- A tile needs {contract.halo_px} px of ground around its core; its side is a multiple of {contract.stride_px} px.

## How well it does

Intersection over union on {_ground(on)}, never trained on, in tiles as in a run:

{_iou_table(contract.quality)}

## Where it ends

{_paragraph(_limits(recipe))}
"""


def _data(recipe: dict[str, Any]) -> str:
    of = "scenes of `batchseg.synth`" if recipe["train"]["seeds"] else "ground like that which it learnt from"
    return recipe.get("data") or of


def _licence(recipe: dict[str, Any]) -> str:
    licence = recipe.get("licence")
    return f"Licence of the weights: {licence}." if licence else "Its licence was not named."


def _limits(recipe: dict[str, Any]) -> str:
    """What is known of every model, where its maker said nothing."""
    return recipe.get("limits") or (_SYNTHETIC if recipe["train"]["seeds"] else _REAL)


_SYNTHETIC = """\
It knows synthetic ground and nothing else. It shows how the engine works and what two tiers are worth; it is of no
use on real images, and these numbers say nothing about any."""
_REAL = """\
Its maker has not said. It knows ground, light and pixels like those that it learnt from; the table says how it does
on scenes that it never saw, and nothing about others."""


def quantized_card(contract: Contract) -> str:
    """Of a bundle that was made smaller: what that cost. All else is as its original's card says."""
    quality, original = contract.quality, contract.lineage["quantized_from"]
    judged = quality["judged_on"]
    recipe = _first_recipe(contract)
    kind = contract.architecture.get("quantized") or next(iter(contract.numerics.values())).precision
    return f"""# {contract.name}

{_paragraph(f"{original} in {kind}, for the {contract.tier} tier.{_from_recipe(recipe)}")}

- Judged on {judged["tiles"]} tiles of {judged["on"]}, others than those that calibrated it.
- {quality["agreement_with_original"]:.2%} of their labels are those of float32.
- Where it was learnt from is in `item.json`, under `batchseg:lineage`.
{_iou_after(quality)}
## Where it ends

{_paragraph(_limits(recipe) if recipe else f"Where {original} ends.")}
"""


def adjusted_card(contract: Contract) -> str:
    """Of a bundle that a few labels brought to other ground. All else is as its original's card says."""
    quality, original = contract.quality, contract.lineage["adjusted_from"]
    judged, recipe = quality["judged_on"], _first_recipe(contract)
    limits = recipe.get("limits") or ""  # None where its maker said nothing
    return f"""# {contract.name}

{_paragraph(f"{original}, adjusted to {judged['on']}, for the {contract.tier} tier.{_from_recipe(recipe)}")}

- Its scores are mixed anew, as {judged["pixels"]} labelled pixels in {judged["tiles"]} tiles of {judged["on"]} told.
  Nothing else differs from the original.
- The mixture, and what {original} learnt from, are in `item.json`, under `batchseg:lineage`.

## How well it does

Intersection over union on those pixels, where they have told nothing: each half of their places is judged with what the
other half told. It knows no more of other scenes than {original} does.

{_iou_table(quality)}
| mean of the original | {quality["miou_of_original"]:.3f} |

## Where it ends

{_paragraph(f"It suits {judged['on']} and ground like it, and ends where {original} does. {limits}")}
"""


def _first_recipe(contract: Contract) -> dict[str, Any]:
    """Of the training, however often its bundle has been changed since; nothing for a model of others."""
    lineage = contract.lineage
    while "original" in lineage:
        lineage = lineage["original"]
    recipe: dict[str, Any] = lineage.get("recipe", {})
    return recipe


def _from_recipe(recipe: dict[str, Any]) -> str:
    return f" It is for {_data(recipe)}. {_licence(recipe)}" if recipe else ""


def _iou_table(quality: dict[str, Any]) -> str:
    return f"""| class | IoU |
|---|---|
{chr(10).join(f"| {name} | {value:.3f} |" for name, value in quality["iou"].items())}
| **mean** | **{quality["miou"]:.3f}** |"""


def _iou_after(quality: dict[str, Any]) -> str:
    """Nothing without labels."""
    if "iou" not in quality:
        return ""
    return f"""
## How well it does

Intersection over union on those tiles. What it calibrates on its original may have learnt from: the original's card
says what to expect elsewhere.

{_iou_table(quality)}
| mean of the original in float32 | {quality["miou_of_original"]:.3f} |
"""


def _paragraph(text: str) -> str:
    return "\n".join(textwrap.fill(line, 118) for line in text.splitlines())


def _words(architecture: dict[str, Any]) -> str:
    return ", ".join(f"{key} {value}" if key != "kind" else str(value) for key, value in architecture.items())


def _ground(spec: dict[str, Any]) -> str:
    if spec["seeds"]:
        first, after = spec["seeds"]
        return f"seeds {first} to {after - 1}, a window of {spec['window_px']} px of each"
    part = "" if spec["windows"] is None else f", {spec['windows']} windows of {spec['window_px']} px"
    labelled = _images(raster for raster in spec["rasters"] if raster["labels"])
    unlabelled = _images(raster for raster in spec["rasters"] if not raster["labels"])
    return "; ".join(filter(None, (labelled, unlabelled and f"{unlabelled} without labels"))) + part


def _images(rasters: Iterable[dict[str, Any]]) -> str:
    return ", ".join(sorted(raster["image"].rsplit("/", 1)[-1] for raster in rasters))
