"""The command line, and runs on Ray. The only ring that imports Ray.

    from batchseg import load_fleet
    from jobs import run

    outcome = run("recipe.yaml", load_fleet("fleet.yaml"))

    run           run a recipe, or resume it, with the workers of a fleet
    load_night    read the file that says what a night does
    nightly       run a recipe over every scene that is new or has changed since the last night

`jobs/run.py` and `jobs/nightly.py` are the entry points of `python -m jobs.run` and `python -m jobs.nightly`. No module
may import them, because the import would replace the functions of the same names.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from batchseg.runs.night_settings import load_night
    from jobs.cluster.on_ray import nightly, run

__all__ = ["load_night", "nightly", "run"]

_HOMES = {
    "load_night": "batchseg.runs.night_settings",
    "nightly": "jobs.cluster.on_ray",
    "run": "jobs.cluster.on_ray",
}
"""Public name -> module. A name is imported at its first use: `batchseg --help` must not wait for Ray."""


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
