"""What a person sees of a run with many workers."""

from __future__ import annotations

import re

from rich.console import Console

from batchseg.runs.drive import Stop
from batchseg.runs.progress import NUM_HAPPENINGS, Progress
from batchseg.workers.happenings import WorkerGone, WorkerLeaving, WorkerOpened, WorkerPlaced
from jobs.terminal.live import render_screen


def drawn(progress: Progress) -> str:
    console = Console(width=140, force_terminal=False)
    with console.capture() as capture:
        console.print(render_screen(progress.snapshot()))
    return capture.get()


def started(*, num_workers: int) -> tuple[Progress, list[float]]:
    clock = [0.0]
    progress = Progress(
        num_chunks=4000,
        num_before=100,
        num_sheets=63,
        usd_before=1.25,
        head_usd_per_hour=0.1,
        max_usd=None,
        stop=Stop(),
        show=lambda _: None,
        now=lambda: clock[0],
    )
    for number in range(num_workers):
        worker = f"{'cheap' if number % 2 else 'gpu-spot'}-{number:08x}"
        progress.notice(WorkerPlaced(worker=worker, node="node", usd_per_hour=0.5))
        if number % 4:
            progress.notice(WorkerOpened(worker=worker, usd_per_hour=0.5))
    return progress, clock


def test_a_thousand_workers_fit_on_a_screen_with_a_line_a_pool() -> None:
    progress, clock = started(num_workers=1000)
    clock[0] = 3600.0
    for number in range(20):
        worker = f"gpu-spot-{2 * number:08x}"
        progress.notice(WorkerGone(worker=worker, why=f"death {number}", kind="preemption"))
    progress.notice(WorkerLeaving(worker="cheap-00000001", why="its node is going away"))
    text = drawn(progress)
    assert len(text.splitlines()) <= 5 + NUM_HAPPENINGS
    assert "100/4000" in text
    assert "20 preempted" in text
    assert "death 19" in text
    assert "death 15" not in text
    assert re.search(r"cheap +500 +0 +1 +0 +0 +0\.00 +250\.00", text)
    assert re.search(r"gpu-spot +240 +240 +0 +20 ", text)
    assert "$501.35" in text


def test_one_worker_is_one_line() -> None:
    progress, _ = started(num_workers=1)
    assert len(drawn(progress).splitlines()) == 1
