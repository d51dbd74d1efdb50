"""The warnings about the scenes of a run, before its first task."""

from __future__ import annotations

from collections.abc import Sequence

from batchseg.resolve.plan_file import PlanFile
from batchseg.runs.drive import Watcher
from batchseg.workers.happenings import NodataSuspected, SceneBadlyLaidOut


def notice_scene_warnings(plan: PlanFile, watchers: Sequence[Watcher]) -> None:
    """Tell the watchers of everything that the plan warns of."""
    for name, scene in plan.scenes.items():
        for watcher in watchers:
            if scene.layout_note is not None:
                watcher.notice(SceneBadlyLaidOut(scene=name, why=scene.layout_note))
            if scene.nodata_note is not None:
                watcher.notice(NodataSuspected(scene=name, why=scene.nodata_note))
