"""The facts of a summary beside the metrics of a run: the maps that exist, and the time of each session."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from batchseg.ledger.ledger import Ledger
from batchseg.ledger.sessions import read_sessions
from batchseg.resolve.output_folder import open_output
from batchseg.resolve.plan_file import PlanFile, read_plan
from batchseg.store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """The state of an output folder when a driver has left it."""

    maps: tuple[str, ...]
    """Keys of the label maps that exist, in the order of the scenes. A stopped run may have none yet."""
    sessions_s: tuple[float, ...]
    """Wall time of each session, the last one at the end."""


def read_ending(output: str | Path) -> Ending:
    """Read which maps exist, and how long the sessions took.

    Raises:
        InputError: The folder is not the output of a run.
        DamagedError: A file of the run is damaged.
    """
    store = open_output(output)
    plan = read_plan(store)
    published = {sheet.key.scene for sheet in Ledger(store).read_sheets()}
    keys = (_find_map(store, plan, scene) for scene in plan.scenes if scene in published)
    sessions = sorted(read_sessions(store), key=lambda session: session.begun_unix_s)
    return Ending(
        maps=tuple(key for key in keys if key is not None), sessions_s=tuple(session.seconds for session in sessions)
    )


def _find_map(store: Store, plan: PlanFile, scene: str) -> str | None:
    """Find the label map of a scene with published sheets. Only the end of a complete session makes a mosaic."""
    if plan.zarr_layout(scene).is_one_sheet:
        return f"{scene}/labels.tif"
    key = f"{scene}/labels.vrt"
    try:
        store.get(key)
    except FileNotFoundError:
        return None
    return key
