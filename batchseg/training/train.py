"""Training and distillation: from a training recipe to a bundle. Seeded, and resumable from the last checkpoint."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save

from batchseg.egress import redact_errors
from batchseg.errors import RecipeError, StoppedError
from batchseg.model.bundle import Bundle, open_bundle, write_bundle
from batchseg.model.card import write_card
from batchseg.model.device import Device, check_device, choose_device
from batchseg.model.lineage import TrainedLineage
from batchseg.model.publish import read_clock
from batchseg.model.quality import TrainedQuality
from batchseg.tiers import DeviceKind
from batchseg.training.bundle_contract import make_contract
from batchseg.training.bundle_folder import TRAINING, check_bundle_files, check_bundle_folder, report_full_disk
from batchseg.training.checkpoint import load_best, restore_checkpoint
from batchseg.training.checks import check_train_recipe, load_train_recipe
from batchseg.training.crops import CropSampler, SoftLabels
from batchseg.training.curves import open_curves
from batchseg.training.ground import TrainingGround
from batchseg.training.loop import ShouldStop, ShowStep, list_figures, run_steps
from batchseg.training.provenance import is_finished, make_public_ground, make_public_recipe, read_commit
from batchseg.training.sources import Sources, open_sources
from batchseg.training.state import TrainingState, start_training
from batchseg.training.teacher import make_soft_labels
from batchseg.training.train_recipe import TrainRecipe
from batchseg.training.validation import judge, measure_confusion


@redact_errors
def train(
    recipe: TrainRecipe | str | Path,
    folder: str | Path,
    *,
    device: Device = "auto",
    show: ShowStep | None = None,
    should_stop: ShouldStop | None = None,
) -> Bundle:
    """Train a bundle, and measure it on scenes that it has never seen.

        from batchseg import train

        bundle = train("configs/train/synthetic-heavy.yaml", "out/my-bundle")
        print(bundle.contract.name)

    After an interruption, the same call continues from the last checkpoint. If the bundle is already finished, it is
    left unchanged.

    Args:
        recipe: A training recipe, or the path of a file with one.
        folder: Folder of the bundle; it is made if it does not exist. Checkpoint and curves lie in its subfolder
            `training`.
        device: "cpu", "cuda", or "auto" for a GPU where there is one.
        show: Called after each step with the number of finished steps, the number of all steps, and figures of the
            step by name. A teacher's windows are counted in the same way, before the first step.
        should_stop: Called after each step and each window of a teacher. If it returns True, the training writes a
            checkpoint and ends with a StoppedError.

    Returns:
        The bundle. Its `contract.quality` has the IoU on the `validate` scenes of the recipe.

    Raises:
        RecipeError: The recipe contradicts itself or its rasters, or the loss diverged.
        SceneError: A raster or its labels cannot be read.
        BundleError: A bundle that the recipe names does not fit, there is no GPU, or the folder cannot be written or
            holds a bundle of another recipe.
        StoppedError: `should_stop` returned True. The same call continues the training.
    """
    recipe = _load(recipe)
    folder = Path(folder)
    check_train_recipe(recipe)
    check_bundle_folder(folder)
    check_bundle_files(folder, recipe)
    device_kind = choose_device(device)
    check_device(device_kind)
    with report_full_disk(folder):
        _make_bundle(recipe, folder, device_kind, show or _show_nothing, should_stop or _never_stop)
        return open_bundle(str(folder))


@redact_errors
def distill(
    recipe: TrainRecipe | str | Path,
    folder: str | Path,
    *,
    device: Device = "auto",
    show: ShowStep | None = None,
    should_stop: ShouldStop | None = None,
) -> Bundle:
    """Train a bundle from a teacher's soft labels, on rasters with labels and without.

        from batchseg import distill

        bundle = distill("configs/train/synthetic-bulk.yaml", "out/my-bundle")
        print(bundle.contract.name)

    This is `train` for a recipe that names a `teacher`. The teacher's logits are kept in the subfolder `training`, so
    it runs once.

    Args:
        recipe: A training recipe with a `teacher`, or the path of a file with one.
        folder: Folder of the bundle, as for `train`.
        device: "cpu", "cuda", or "auto" for a GPU where there is one.
        show: Called after each step, as for `train`.
        should_stop: Called after each step, as for `train`.

    Returns:
        The bundle, as from `train`.

    Raises:
        RecipeError: The recipe names no teacher, or any reason of `train`.
        SceneError: A raster or its labels cannot be read.
        BundleError: As for `train`.
        StoppedError: As for `train`.
    """
    loaded = _load(recipe)
    if loaded.teacher is None:
        raise RecipeError(
            "a recipe for distillation must name a teacher",
            where=loaded.name if isinstance(recipe, TrainRecipe) else str(recipe),
            todo="add a line `teacher: …`, a bundle, or use `train`",
        )
    return train(loaded, folder, device=device, show=show, should_stop=should_stop)


def _load(recipe: TrainRecipe | str | Path) -> TrainRecipe:
    return recipe if isinstance(recipe, TrainRecipe) else load_train_recipe(recipe)


def _show_nothing(_done: int, _total: int, _figures: dict[str, float]) -> None: ...


def _never_stop() -> bool:
    return False


def _make_bundle(
    recipe: TrainRecipe, folder: Path, device: DeviceKind, show: ShowStep, should_stop: ShouldStop
) -> None:
    torch.set_num_threads(recipe.threads)
    torch.manual_seed(recipe.seed)
    sources = open_sources(recipe)
    lineage = TrainedLineage(
        recipe=make_public_recipe(recipe),
        data=sources.ground_digests,
        commit=read_commit(),
        **sources.bundle_digests,
        steps=recipe.steps,
    )
    if is_finished(folder, lineage):
        return
    state, beside = start_training(recipe, sources, device), folder / TRAINING
    restore_checkpoint(state, beside / "checkpoint")
    crops = _make_sampler(recipe, sources)
    if sources.teacher is not None:
        crops.soft = _ask_teacher(sources.teacher, sources.train_ground, beside / "teacher", device, show, should_stop)
    for _ in range(state.step):
        crops.draw()  # so that the next crops are those of a training without an interruption
    class_names = () if sources.watch_ground is None else sources.watch_ground.names
    with open_curves(beside, state.step, list_figures(recipe), class_names) as curves:
        run_steps(state, crops, sources.watch_ground, beside / "checkpoint", curves, show, should_stop)
    if sources.watch_ground is not None:
        load_best(state, beside / "checkpoint")
    lineage = replace(lineage, steps=state.best_step or state.step)
    ground = sources.validation_ground
    confusion = measure_confusion(state.graph, ground, halo_px=recipe.halo_px, device=device)
    _write(state, folder, judge(confusion, ground.names, make_public_ground(recipe.validate)), lineage)


def _make_sampler(recipe: TrainRecipe, sources: Sources) -> CropSampler:
    return CropSampler(
        sources.train_ground,
        recipe.crop_px,
        recipe.batch,
        recipe.balanced_share,
        np.random.default_rng(recipe.seed),
        recipe.input_range,
        light=recipe.light,
        zoom=recipe.zoom,
        mix=recipe.mix,
        shift_px=recipe.shift_px,
    )


def _ask_teacher(
    teacher: Bundle, ground: TrainingGround, logits: Path, device: DeviceKind, show: ShowStep, should_stop: ShouldStop
) -> SoftLabels:
    def show_window(done: int, total: int) -> None:
        show(done, total, {"teacher": 1.0})
        if should_stop() and done < total:
            raise StoppedError(
                f"the training was stopped after window {done} of {total} of its teacher",
                where=str(logits.parent.parent),
                todo="the same command continues from there",
            )

    return make_soft_labels(teacher, ground, logits, device, show=show_window)


def _write(state: TrainingState, folder: Path, quality: TrainedQuality, lineage: TrainedLineage) -> None:
    recipe, graph = state.recipe, state.graph
    # Normalisation statistics stay exact; everything else is stored in half the bytes.
    weights = {
        name: (tensor.half() if tensor.is_floating_point() and "running" not in name else tensor).cpu().contiguous()
        for name, tensor in graph.network.state_dict().items()
    }
    contract = make_contract(
        recipe,
        mean=tuple(graph.mean.flatten().tolist()),
        std=tuple(graph.std.flatten().tolist()),
        quality=quality,
        lineage=lineage,
    )
    write_card(folder, contract)
    write_bundle(folder, contract, save(weights), created_at=read_clock())
