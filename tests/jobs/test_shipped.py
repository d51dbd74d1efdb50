"""The shipped models on a synthetic scene, by the command line: killed at random moments, and against golden files."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from batchseg.ledger.ledger import Ledger
from batchseg.store import LocalStore
from batchseg.synth import write_scene
from tests.runs import product_bytes

pytestmark = pytest.mark.real

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "tests" / "golden" / "shipped.json"
RECIPE = """scenes: [{folder}/scene.tif]
output: {output}
models: {{bulk: "zoo:synthetic-bulk", heavy: "zoo:synthetic-heavy"}}
tiling: {{core: 512, chunk: {chunk}}}
route: {{priority: [{{polygons: {folder}/priority.geojson}}]}}
labels: [{folder}/labels.tif]
"""


@pytest.fixture(scope="module")
def scene(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("scene")
    write_scene(folder, size_px=2304, seed=11)
    return folder


def command(scene: Path, output: Path, *, chunk: int = 1024) -> list[str]:
    recipe = output.with_suffix(".yaml")
    recipe.write_text(RECIPE.format(folder=scene, output=output, chunk=chunk))
    return [sys.executable, "-m", "jobs", "run", str(recipe), "--quiet"]


def run_whole(scene: Path, output: Path, *, chunk: int = 1024) -> dict[str, str]:
    subprocess.run(command(scene, output, chunk=chunk), check=True, cwd=ROOT, timeout=600)
    return product_bytes(output)


@pytest.fixture(scope="module")
def clean(scene, tmp_path_factory) -> tuple[Path, dict[str, str]]:
    output = tmp_path_factory.mktemp("clean") / "out"
    return output, run_whole(scene, output)


def records_in(output: Path) -> int:
    return sum(1 for name in LocalStore(output).names("run/records/")) if output.exists() else 0


def killed_within(command: list[str], output: Path, *, new_records: int, delay_s: float) -> bool:
    """Whether the run was still going when it was killed: `delay_s` after it had committed so many more chunks."""
    goal = records_in(output) + new_records
    child = subprocess.Popen(command, cwd=ROOT, start_new_session=True)
    while child.poll() is None and records_in(output) < goal:
        time.sleep(0.01)
    time.sleep(delay_s)
    ended_by_itself = child.poll() is not None
    if not ended_by_itself:
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()
    return not ended_by_itself


def test_sigkill_at_random_moments_changes_nothing(scene, clean, tmp_path):
    seed = int(os.environ.get("BATCHSEG_TEST_SEED", str(time.time_ns() % 1_000_000)))
    moments = random.Random(seed)
    output = tmp_path / "out"
    kills = [
        killed_within(
            command(scene, output), output, new_records=moments.randint(0, 2), delay_s=moments.uniform(0.0, 0.4)
        )
        for _ in range(4)
    ]
    assert any(kills), f"seed {seed}: it was never killed"
    assert run_whole(scene, output) == clean[1], f"seed {seed}"
    metrics = json.loads((output / "metrics.json").read_text())
    assert metrics["confusion"] == json.loads((clean[0] / "metrics.json").read_text())["confusion"]


def test_chunk_sizes_give_the_same_geotiffs(scene, clean, tmp_path):
    tifs = {name: digest for name, digest in clean[1].items() if name.endswith(".tif")}
    assert len(tifs) == 3
    for chunk in (512, 2048, 4096):
        found = run_whole(scene, tmp_path / f"chunk{chunk}", chunk=chunk)
        assert {name: digest for name, digest in found.items() if name.endswith(".tif")} == tifs


def test_output_is_that_of_the_golden_file(clean):
    """Bytes are promised within one numeric environment; in another, accuracy has to be the golden one's."""
    record = next(Ledger(LocalStore(clean[0])).read_records())
    environment = ", ".join(f"{k} {v}" for k, v in sorted(record.attempt.environment.items()))
    metrics = json.loads((clean[0] / "metrics.json").read_text())
    tifs = {name: digest for name, digest in clean[1].items() if name.endswith(".tif")}
    if os.environ.get("BATCHSEG_RENEW_GOLDEN"):
        GOLDEN.parent.mkdir(exist_ok=True)
        known = json.loads(GOLDEN.read_text())["digests"] if GOLDEN.exists() else {}
        if known.get(environment) != tifs:
            known = {}  # other bytes here are other bytes everywhere
        content = {"iou": metrics["iou"], "digests": known | {environment: tifs}}
        GOLDEN.write_text(json.dumps(content, indent=1) + "\n")
    golden = json.loads(GOLDEN.read_text())
    for name, iou in golden["iou"].items():
        assert metrics["iou"][name] == pytest.approx(iou, abs=0.01)
    assert golden["digests"].get(environment, tifs) == tifs
