"""Evaluations of a finished run, kept by name: evaluations/NAME.json, and the newest once more as evaluation.json."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import PurePosixPath
from urllib.parse import urlsplit

from batchseg.egress import encode_json
from batchseg.errors import DamagedError, RecipeError
from batchseg.json_values import put_value, read_value
from batchseg.ledger.sessions import read_sessions
from batchseg.paths import EVALUATION_KEY, EVALUATIONS_FOLDER, evaluation_key
from batchseg.recipe import LabelPolygons
from batchseg.redact import make_public_url
from batchseg.reports.metrics import Metrics, SceneMetrics
from batchseg.schema import inlined, plain
from batchseg.score.scores import NO_SCORES, NoScores, ReferenceScores
from batchseg.store import Store

GivenLabels = str | LabelPolygons
"""A reference: the path or URL of a raster or of a vector file, or polygons with a description of their classes."""
_NAME = re.compile(r"\w[\w.-]{0,99}")
_REMOVE = "remove it, or evaluate again"


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """The scores of a run against some references; `plain` of it is the content of evaluation.json."""

    fingerprint: str
    """Hash of the resolved recipe of the run."""
    labels: dict[str, GivenLabels]
    """The references, by scene."""
    scores: NoScores | ReferenceScores = inlined()
    """The scores over all these scenes together."""
    scenes: dict[str, NoScores | ReferenceScores]
    """The scores of each scene that has a reference, by scene."""
    notes: tuple[str, ...] = ()
    """Limits of the scores, for people: the ground that they are of, or an IoU that is a recall."""
    name: str = "evaluation"
    """The name that the evaluation is kept by."""
    made_unix_s: float = 0.0


def keep_evaluation(store: Store, evaluation: Evaluation) -> None:
    """Write an evaluation under its name, and as the newest."""
    put_value(store, evaluation_key(evaluation.name), evaluation)
    put_value(store, EVALUATION_KEY, evaluation)


def check_name(name: str) -> None:
    """Refuse a name that cannot be that of a file everywhere."""
    if not _NAME.fullmatch(name):
        raise RecipeError(
            "the name of an evaluation must be usable as that of a file",
            where="--to",
            expected="letters, digits, `-`, `_` and `.`, 100 at most",
            got=repr(name),
        )


def choose_name(store: Store, labels: Mapping[str, GivenLabels]) -> str:
    """Name an evaluation after its references. Evaluations against other references keep the names that they have."""
    first = next(iter(labels.values()))
    url = first if isinstance(first, str) else first.polygons
    path = PurePosixPath(urlsplit(make_public_url(url)).path.partition("|")[0])
    stem = re.sub(r"[^\w.-]+", "-", path.stem).strip("-.")[:90] or "evaluation"
    kept = {evaluation.name: evaluation for evaluation in list_evaluations(store)}
    names = (stem if number == 1 else f"{stem}-{number}" for number in range(1, len(kept) + 2))
    # Files hold no credentials, so the two are compared as files would hold them.
    content = encode_json(plain(dict(labels)))
    return next(name for name in names if name not in kept or encode_json(plain(kept[name].labels)) == content)


def list_evaluations(store: Store) -> list[Evaluation]:
    """Read all evaluations that are kept, in the order of their names."""
    keys = sorted(key for key, _ in store.names(EVALUATIONS_FOLDER) if key.endswith(".json"))
    return [read_value(store, key, Evaluation, todo=_REMOVE) for key in keys]


def find_newest(store: Store) -> Evaluation | None:
    """Find the evaluation that was made after the run last worked; None where the run's own scores are newer."""
    try:
        newest = read_value(store, EVALUATION_KEY, Evaluation, todo=_REMOVE)
    except (FileNotFoundError, DamagedError):
        return None
    worked_unix_s = max((session.beat_unix_s for session in read_sessions(store)), default=0.0)
    return newest if newest.made_unix_s > worked_unix_s else None


def replace_scores(metrics: Metrics, evaluation: Evaluation) -> Metrics:
    """The metrics with the scores of an evaluation in place of the run's own, for people."""
    scenes: dict[str, SceneMetrics] = {
        name: replace(scene, scores=evaluation.scenes.get(name, NO_SCORES), labels_note=None)
        for name, scene in metrics.scenes.items()
    }
    return replace(metrics, scores=evaluation.scores, scenes=scenes)


def describe_evaluation(evaluation: Evaluation) -> str:
    """Say which evaluation some scores are of, when it was made, and against which references."""
    day = datetime.fromtimestamp(evaluation.made_unix_s, UTC).strftime("%Y-%m-%d %H:%M UTC")
    files = dict.fromkeys(given if isinstance(given, str) else given.polygons for given in evaluation.labels.values())
    notes = "".join(f"; {note}" for note in evaluation.notes)
    return f"evaluation {evaluation.name}, {day}, against {', '.join(files)}{notes}"
