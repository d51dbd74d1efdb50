"""Tuning a bundle for a kind of device: every way to run it is measured, and the fastest that agrees is kept.

A candidate agrees if nearly all of its labels are those of float32 in the reference backend. The winner becomes the
bundle's numerics for this kind of device. Runs obey them, because other numerics would change the last bits.
"""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from batchseg.adapt.candidates import Candidate, choose_fastest, measure_candidates
from batchseg.adapt.samples import check_num_tiles, make_raster_recipe, sample_tiles
from batchseg.adapt.trial import make_synthetic_tiles
from batchseg.atomic import replace_file
from batchseg.egress import format_json, redact_errors, write_text
from batchseg.errors import BundleError
from batchseg.model.bundle import ITEM, Bundle, open_bundle
from batchseg.model.contract import Numerics
from batchseg.model.device import Device, choose_device
from batchseg.recipe.recipe import Leave
from batchseg.remote import is_remote
from batchseg.schema import plain
from batchseg.tiers import DeviceKind


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuning:
    """A tuned bundle, and the numerics that were tried."""

    bundle: Bundle
    """The bundle with the best numerics. They stand in its folder too, unless this was a dry run."""
    device: DeviceKind
    candidates: tuple[Candidate, ...]
    best: Numerics


@redact_errors
def tune_bundle(
    ref: str,
    *,
    device: Device = "auto",
    on: str | None = None,
    tiles: int = 4,
    threads: int | None = None,
    min_agreement: float = 0.99,
    dry_run: bool = False,
    bands: Sequence[int | str] | None = None,
    scale: tuple[float, float] | None = None,
    accept: Sequence[Leave] = (),
    show: Callable[[Candidate], None] | None = None,
) -> Tuning:
    """Measure every way to run a bundle on this machine, and write the best one into it.

    Args:
        ref: The folder of the bundle. With `dry_run`, also `zoo:NAME` or a URL.
        device: The device to tune for.
        on: A raster whose tiles are compared; by default synthetic tiles are.
        tiles: Number of tiles that are compared.
        threads: CPU threads of a worker; by default all, or one for a GPU.
        min_agreement: Share of labels that must be those of float32.
        dry_run: Whether to leave the bundle as it is.
        bands: Bands of the raster in the model's order, by index or name; by default they are found by name.
        scale: Raw range of the raster that the bundle's range stands for.
        accept: Parts of the bundle's contract that are knowingly ignored, as in a recipe.
        show: Called with each candidate as soon as it is measured.

    Returns:
        All candidates, the best one, and the bundle with it.

    Raises:
        BundleError: The bundle cannot be run here, no candidate agrees, or the bundle cannot be changed.
        BatchsegError: The raster or the number of tiles cannot be used.

    Example:
        >>> from batchseg import tune_bundle
        >>> tuning = tune_bundle("zoo:synthetic-bulk", device="cpu", tiles=1, dry_run=True)
        >>> tuning.best in [candidate.numerics for candidate in tuning.candidates]
        True
    """
    check_num_tiles(tiles, least=1)
    bundle, kind = open_bundle(ref), choose_device(device)
    if not dry_run:
        _check_own(ref, bundle)
    if on is None:
        x_NBHW = make_synthetic_tiles(bundle, tiles, bundle.contract.default_tile_px)
    else:
        x_NBHW = sample_tiles(
            bundle, make_raster_recipe(ref, on, bands=bands, scale=scale, accept=accept), tiles
        ).x_NBHW
    threads = threads or (len(os.sched_getaffinity(0)) if kind == "cpu" else 1)
    candidates = measure_candidates(bundle, kind, x_NBHW, threads=threads, show=show)
    best = choose_fastest(candidates, min_agreement=min_agreement)
    if not dry_run:
        write_numerics(bundle, kind, best)
    contract = replace(bundle.contract, numerics=bundle.contract.numerics | {kind: best})
    return Tuning(bundle=replace(bundle, contract=contract), device=kind, candidates=tuple(candidates), best=best)


def _check_own(ref: str, bundle: Bundle) -> None:
    """A name or a URL must mean the same bundle on all machines, so the local copy behind it may not change."""
    if is_remote(ref) or ref.startswith("zoo:"):
        folder, own = shlex.quote(str(bundle.folder)), shlex.quote(f"my-{bundle.folder.name}")
        raise BundleError(
            "tuning changes the bundle, and others use this one too",
            where=ref,
            expected="a folder",
            todo=f"copy it first: `cp -r {folder} {own}`, then tune {own}; --dry-run measures and changes nothing",
        )


def write_numerics(bundle: Bundle, device: DeviceKind, numerics: Numerics) -> None:
    """Write numerics into the item, in one step. The rest of the item stays as it is."""
    path = bundle.folder / ITEM
    item: Any = json.loads(path.read_text("utf-8"))
    item["properties"]["batchseg:numerics"][device] = plain(numerics)
    if device == "cuda":
        item["properties"]["mlm:accelerator"] = "cuda"
    try:
        with replace_file(path) as unfinished:
            write_text(unfinished, format_json(item, indent=1) + "\n")
    except OSError as error:
        todo = "copy the bundle to a folder of your own and tune it there"
        raise BundleError("the bundle cannot be changed", where=str(path), got=str(error), todo=todo) from error
