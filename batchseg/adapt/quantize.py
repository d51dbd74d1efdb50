"""Quantising a bundle: smaller, faster weights, which are refused if they lose more than is allowed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from batchseg.adapt.candidates import choose_fastest, measure_candidates
from batchseg.adapt.quantized_weights import QuantizedType, quantize_weights
from batchseg.adapt.refusal import attach_measured
from batchseg.adapt.samples import Samples, check_num_tiles, make_raster_recipe, make_scene_name, sample_tiles
from batchseg.adapt.trial import Trial, run_trial
from batchseg.egress import redact_errors
from batchseg.errors import BundleError, InputError
from batchseg.model.bundle import Bundle, open_bundle, write_bundle
from batchseg.model.card import write_card
from batchseg.model.contract import Contract, Numerics
from batchseg.model.device import choose_device
from batchseg.model.lineage import QuantizedLineage
from batchseg.model.publish import publish_folder, read_clock
from batchseg.model.quality import JudgedTiles, QuantizedQuality
from batchseg.recipe import LabelPolygons
from batchseg.recipe.recipe import Leave
from batchseg.score.confusion import mean_iou
from batchseg.score.gate import QualityChange, check_gate, measure_change

MIN_AGREEMENT = 0.99
"""Share of labels that every way to run an eight-bit graph must have in common with the first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantizationResult:
    """The gain and the cost of quantisation, on tiles that did not calibrate it."""

    class_names: tuple[str, ...]
    """Names of the classes, in the order of the change."""
    change: QualityChange
    exact_seconds_per_tile: float
    """Seconds of the original in float32."""
    seconds_per_tile: float
    numerics: Numerics
    """The numerics that the new bundle was judged with."""
    judged_tiles: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantization:
    """A quantised bundle, and what it gains and loses against the original."""

    bundle: Bundle
    """The quantised bundle."""
    result: QuantizationResult


@redact_errors
def quantize(
    bundle: str,
    folder: str | Path,
    *,
    calibrate: str,
    labels: str | LabelPolygons | None = None,
    to: QuantizedType = "int8",
    tiles: int = 32,
    max_loss_points: float = 0.5,
    max_class_loss_points: float = 2.0,
    bands: Sequence[int | str] | None = None,
    scale: tuple[float, float] | None = None,
    accept: Sequence[Leave] = (),
) -> Quantization:
    """Make a smaller, faster bundle, and refuse it if it loses more than is allowed.

    Args:
        bundle: `zoo:NAME`, a folder or a URL.
        folder: The folder of the quantised bundle. It must not exist yet.
        calibrate: A scene like those of your runs. Half of the tiles calibrate, the other half judge.
        labels: The scene's reference, to compare IoU. Without it, every label that changes counts as lost.
        to: int8 for CPUs; bfloat16 or float16 for GPUs.
        tiles: Number of tiles, spread evenly over the scene.
        max_loss_points: Percentage points of mean IoU that may be lost.
        max_class_loss_points: Percentage points of any class's IoU that may be lost.
        bands: Bands of the scene in the model's order, by index or name; by default they are found by name.
        scale: Raw range of the scene that the bundle's range stands for.
        accept: Parts of the bundle's contract that are knowingly ignored, as in a recipe.

    Returns:
        The quantised bundle, and what was gained and lost.

    Raises:
        RefusedBundleError: The new bundle loses more than is allowed.
        BatchsegError: The bundle, the scene or the labels cannot be used, or the folder cannot be written.

    Example:
        >>> from batchseg import quantize
        >>> quantization = quantize("zoo:aerial-bulk", "bulk-int8", calibrate="town.tif", labels="town_labels.tif")
        >>> print(f"{quantization.result.change.loss_points:.1f} points lost")
        0.2 points lost
    """
    folder = Path(folder)
    if to not in get_args(QuantizedType):
        types = ", ".join(get_args(QuantizedType))
        raise InputError(f"the type of the new weights must be one of {types}", where="to", got=to)
    check_num_tiles(tiles, least=2)
    with publish_folder(folder) as unfinished:
        original = open_bundle(bundle)
        recipe = make_raster_recipe(bundle, calibrate, labels=labels, bands=bands, scale=scale, accept=accept)
        samples = sample_tiles(original, recipe, tiles)
        calibrating, _ = split_alternately(samples.x_NBHW)
        contract, weights = quantize_weights(original, to, calibrating, folder.name)
        created_at = read_clock()
        write_bundle(unfinished, contract, weights, created_at=created_at)
        contract, result = _judge(original, open_bundle(str(unfinished)), samples)
        with attach_measured(result):
            check_gate(
                result.change, result.class_names, max_loss=max_loss_points, max_class_loss=max_class_loss_points
            )
        judged_on = JudgedTiles(on=make_scene_name(calibrate), tiles=result.judged_tiles)
        contract = _add_quality(contract, original.contract, result.change, judged_on)
        write_bundle(unfinished, contract, weights, created_at=created_at)
        write_card(unfinished, contract)
    return Quantization(bundle=open_bundle(str(folder)), result=result)


