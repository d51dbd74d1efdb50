"""Segment large rasters with two tiers of models. The same functions as the command line, called with values.

    from batchseg import load_recipe, run

    outcome = run(load_recipe("recipe.yaml"))
    print(outcome.metrics.cost_usd_per_km2, outcome.metrics.scores.iou)

Runs:

    load_recipe, load_fleet    read a recipe file and a fleet file
    plan                       say what a run will do, take and cost, without writing anything; returns a `Plan`
    run                        run a recipe, or resume it, with one worker in this process; returns an `Outcome`
    status                     say how far a run is; returns a `RunStatus`
    report                     make the reports of a run again; returns its `Metrics`
    evaluate                   score finished output against reference labels; returns an `Evaluation`
    compare                    compare two runs over the same ground; returns a `Comparison`

Models:

    train, distill             train a bundle on labels, or on the answers of a heavy bundle
    adjust                     adapt the normalisation of a bundle to other imagery
    quantize                   make an int8 bundle
    open_bundle                open a bundle and check its contract
    import_bundle              make a bundle of an ONNX file
    check_bundle               compare a bundle's networks with its contract
    tune_bundle                choose backend, batch and threads for this machine

`jobs.run` and `jobs.nightly` do the same on Ray. Every error that these functions raise on purpose is a
`BatchsegError`. Names that are not in `__all__` are private and may change with any version. `docs/python.md` has each
function with its arguments.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from batchseg.errors import BatchsegError
    from batchseg.recipe.load import load_fleet, load_recipe
    from batchseg.reports.compare import compare
    from batchseg.reports.comparison import Comparison
    from batchseg.reports.evaluate import Evaluation, evaluate
    from batchseg.reports.metrics import Metrics
    from batchseg.reports.write import report
    from batchseg.runs.estimate import Plan, plan
    from batchseg.runs.session import Outcome, run
    from batchseg.runs.status import RunStatus, status
    from batchseg.training.train import distill, train

__all__ = [
    "BatchsegError",
    "Comparison",
    "Evaluation",
    "Metrics",
    "Outcome",
    "Plan",
    "RunStatus",
    "compare",
    "distill",
    "evaluate",
    "load_fleet",
    "load_recipe",
    "plan",
    "report",
    "run",
    "status",
    "train",
]

_HOMES = {
    "BatchsegError": "batchseg.errors",
    "Comparison": "batchseg.reports.comparison",
    "Evaluation": "batchseg.reports.evaluate",
    "Metrics": "batchseg.reports.metrics",
    "Outcome": "batchseg.runs.session",
    "Plan": "batchseg.runs.estimate",
    "RunStatus": "batchseg.runs.status",
    "compare": "batchseg.reports.compare",
    "distill": "batchseg.training.train",
    "evaluate": "batchseg.reports.evaluate",
    "load_fleet": "batchseg.recipe.load",
    "load_recipe": "batchseg.recipe.load",
    "plan": "batchseg.runs.estimate",
    "report": "batchseg.reports.write",
    "run": "batchseg.runs.session",
    "status": "batchseg.runs.status",
    "train": "batchseg.training.train",
}
"""Public name -> module. A name is imported at its first use: `batchseg --help` must not wait for torch and GDAL."""


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
