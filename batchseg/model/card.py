"""The model card of a bundle: what it is, what it was made from, how well it does, and where it ends."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path

from batchseg.atomic import replace_file
from batchseg.egress import write_text
from batchseg.errors import BundleError
from batchseg.model.architecture import Architecture, OnnxSpec
from batchseg.model.contract import Contract
from batchseg.model.lineage import AdjustedLineage, QuantizedLineage, TrainedLineage, find_training
from batchseg.model.quality import AdjustedQuality, GroundRecord, QuantizedQuality, RasterRecord, TrainedQuality
from batchseg.redact import redact
from batchseg.schema import build, plain

CARD = "README.md"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingFacts:
    """The keys of a training recipe that a card speaks of. Recipes of earlier versions lack the last three."""

    train: GroundRecord
    start: str | None
    teacher: str | None
    batch: int
    crop_px: int
    data: str | None = None
    licence: str | None = None
    limits: str | None = None

    @staticmethod
    def read(lineage: TrainedLineage) -> TrainingFacts:
        known = {field.name for field in fields(TrainingFacts)}
        selected = {key: value for key, value in lineage.recipe.items() if key in known}
        return build(TrainingFacts, selected, where="lineage: recipe")

    @property
    def purpose(self) -> str:
        if self.data:
            return self.data
        return "scenes of `batchseg.synth`" if self.train.seeds else "ground like the ground that it was trained on"

    @property
    def licence_sentence(self) -> str:
        return f"Licence of the weights: {self.licence}." if self.licence else "Its licence was not named."

    @property
    def limits_paragraph(self) -> str:
        """The limits, or those of every model if its maker named none."""
        return self.limits or (_SYNTHETIC if self.train.seeds else _REAL)


_SYNTHETIC = """\
It knows synthetic ground and nothing else. It shows how the engine works and what two tiers are worth; it is of no
use on real images, and these numbers say nothing about any."""
_REAL = """\
Its maker has named no limits. It knows ground, light and pixels like those that it was trained on. The table says how
it does on scenes that it never saw, and nothing about other ground."""


def write_card(folder: Path, contract: Contract) -> None:
    with replace_file(folder / CARD) as unfinished:
        write_text(unfinished, make_card(contract))


def make_card(contract: Contract) -> str:
    """The card as Markdown. Every number in it comes from the contract."""
    match contract.lineage, contract.quality:
        case TrainedLineage() as lineage, TrainedQuality() as quality:
            return _make_trained_card(contract, lineage, quality)
        case QuantizedLineage() as lineage, QuantizedQuality() as quality:
            return _make_quantized_card(contract, lineage, quality)
        case AdjustedLineage() as lineage, AdjustedQuality() as quality:
            return _make_adjusted_card(contract, lineage, quality)
    raise BundleError(
        "there is no card for this bundle",
        where=contract.name,
        expected="a lineage and a quality of one kind: trained, quantised or adjusted",
        got=f"{type(contract.lineage).__name__} and {type(contract.quality).__name__}",
    )


def _make_trained_card(contract: Contract, lineage: TrainedLineage, quality: TrainedQuality) -> str:
    facts = TrainingFacts.read(lineage)
    low_m, high_m = contract.gsd_m
    teacher = f" and from the soft labels of {facts.teacher}" if facts.teacher else ""
    start = f"started from the weights of {facts.start}" if facts.start else "trained from scratch"
    others = ", no weights or images of others" if facts.train.seeds and not facts.start else ""
    return f"""# {contract.name}

{_wrap(f"The {contract.tier} tier for {facts.purpose}. {facts.licence_sentence}")}

- Network: {_describe_network(contract.architecture)}; {start}{others}.
- Input: {", ".join(band.name for band in contract.bands)}, {contract.dtype}, {low_m:g} to {high_m:g} m per pixel.
- Trained on {describe_ground(facts.train)}{teacher}, in {lineage.steps} steps of {facts.batch} crops of
  {facts.crop_px} px. The whole recipe is in `item.json`, under `batchseg:lineage`.
- A tile needs {contract.halo_px} px of ground around its core; its side is a multiple of {contract.stride_px} px.

## How well it does

Intersection over union on {describe_ground(quality.on)}, never trained on, in tiles as in a run:

{_make_quality_table(quality)}

## Where it ends

{_wrap(facts.limits_paragraph)}
"""


def _make_quantized_card(contract: Contract, lineage: QuantizedLineage, quality: QuantizedQuality) -> str:
    """State the cost of quantisation. The rest is as the card of the original says."""
    original, judged, facts = lineage.quantized_from, quality.judged_on, _find_facts(contract)
    architecture = contract.architecture
    quantized = architecture.quantized if isinstance(architecture, OnnxSpec) else None
    precision = quantized or next(iter(contract.numerics.values())).precision
    return f"""# {contract.name}

