"""The whole product in one command: make a synthetic scene, segment it with both tiers on a local Ray, sum it up.

`make demo` calls this. It runs configs/demo.yaml, an ordinary recipe: `batchseg run configs/demo.yaml` does the same
once the scene is there.
"""

from __future__ import annotations

import sys
from pathlib import Path

from jobs.cli import main as batchseg

ROOT = Path(__file__).resolve().parent.parent
SCENE = Path("out/demo/input")
SIZE_PX = 6144
SEED = 7


def main() -> int:
    print(f"a synthetic scene of {SIZE_PX} x {SIZE_PX} px, seed {SEED}:")
    status = batchseg(["synth", str(SCENE), "--size", str(SIZE_PX), "--seed", str(SEED)])
    if status:
        return status
    print("\nsegmenting it:")
    recipe, fleet = ROOT / "configs" / "demo.yaml", ROOT / "configs" / "demo_fleet.yaml"
    return batchseg(["run", str(recipe), "--fleet", str(fleet)])


if __name__ == "__main__":
    sys.exit(main())
