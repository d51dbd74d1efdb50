"""Segment large rasters with two tiers of models. The same functions as the command line, called with values.

    from batchseg import run

    outcome = run("recipe.yaml")
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
    adjust                     adjust a bundle to new ground with a few labelled pixels; returns an `Adjustment`
    quantize                   make a smaller, faster bundle within an allowed loss; returns a `Quantization`
    open_bundle                open a bundle, and check its contract and its weights; returns a `Bundle`
    import_bundle              make a bundle of a SegFormer folder or an ONNX file, with your `ModelFacts`
    check_bundle               run a bundle on synthetic tiles: shapes, seconds, memory; returns a `BundleCheck`
    tune_bundle                measure every way to run a bundle here, and keep the best; returns a `Tuning`

`jobs.run` and `jobs.nightly` do the same on Ray. Every error that these functions raise on purpose is a
`BatchsegError`; a `RefusedBundleError`, one of these, holds what was measured. Names that are not in `__all__` are
private and may change with any version. `docs/python.md` and `help(batchseg.run)` show the arguments of a function,
what it returns and what it raises.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from batchseg.adapt.adjust import Adjustment, adjust
    from batchseg.adapt.check import BundleCheck, check_bundle
    from batchseg.adapt.quantize import Quantization, quantize
    from batchseg.adapt.refusal import RefusedBundleError
    from batchseg.adapt.tune import Tuning, tune_bundle
    from batchseg.errors import BatchsegError
    from batchseg.model.bundle import Bundle, open_bundle
    from batchseg.model.importing import import_bundle
    from batchseg.model.model_facts import ModelFacts
    from batchseg.recipe.load import load_fleet, load_recipe
    from batchseg.reports.compare import compare
    from batchseg.reports.comparison import Comparison
    from batchseg.reports.evaluate import evaluate
    from batchseg.reports.evaluation import Evaluation
    from batchseg.reports.metrics import Metrics
    from batchseg.reports.write import report
    from batchseg.runs.estimate import Plan, plan
    from batchseg.runs.session import Outcome, run
    from batchseg.runs.status import RunStatus, status
    from batchseg.training.train import distill, train

__all__ = [
    "Adjustment",
    "BatchsegError",
    "Bundle",
    "BundleCheck",
    "Comparison",
    "Evaluation",
    "Metrics",
    "ModelFacts",
    "Outcome",
    "Plan",
    "Quantization",
    "RefusedBundleError",
    "RunStatus",
    "Tuning",
    "adjust",
    "check_bundle",
    "compare",
    "distill",
    "evaluate",
    "import_bundle",
    "load_fleet",
    "load_recipe",
    "open_bundle",
    "plan",
    "quantize",
    "report",
    "run",
    "status",
    "train",
    "tune_bundle",
]

_HOMES = {
    "Adjustment": "batchseg.adapt.adjust",
    "BatchsegError": "batchseg.errors",
    "Bundle": "batchseg.model.bundle",
    "BundleCheck": "batchseg.adapt.check",
    "Comparison": "batchseg.reports.comparison",
    "Evaluation": "batchseg.reports.evaluation",
    "Metrics": "batchseg.reports.metrics",
    "ModelFacts": "batchseg.model.model_facts",
    "Outcome": "batchseg.runs.session",
    "Plan": "batchseg.runs.estimate",
    "Quantization": "batchseg.adapt.quantize",
    "RefusedBundleError": "batchseg.adapt.refusal",
    "RunStatus": "batchseg.runs.status",
    "Tuning": "batchseg.adapt.tune",
    "adjust": "batchseg.adapt.adjust",
    "check_bundle": "batchseg.adapt.check",
    "compare": "batchseg.reports.compare",
    "distill": "batchseg.training.train",
    "evaluate": "batchseg.reports.evaluate",
    "import_bundle": "batchseg.model.importing",
    "load_fleet": "batchseg.recipe.load",
    "load_recipe": "batchseg.recipe.load",
    "open_bundle": "batchseg.model.bundle",
    "plan": "batchseg.runs.estimate",
    "quantize": "batchseg.adapt.quantize",
    "report": "batchseg.reports.write",
    "run": "batchseg.runs.session",
    "status": "batchseg.runs.status",
    "train": "batchseg.training.train",
    "tune_bundle": "batchseg.adapt.tune",
}
"""Public name -> module. A name is imported at its first use: `batchseg --help` must not wait for torch and GDAL."""


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