{_wrap(f"{original} in {precision}, for the {contract.tier} tier.{_describe_training(facts)}")}

- Judged on {judged.tiles} tiles of {judged.on}, which did not take part in the calibration.
- {quality.agreement_with_original:.2%} of their labels are those of the original in float32.
- The lineage is in `item.json`, under `batchseg:lineage`.
{_make_iou_section(quality)}
## Where it ends

{_wrap(facts.limits_paragraph if facts else f"Where {original} ends.")}
"""


def _make_adjusted_card(contract: Contract, lineage: AdjustedLineage, quality: AdjustedQuality) -> str:
    """State the adjustment of the original to other ground. The rest is as the card of the original says."""
    original, judged, facts = lineage.adjusted_from, quality.judged_on, _find_facts(contract)
    limits = (facts and facts.limits) or ""
    return f"""# {contract.name}

{_wrap(f"{original}, adjusted to {judged.on}, for the {contract.tier} tier.{_describe_training(facts)}")}

- Its scores are mixed anew, fitted to {judged.pixels} labelled pixels in {judged.tiles} tiles of {judged.on}.
  Nothing else differs from the original.
- The mixture and the lineage of {original} are in `item.json`, under `batchseg:lineage`.

## How well it does

Intersection over union on those pixels, by cross-validation: each half of the labelled places was judged with a mixture
that was fitted to the other half. The bundle knows no more of other scenes than {original} does.

{_make_iou_table(quality.iou, quality.miou)}
| mean of the original | {quality.miou_of_original:.3f} |

## Where it ends

{_wrap(f"It suits {judged.on} and ground like it, and ends where {original} does. {limits}")}
"""


def _find_facts(contract: Contract) -> TrainingFacts | None:
    training = find_training(contract.lineage)
    return TrainingFacts.read(training) if training else None


def _describe_training(facts: TrainingFacts | None) -> str:
    return f" It is for {facts.purpose}. {facts.licence_sentence}" if facts else ""


def _make_quality_table(quality: TrainedQuality) -> str:
    """The table of IoU, with recall and precision where the bundle has them."""
    recall, precision = quality.recall, quality.precision
    if recall is None or precision is None:
        return _make_iou_table(quality.iou, quality.miou)
    rows = (
        f"| {_escape(name)} | {value:.3f} | {_format_score(recall[name])} | {_format_score(precision[name])} |"
        for name, value in quality.iou.items()
    )
    return f"""| class | IoU | recall | precision |
|---|---|---|---|
{chr(10).join(rows)}
| **mean** | **{quality.miou:.3f}** | | |"""


def _format_score(score: float | None) -> str:
    return "none" if score is None else f"{score:.3f}"


def _make_iou_table(iou: dict[str, float], miou: float) -> str:
    return f"""| class | IoU |
|---|---|
{chr(10).join(f"| {_escape(name)} | {value:.3f} |" for name, value in iou.items())}
| **mean** | **{miou:.3f}** |"""


def _escape(name: str) -> str:
    """A cell of a table. A bar would end it."""
    return name.replace("\\", "\\\\").replace("|", "\\|")


def _make_iou_section(quality: QuantizedQuality) -> str:
    """Empty without labels."""
    if quality.iou is None or quality.miou is None:
        return ""
    return f"""
## How well it does

Intersection over union on those tiles. The original may have been trained on this scene; its card says what to expect
elsewhere.

{_make_iou_table(quality.iou, quality.miou)}
| mean of the original in float32 | {quality.miou_of_original:.3f} |
"""


def _wrap(text: str) -> str:
    # A credential that a new line cuts is not recognised any more.
    return "\n".join(textwrap.fill(line, 118) for line in redact(text).splitlines())


def _describe_network(architecture: Architecture) -> str:
    words = plain(architecture)
    return ", ".join(f"{key} {value}" if key != "kind" else str(value) for key, value in words.items())


def describe_ground(ground: GroundRecord) -> str:
    """Describe the scenes of a training or of a measurement."""
    if ground.seeds:
        first, after = ground.seeds
        return f"seeds {first} to {after - 1}, a window of {ground.window_px} px of each"
    part = "" if ground.windows is None else f", {ground.windows} windows of {ground.window_px} px"
    labelled = _join_names(raster for raster in ground.rasters if raster.labels)
    unlabelled = _join_names(raster for raster in ground.rasters if not raster.labels)
    return "; ".join(filter(None, (labelled, unlabelled and f"{unlabelled} without labels"))) + part


def _join_names(rasters: Iterable[RasterRecord]) -> str:
    return ", ".join(sorted(raster.image.rsplit("/", 1)[-1] for raster in rasters))
