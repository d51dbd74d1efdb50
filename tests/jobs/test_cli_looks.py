"""What `plan`, `status`, `inspect` and `report` say of runs, changing nothing; and the same run from Python."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import rasterio

from batchseg.model.architecture import BulkNetSpec
from batchseg.recipe import load_recipe
from batchseg.resolve.resolve import resolve
from jobs.cli import main
from tests.batchseg.model.model_bundles import on_cpu, write_random
from tests.jobs.command_line import FACTS_OF_EVERY_RUN, alone, contents, folder, prepare, quick, refused, write_recipe
from tests.runs import product_bytes

__all__ = ["alone", "folder", "quick"]
pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of real, if random, weights."""
    folder = prepare(tmp_path_factory.mktemp("finished"))
    write_random(
        folder / "bulk",
        gsd_m=(0.1, 50.0),
        numerics=on_cpu(backend="torch", precision="float32", batch=3, threads=1),
    )
    assert main(["run", str(folder / "recipe.yaml"), "--quiet"]) == 0
    return folder


def test_plan_writes_nothing_and_says_what_it_takes(
    finished: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(folder)
    assert main(["plan", str(folder / "recipe.yaml")]) == 0
    assert contents(folder) == before
    assert not (folder / "out").exists()
    told = capsys.readouterr().out
    assert re.search(r"scene +scene: 45 x 70 px, 0\.0032 km²; 6 chunks \(0 committed, 0 surely empty\); 15 tiles", told)
    for wanted in (r"to do +6 chunks", r"memory +0\.\d+ GiB", r"output +\S+ GB in \d+ objects", r"requests +about \d+"):
        assert re.search(rf"^{wanted}", told, re.MULTILINE), wanted
    before = contents(finished)
    assert main(["plan", str(finished / "recipe.yaml")]) == 0
    assert contents(finished) == before
    told = capsys.readouterr().out
    assert re.search(r"6 chunks \(6 committed", told)
    assert re.search(r"to do +0 chunks", told)


def test_plan_takes_tiles_as_large_as_the_recipe_has_them(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Bundles are tuned with cores of 512 px."""
    numerics = on_cpu(backend="torch", precision="float32", batch=3, threads=1, seconds_per_tile=10.0)
    bundle = write_random(folder / "bulk", gsd_m=(0.1, 50.0), numerics=numerics)
    recipe = load_recipe(folder / "recipe.yaml")
    halo_px = resolve(recipe).job.models["bulk"].halo_px
    assert main(["plan", str(folder / "recipe.yaml")]) == 0
    share = ((recipe.tiling.core + 2 * halo_px) / (512 + 2 * bundle.contract.halo_px)) ** 2
    assert f"a tile of {recipe.tiling.core} px takes bulk {10_000 * share:.0f} ms" in capsys.readouterr().out


def test_plan_with_a_pilot_shows_a_curve(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for tier, width in (("bulk", 8), ("heavy", 16)):
        write_random(
            folder / tier,
            gsd_m=(0.1, 50.0),
            halo_px=8,
            architecture=BulkNetSpec(width=width),
            numerics=on_cpu(backend="torch", precision="float32", batch=3, threads=1),
        )
    models = {tier: str(folder / tier) for tier in ("bulk", "heavy")}
    route = {"priority": ["uncertain"], "fade": 0}  # so that all tiles heavy is the heavy model's map
    recipe = write_recipe(folder, models=models, route=route, budget={"heavy_share": 0.5})
    before = contents(folder)
    assert main(["plan", recipe, "--pilot"]) == 0
    assert contents(folder) == before
    told = capsys.readouterr().out
    assert re.search(r"pilot +15 tiles, 0.0% of them priority", told)
    assert re.search(r"heavy +uncertain from +\$ per km² +\$ in total +agrees", told)
    assert re.search(r"^ +0.0% +never +\$\S+ +\$\S+ +0\.\d+$", told, re.MULTILINE)
    assert re.search(r"^ +100.0% +0.0000 +\$\S+ +\$\S+ +1.0000$", told, re.MULTILINE)
    assert told.count("<- this recipe") == 1
    assert main(["plan", recipe, "--pilot", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["num_to_do"] == 6
    assert found["pilot"]["curve"][-1]["agreement"] == 1.0


def test_status_of_a_finished_run(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", str(finished / "out")]) == 0
    told = capsys.readouterr().out
    assert "scene: 6 of 6 chunks" in told
    assert "1 sheet of GeoTIFFs made" in told
    assert re.search(r"not running; .*ended \d+ s ago", told)


def test_inspect_tells_the_story_of_a_chunk(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(finished / "out"), "scene/0_1"]) == 0
    told = capsys.readouterr().out
    assert re.search(r"chunk  scene/0_1: rows 0 to 32, columns 32 to 45", told)
    assert re.search(r"ground  0.0004 km², 416 valid pixels", told)
    assert told.count("stored  scene/mask.zarr/") == 3
    assert re.search(r"^\d{4}-\d\d-\d\d [\d:]{8}  chunk_committed  worker=local-", told, re.MULTILINE)
    output = str(finished / "out")
    assert "no such chunk; expected scene/0_0 to scene/2_1" in refused(["inspect", output, "scene/3_0"], capsys)
    assert "no such scene in this run. Did you mean scene/0_1?" in refused(["inspect", output, "scen/0_1"], capsys)
    assert "not the name of a chunk; expected SCENE/ROW_COLUMN" in refused(["inspect", output, "scene"], capsys)


def test_inspect_reads_the_log_of_a_driver_that_died_while_it_wrote(
    folder: Path, quick: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", str(folder / "recipe.yaml"), "--quiet"]) == 0
    log = folder / "out" / "run" / "log.jsonl"
    with log.open("a") as file:
        file.write('{"unix_s": 1.0, "event": "chunk_comm')
    assert main(["inspect", str(folder / "out"), "scene/0_0"]) == 0
    assert capsys.readouterr().out.count("chunk_committed") == 1


def test_report_makes_the_same_reports_again(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = finished / "out"
    before = json.loads((output / "metrics.json").read_text())
    for name in ("metrics.json", "ledger.parquet"):
        (output / name).unlink()
    assert main(["report", str(output)]) == 0
    told = capsys.readouterr().out
    assert json.loads((output / "metrics.json").read_text()) == before
    assert (output / "ledger.parquet").exists()
    assert all(f"{fact}  " in told for fact in FACTS_OF_EVERY_RUN)


def test_another_recipe_is_refused_by_run_and_plan(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = contents(finished / "out")
    other = write_recipe(finished, "other.yaml", tiling={"core": 8, "chunk": 32, "halo": {"bulk": 8}})
    for verb in ("run", "plan"):
        assert "different: tiling.core (16 -> 8)" in refused([verb, other], capsys)
    assert contents(finished / "out") == before


def test_the_same_from_python(finished: Path) -> None:
    from batchseg import load_recipe, run

    recipe = write_recipe(finished, "python.yaml", output=str(finished / "python"))
    outcome = run(recipe)
    assert (outcome.exit_status, outcome.output) == (0, finished / "python")
    assert outcome.metrics.area_km2 == pytest.approx(70 * 45 / 1e6, rel=0.01)
    assert product_bytes(finished / "python") == product_bytes(finished / "out")
    assert run(load_recipe(recipe)).why == outcome.why, "a recipe does as well as its file"


def test_labels_of_a_run_hold_classes_only(finished: Path) -> None:
    with rasterio.open(finished / "out" / "scene" / "labels.tif") as labels:
        assert set(np.unique(labels.read(1))) <= {0, 10, 20, 30}
