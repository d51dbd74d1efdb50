"""From a recipe to a job: every file opened, every default filled in, every contract checked. Nothing is written.

recipe ─ open_bundles ──────────────────────────> bundles
─ read_headers ─ read_scene_inputs ──────> inputs of each scene
bundles, inputs ─ make_content ─ compute_fingerprint ─> fingerprint
bundles, inputs, fingerprint ───────────────────> Job
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from batchseg.egress import list_texts
from batchseg.engine.route import NEVER, SCORE_TOP, Doubt
from batchseg.errors import BundleError, RecipeError
from batchseg.known_secrets import learn_credentials
from batchseg.layers.confidence import CERTAIN
from batchseg.layers.labels import make_labels
from batchseg.model.bundle import Bundle, open_bundle
from batchseg.model.fit import find_halos
from batchseg.recipe.heavy_tiles import DEFAULT_ABOVE, DEFAULT_SURE, DEFAULT_SURE_OF_TWO, Budget, Uncertain
from batchseg.recipe.recipe import Recipe
from batchseg.resolve.fingerprint import compute_fingerprint, make_content
from batchseg.resolve.job import Job, ModelJob
from batchseg.resolve.scene_inputs import make_scene_job, open_references, read_scene_inputs
from batchseg.resolve.scenes import read_headers
from batchseg.schema import JsonObject, plain
from batchseg.tiers import Tier


@dataclass(frozen=True, slots=True)
class Resolved:
    """A recipe as a run uses it."""

    job: Job
    bundles: dict[Tier, Bundle]
    content: JsonObject
    """Everything that output bytes depend on; the fingerprint is its hash."""
    budget: Budget | None = None
    """Budget that a pilot has yet to turn into the threshold of the route; None: the threshold is known."""

    @property
    def fingerprint(self) -> str:
        return self.job.fingerprint


def resolve(recipe: Recipe) -> Resolved:
    """Open and check everything that a recipe names, and make the job that workers do.

    Args:
        recipe: A recipe, as the user wrote it.

    Returns:
        The job, the opened bundles, and the content of the job's fingerprint.

    Raises:
        InputError: A bundle, a scene, polygons or reference labels are missing, damaged, or do not fit each other.
    """
    learn_credentials(*list_texts(plain(recipe)))
    bundles = _open_bundles(recipe)
    classes = next(iter(bundles.values())).contract.classes
    headers = read_headers(recipe.scenes, recipe.trust)
    references = open_references(recipe, headers, classes)
    halos_px = find_halos(recipe, bundles)
    inputs = [
        read_scene_inputs(recipe, header, reference, bundles)
        for header, reference in zip(headers, references, strict=True)
    ]
    doubt = _make_doubt(recipe, num_classes=len(classes))
    content = make_content(recipe, bundles, halos_px, inputs, doubt)
    job = Job(
        fingerprint=compute_fingerprint(content),
        core_px=recipe.tiling.core,
        chunk_px=recipe.tiling.chunk,
        models={tier: _make_model_job(bundle, halos_px[tier]) for tier, bundle in bundles.items()},
        classes=classes,
        nodata=make_labels(classes).nodata,
        scenes={scene.header.name: make_scene_job(recipe, scene, bundles) for scene in inputs},
        doubt=doubt,
        audit_share=recipe.route.audit,
        fade_px=recipe.route.fade,
        trust=recipe.trust,
    )
    return Resolved(job, bundles, content, recipe.budget)


def _open_bundles(recipe: Recipe) -> dict[Tier, Bundle]:
    refs: dict[Tier, str | None] = {"bulk": recipe.models.bulk, "heavy": recipe.models.heavy}
    bundles = {tier: open_bundle(ref) for tier, ref in refs.items() if ref is not None}
    if len(bundles) == 2:
        _check_same_classes(bundles["bulk"], bundles["heavy"])
    return bundles


def _check_same_classes(bulk: Bundle, heavy: Bundle) -> None:
    names = [[f"{info.id} {info.name}" for info in bundle.contract.classes] for bundle in (bulk, heavy)]
    if names[0] != names[1]:
        raise BundleError(
            "the two tiers have different classes",
            where="models",
            expected=f"{bulk.contract.name}: {', '.join(names[0])}",
            got=f"{heavy.contract.name}: {', '.join(names[1])}",
            todo="take two bundles with one class list, in the same order",
        )


def _make_model_job(bundle: Bundle, halo_px: int) -> ModelJob:
    return ModelJob(
        ref=str(bundle.folder.resolve()),
        digest=bundle.digest,
        halo_px=halo_px,
        devices=tuple(sorted(bundle.contract.numerics)),
    )


def _make_doubt(recipe: Recipe, *, num_classes: int) -> Doubt | None:
    """Make the integers that a recipe's uncertainty is judged by; None: tiles are routed by place alone.

    Raises:
        RecipeError: No pixel of a model with so many classes can be uncertain.
    """
    uncertain = recipe.route.uncertain
    if uncertain is None:
        return None
    above = DEFAULT_ABOVE if uncertain.above is None else uncertain.above
    is_unknown = recipe.budget is not None  # until a pilot has run
    return Doubt(
        statistic=uncertain.statistic,
        sure_confidence=math.ceil(_choose_sure(uncertain, num_classes) * CERTAIN),
        threshold=NEVER if is_unknown else math.ceil(above * SCORE_TOP),
    )


def _choose_sure(uncertain: Uncertain, num_classes: int) -> float:
    """Choose the least confidence of a certain pixel. The best of K classes has a confidence of 1 / K at least."""
    is_share = uncertain.statistic == "share"
    default = DEFAULT_SURE_OF_TWO if is_share and num_classes <= 2 else DEFAULT_SURE
    sure = default if uncertain.sure is None else uncertain.sure
    if is_share and sure <= 1 / num_classes:
        raise RecipeError(
            f"a model with {num_classes} classes is never less confident than {1 / num_classes:.3g}, so no tile could "
            "be uncertain",
            where="uncertain: sure",
            expected=f"above {1 / num_classes:.3g}",
            got=f"{sure:g}",
            todo=f"set `sure: {default}`, or leave it out" if num_classes > 1 else "leave out `uncertain`",
        )
    return sure