def _judge(original: Bundle, quantized: Bundle, samples: Samples) -> tuple[Contract, QuantizationResult]:
    """Compare the new bundle with the original in float32; the contract gets the numerics that were judged."""
    _, x_NBHW = split_alternately(samples.x_NBHW)
    before = run_trial(original, make_exact_numerics(original.contract), "cpu", x_NBHW)
    contract = quantized.contract
    if contract.is_onnx:
        contract = replace(contract, numerics={"cpu": _choose_numerics(quantized, x_NBHW)})
        after = run_trial(quantized, contract.numerics["cpu"], "cpu", x_NBHW)
    else:
        after = _run_halved(quantized, x_NBHW, threads=before.numerics.threads)
    reference_NHW = None if samples.reference_NHW is None else split_alternately(samples.reference_NHW)[1]
    _, judged_NHW = split_alternately(samples.judged_NHW)
    num_classes = len(contract.classes)
    change = measure_change(before.index_NHW, after.index_NHW, judged_NHW, reference_NHW, num_classes)
    return contract, QuantizationResult(
        class_names=tuple(c.name for c in contract.classes),
        change=change,
        exact_seconds_per_tile=before.seconds_per_tile,
        seconds_per_tile=after.seconds_per_tile,
        numerics=after.numerics,
        judged_tiles=len(x_NBHW),
    )


def _choose_numerics(quantized: Bundle, x_NBHW: NDArray[Any]) -> Numerics:
    threads = next(iter(quantized.contract.numerics.values())).threads
    return choose_fastest(measure_candidates(quantized, "cpu", x_NBHW, threads=threads), min_agreement=MIN_AGREEMENT)


def _run_halved(quantized: Bundle, x_NBHW: NDArray[Any], *, threads: int) -> Trial:
    """Without a GPU, the CPU runs the same precision: it rounds weights and activations alike."""
    numerics = quantized.contract.numerics["cuda"]
    if choose_device("auto") == "cuda":
        return run_trial(quantized, numerics, "cuda", x_NBHW)
    return run_trial(quantized, replace(numerics, threads=threads), "cpu", x_NBHW)


def make_exact_numerics(contract: Contract) -> Numerics:
    """Numerics that compute in float32 on a CPU. A quantised bundle is compared with them."""
    threads = max(numerics.threads for numerics in contract.numerics.values())
    backend: Literal["openvino", "torch"] = "openvino" if contract.is_onnx else "torch"
    return Numerics(backend=backend, precision="float32", batch=1, threads=threads)


def split_alternately(x: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Split into what calibrates and what judges: never the same tiles."""
    if len(x) < 2:
        raise BundleError(
            "one tile cannot both calibrate and judge, and nothing was written",
            where="--calibrate",
            expected="2 tiles with data or more",
            got=str(len(x)),
            todo="give a larger scene, or more --tiles of a scene that has data in few places",
        )
    return np.ascontiguousarray(x[::2]), np.ascontiguousarray(x[1::2])


def _add_quality(contract: Contract, original: Contract, change: QualityChange, judged_on: JudgedTiles) -> Contract:
    """The quality is what was measured of this bundle, never that of the original."""
    quality = QuantizedQuality(agreement_with_original=round(change.agreement, 5), judged_on=judged_on)
    if change.before is not None and change.after is not None:
        iou = zip(contract.classes, change.after, strict=True)
        quality = replace(
            quality,
            iou={c.name: round(value, 4) for c, value in iou if value is not None},
            miou=round(mean_iou(change.after), 4),
            miou_of_original=round(mean_iou(change.before), 4),
        )
    lineage = QuantizedLineage(quantized_from=original.name, original=original.lineage)
    return replace(contract, quality=quality, lineage=lineage)
