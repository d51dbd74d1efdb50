"""Adjusting a bundle to new ground: from a few labels of a scene to a bundle whose scores are mixed anew."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from batchseg.adapt.mixture import Gain, LabelledScores, check_gain, collect_scores, cross_validate, fit_mixture
from batchseg.adapt.refusal import attach_measured
from batchseg.adapt.samples import Sample, Sampling, check_num_tiles, make_raster_recipe, make_scene_name, select_evenly
from batchseg.egress import redact_errors
from batchseg.errors import RecipeError
from batchseg.model.bundle import Bundle, open_bundle, write_bundle
from batchseg.model.card import write_card
from batchseg.model.contract import Contract
from batchseg.model.device import Device, choose_device
from batchseg.model.lineage import AdjustedLineage, MixingRecord
from batchseg.model.mixing import Mixture, mix_weights, open_scores
from batchseg.model.publish import publish_folder, read_clock
from batchseg.model.quality import AdjustedQuality, JudgedPixels
from batchseg.recipe import LabelPolygons
from batchseg.recipe.recipe import Leave
from batchseg.score.confusion import mean_iou
from batchseg.tiers import DeviceKind
from tiling.grid import Tile

Show = Callable[[int, int], None]
"""Called with the number of tiles that are done, and of all tiles."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelEvidence:
    """The evidence of the labels about the bundle and its mixture."""

    labelled_px: dict[str, int]
    """Labelled pixels that were used, per class."""
    unknown_px: int
    """Labelled pixels that were left out, because their code is not the id of any class."""
    tiles: int
    """Tiles whose labels were used."""
    labelled_tiles: int
    """Tiles that have labels."""
    gain: Gain
    """The gain on held-out labels, by cross-validation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Adjustment:
    """An adjusted bundle, and why it is better than the original on the new ground."""

    bundle: Bundle
    """The adjusted bundle."""
    evidence: LabelEvidence


@redact_errors
def adjust(
    bundle: str,
    folder: str | Path,
    *,
    on: str,
    labels: str | LabelPolygons,
    tiles: int = 1024,
    device: Device = "auto",
    bands: Sequence[int | str] | None = None,
    scale: tuple[float, float] | None = None,
    accept: Sequence[Leave] = (),
    show: Show | None = None,
) -> Adjustment:
    """Adjust a bundle to new ground with a few labelled pixels.

    The scores of the bundle are mixed anew, as suits the labels; the network stays as it is, and is as fast as before.

    Args:
        bundle: `zoo:NAME`, a folder or a URL.
        folder: The folder of the adjusted bundle. It must not exist yet.
        on: A scene of the new ground.
        labels: Labels of some of its pixels: points or polygons, or a raster on its grid with 255 or its nodata value
            at unlabelled pixels.
        tiles: The largest number of labelled tiles that are used; they are spread evenly over the scene.
        device: The device that computes the scores.
        bands: Bands of the scene in the model's order, by index or name; by default they are found by name.
        scale: Raw range of the scene that the bundle's range stands for.
        accept: Parts of the bundle's contract that are knowingly ignored, as in a recipe.
        show: Called after each tile, first while labels are looked for, then while scores are computed.

    Returns:
        The adjusted bundle, and the gain on held-out labels.

    Raises:
        RefusedBundleError: The adjusted bundle is not better on held-out labels with 95 % confidence.
        BatchsegError: The bundle, the scene or the labels cannot be used, or the folder cannot be written.

    Example:
        >>> from batchseg import adjust
        >>> adjustment = adjust("zoo:aerial-heavy", "town-heavy", on="town.tif", labels="points.gpkg")
        >>> print(f"at least {adjustment.evidence.gain.low_points:.1f} points better")
        at least 3.1 points better
    """
    folder, show = Path(folder), show or _show_nothing
    check_num_tiles(tiles, least=2)
    with publish_folder(folder) as unfinished:
        original = open_bundle(bundle)
        recipe = make_raster_recipe(bundle, on, labels=labels, bands=bands, scale=scale, accept=accept)
        sampling = Sampling.of(original, recipe)
        labelled_tiles = sampling.find_labelled_tiles(show)
        if not labelled_tiles:
            where = labels.polygons if isinstance(labels, LabelPolygons) else labels
            todo = "check that the labels lie on the scene"
            raise RecipeError("no pixel of the scene has a label", where=f"--labels: {where}", todo=todo)
        chosen_tiles = select_evenly(labelled_tiles, tiles)
        labelled, unknown_px, num_tiles = _score_labels(sampling, chosen_tiles, choose_device(device), show)
        names = [c.name for c in original.contract.classes]
        evidence = LabelEvidence(
            labelled_px=dict(zip(names, labelled.counts.tolist(), strict=True)),
            unknown_px=unknown_px,
            tiles=len(chosen_tiles),
            labelled_tiles=len(labelled_tiles),
            gain=cross_validate(labelled),
        )
        with attach_measured(evidence):
            check_gain(evidence.gain)
        mixture = fit_mixture(labelled)
        judged_on = JudgedPixels(on=make_scene_name(on), tiles=num_tiles, pixels=len(labelled.truth_P))
        contract = _make_contract(original.contract, folder.name, evidence.gain, mixture, judged_on)
        write_bundle(unfinished, contract, mix_weights(original, mixture), created_at=read_clock())
        write_card(unfinished, contract)
    return Adjustment(bundle=open_bundle(str(folder)), evidence=evidence)


def _show_nothing(_done: int, _total: int) -> None: ...


def _score_labels(
    sampling: Sampling, tiles: list[Tile], device: DeviceKind, show: Show
) -> tuple[LabelledScores, int, int]:
    """The scores at labelled pixels, the number of pixels with an unknown code, and of tiles that have data."""
    scores = open_scores(sampling.bundle, device)
    unknown_px: list[int] = []

    def read_samples() -> Iterator[Sample]:
        for done, tile in enumerate(tiles, start=1):
            for sample in sampling.read_tiles([tile]):
                unknown_px.append(sample.unknown_px)
                yield sample
            show(done, len(tiles))

    halo_px = sampling.bundle.contract.halo_px
    labelled = collect_scores(scores, read_samples(), num_tiles=len(tiles), halo_px=halo_px)
    return labelled, sum(unknown_px), len(unknown_px)


def _make_contract(original: Contract, name: str, gain: Gain, mixture: Mixture, judged_on: JudgedPixels) -> Contract:
    """The quality is that of cross-validation, never that of the original."""
    before, after = gain.change.before, gain.change.after
    assert before is not None
    assert after is not None
    names = [c.name for c in original.classes]
    quality = AdjustedQuality(
        iou={name: round(value, 4) for name, value in zip(names, after, strict=True) if value is not None},
        miou=round(mean_iou(after), 4),
        miou_of_original=round(mean_iou(before), 4),
        judged_on=judged_on,
    )
    record = MixingRecord(
        weights=tuple(tuple(row) for row in mixture.weights_KK.round(4).tolist()),
        offsets=tuple(mixture.offsets_K.round(4).tolist()),
    )
    lineage = AdjustedLineage(adjusted_from=original.name, mixing=record, original=original.lineage)
    return replace(original, name=name, quality=quality, lineage=lineage)
