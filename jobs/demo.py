"""The whole product in one command: make a synthetic scene, segment it with both tiers on a local Ray, print a summary.

`make demo` calls it. It runs configs/demo.yaml, an ordinary recipe: once the scene is there, `batchseg run
configs/demo.yaml` does the same.
"""

from __future__ import annotations

import sys
from pathlib import Path

from batchseg.reports.metrics import read_metrics
from batchseg.store import LocalStore
from jobs.cli import main as batchseg
from jobs.terminal.formats import format_usd
from jobs.terminal.redacted_output import redact_output

ROOT = Path(__file__).resolve().parent.parent
OUTPUT = Path("out/demo")
SCENE = OUTPUT / "input"
TOLERANCE = 0.02
SIZE_PX = 6144
SEED = 7


@redact_output()
def main() -> int:
    print(f"a synthetic scene of {SIZE_PX} x {SIZE_PX} px, seed {SEED}:")
    status = batchseg(["synth", str(SCENE), "--size", str(SIZE_PX), "--seed", str(SEED)])
    if status:
        return status
    print("\nsegmenting it:")
    recipe, fleet = ROOT / "configs" / "demo.yaml", ROOT / "configs" / "demo_fleet.yaml"
    return batchseg(["run", str(recipe), "--fleet", str(fleet)]) or _check_cost(OUTPUT / "metrics.json")


def _check_cost(path: Path) -> int:
    """Compare the cost, whose parts were timed one by one, with the money paid for the workers' lives.

    Returns an exit status: 1 where they differ by more than TOLERANCE.
    """
    metrics = read_metrics(LocalStore(path.parent))
    parts_usd, paid_usd = metrics.cost.total_usd, metrics.paid_usd
    off = abs(parts_usd - paid_usd) / paid_usd
    print(f"    money  the parts add up to {format_usd(parts_usd)}, {format_usd(paid_usd)} were paid: {off:.2%} apart")
    return 0 if off <= TOLERANCE else 1


if __name__ == "__main__":
    sys.exit(main())
