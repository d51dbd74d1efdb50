"""Segment large rasters with two tiers of models. The same functions as the command line, called with values.

    from batchseg import load_recipe, run

    outcome = run(load_recipe("recipe.yaml"))
    print(outcome.metrics)

Runs:

    load_recipe, load_fleet    read a recipe file and a fleet file
    plan                       say what a run will do, take and cost, without writing anything
    run                        run a recipe, or resume it, with one worker in this process; returns an `Outcome`
    status                     say how far a run is; returns a `RunStatus`
    report                     make the reports of a run again
    evaluate                   score finished output against reference labels
    compare                    compare two runs over the same ground

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
    from batchseg.runs.estimate import Plan, plan
    from batchseg.runs.session import Outcome, run
    from batchseg.runs.status import RunStatus, status
    from batchseg.training.train import distill, train

__all__ = [
    "BatchsegError",
    "Outcome",
    "Plan",
    "RunStatus",
    "distill",
    "load_fleet",
    "load_recipe",
    "plan",
    "run",
    "status",
    "train",
]

_HOMES = {
    "BatchsegError": "batchseg.errors",
    "Outcome": "batchseg.runs.session",
    "Plan": "batchseg.runs.estimate",
    "RunStatus": "batchseg.runs.status",
    "distill": "batchseg.training.train",
    "load_fleet": "batchseg.recipe.load",
    "load_recipe": "batchseg.recipe.load",
    "plan": "batchseg.runs.estimate",
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
