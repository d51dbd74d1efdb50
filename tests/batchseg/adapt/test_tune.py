"""Tuning: which list_numerics there are, which one wins, what is written."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from batchseg.adapt import candidates, trial
from batchseg.adapt.adjust import adjust
from batchseg.adapt.candidates import Candidate, choose_fastest, list_numerics, measure_candidates
from batchseg.adapt.quantize import quantize
from batchseg.adapt.trial import Trial, make_synthetic_tiles, run_trial
from batchseg.adapt.tune import tune_bundle, write_numerics
from batchseg.errors import BundleError, InputError
from batchseg.model.bundle import open_bundle
from jobs.cli import main
from tests.batchseg.model.model_bundles import on_cpu, write_onnx, write_random
from tests.stac import problems_of


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BATCHSEG_CACHE", str(tmp_path / "cache"))


def tried(seconds: float, agreement: float, problem: str | None = None) -> Candidate:
    (numerics,) = on_cpu(seconds_per_tile=seconds, agreement=agreement).values()
    return Candidate(numerics, problem)


def test_the_fastest_that_agrees_wins() -> None:
    all_of_them = [tried(0.3, 1.0), tried(0.1, 0.98), tried(0.2, 0.995), tried(0.01, 1.0, "cannot be run")]
    assert choose_fastest(all_of_them, min_agreement=0.99).seconds_per_tile == 0.2
    assert choose_fastest(all_of_them, min_agreement=0.97).seconds_per_tile == 0.1
    assert choose_fastest(all_of_them, min_agreement=0.999).seconds_per_tile == 0.3


def test_every_choice_is_one_that_a_contract_may_hold(tmp_path: Path) -> None:
    ours, onnx = write_random(tmp_path / "a"), write_onnx(tmp_path / "b")
    for bundle in (ours, onnx):
        for device in ("cpu", "cuda"):
            found = list(list_numerics(bundle, device, 2))
            assert found[0].precision == "float32"
            for numerics in found:
                replace(bundle.contract, numerics={device: numerics})
    assert {n.backend for n in list_numerics(ours, "cpu", 2)} == {"torch", "compiled", "openvino", "onnxruntime"}
    assert {n.backend for n in list_numerics(onnx, "cpu", 2)} == {"openvino", "onnxruntime"}


def test_each_is_compared_with_the_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that cannot be run is told and left out; where the first cannot, there is nothing to compare with."""
    bundle = write_random(tmp_path)
    reference = np.zeros((2, 8, 8), np.uint8)

    def fake(_bundle: Any, numerics: Any, _device: Any, _x: Any) -> Trial:
        if numerics.backend == "compiled":
            raise BundleError("no compiler")
        labels = reference.copy()
        labels[0, 0, : 4 if numerics.precision == "bfloat16" else 0] = 1
        return Trial(
            numerics=numerics,
            index_NHW=labels,
            confidence_NHW=labels,
            start_s=1.0,
            seconds_per_tile=0.5,
            memory_bytes=100,
        )

    monkeypatch.setattr(candidates, "run_trial", fake)
    found = measure_candidates(bundle, "cpu", reference, threads=2, show=lambda _: None)
    by_way = {(one.numerics.backend, one.numerics.precision): one for one in found}
    assert by_way["torch", "float32"].numerics.agreement == 1.0
    assert by_way["openvino", "bfloat16"].numerics.agreement == 1 - 4 / 128
    assert by_way["compiled", "float32"].problem == "no compiler"
    monkeypatch.setattr(candidates, "list_numerics", lambda *_: iter([by_way["compiled", "float32"].numerics]))
    with pytest.raises(BundleError, match="reference cannot be run"):
        measure_candidates(bundle, "cpu", reference, threads=2, show=lambda _: None)


def test_nothing_to_choose_from_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = write_onnx(tmp_path)
    monkeypatch.setitem(candidates.MODULES, "onnxruntime", ("no_such_module",))
    with pytest.raises(BundleError, match=r"no installed backend.*on cuda; expected onnxruntime"):
        measure_candidates(bundle, "cuda", np.zeros((1, 3, 64, 64), np.uint8), threads=1, show=lambda _: None)
    with pytest.raises(BundleError, match=r"--min-agreement.*expected 0\.999 of labels, got 0\.98 at most"):
        choose_fastest([tried(0.1, 0.98), tried(0.1, 1.0, "cannot be run")], min_agreement=0.999)


class UnsendableError(Exception):
    """Cannot be sent to another process."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(f"\n{first}\n{second}")


@pytest.mark.parametrize(
    ("error", "got"),
    [
        (UnsendableError("no compiler", "and so on"), "got UnsendableError: no compiler$"),
        (RuntimeError(), "got RuntimeError$"),
        (BundleError("weights are missing"), "^weights are missing$"),
    ],
)
def test_whatever_a_library_raises_is_one_line(
    error: Exception, got: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where it is raised: what is left of it has to reach whoever asked."""
    bundle = write_random(tmp_path)

    def raising(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(trial, "open_segmenter", raising)
    with pytest.raises(BundleError, match=got) as caught:
        trial._run_apart(bundle, on_cpu()["cpu"], "cpu", make_synthetic_tiles(bundle, 1, 160))
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_a_compiler_that_fails_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = write_random(tmp_path)
    monkeypatch.setenv("CXX", "/bin/false")
    with pytest.raises(BundleError, match=r"compiled float32, batch 1, cannot be run here; got \w+: \w+"):
        run_trial(
            bundle,
            on_cpu(backend="compiled", precision="float32", batch=1)["cpu"],
            "cpu",
            make_synthetic_tiles(bundle, 1, 160),
        )


def test_what_is_written_is_the_numerics_and_nothing_else(tmp_path: Path) -> None:
    bundle = write_random(tmp_path)
    before = json.loads((tmp_path / "item.json").read_text())
    chosen = on_cpu(backend="onnxruntime", precision="float32", batch=4, agreement=1.0, memory_bytes=5)["cpu"]
    write_numerics(bundle, "cpu", chosen)
    after = open_bundle(str(tmp_path))
    assert after.contract == replace(bundle.contract, numerics=bundle.contract.numerics | {"cpu": chosen})
    assert after.digest != bundle.digest
    assert after.graph_digest == bundle.graph_digest
    item = json.loads((tmp_path / "item.json").read_text())
    assert problems_of(item) == []
    item["properties"]["batchseg:numerics"] = before["properties"]["batchseg:numerics"]
    assert item == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["item.json", "weights.safetensors"]


def test_a_trial_says_what_a_segmenter_answers(tmp_path: Path) -> None:
    bundle = write_random(tmp_path)
    x = make_synthetic_tiles(bundle, 3, 160)
    assert (x.shape, x.dtype) == ((3, 3, 160, 160), np.uint8)
    torch_way, other = (
        run_trial(bundle, on_cpu(backend=backend, precision="float32")["cpu"], "cpu", x)
        for backend in ("torch", "openvino")
    )
    core_px = 160 - 2 * bundle.contract.halo_px
    assert torch_way.index_NHW.shape == (3, core_px, core_px)
    assert len(np.unique(torch_way.confidence_NHW)) > 5
    assert (torch_way.index_NHW == other.index_NHW).mean() > 0.999
    assert np.abs(torch_way.confidence_NHW.astype(int) - other.confidence_NHW).max() <= 2
    assert torch_way.memory_bytes > 50e6
    assert torch_way.seconds_per_tile > 0


@pytest.mark.real
def test_tuning_measures_every_backend_and_a_run_obeys(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_random(tmp_path, numerics=on_cpu(backend="torch", precision="float32", batch=1))
    assert main(["model", "tune", str(tmp_path), "--tiles", "1"]) == 0
    told = capsys.readouterr().out
    for backend in ("torch", "compiled", "openvino", "onnxruntime"):
        assert any(line.split()[0] == backend and "ms per tile" in line for line in told.splitlines()), backend
    numerics = open_bundle(str(tmp_path)).contract.numerics["cpu"]
    assert f"best on cpu: {numerics.backend} {numerics.precision}, batch {numerics.batch}" in told
    assert numerics.measured_on
    assert numerics.agreement >= 0.99


def test_a_script_without_a_main_guard_can_check_a_bundle(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "from batchseg import check_bundle\nprint(check_bundle('zoo:synthetic-bulk', device='cpu').device)\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("cpu\n", 0), done.stderr


def test_numbers_of_tiles_and_types_of_weights_are_checked_first(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"number of tiles must be 1 or more; got 0"):
        tune_bundle("zoo:synthetic-bulk", tiles=0, dry_run=True)
    with pytest.raises(InputError, match=r"number of tiles must be 2 or more; got 1"):
        quantize("zoo:synthetic-bulk", tmp_path / "q", calibrate="scene.tif", tiles=1)
    with pytest.raises(InputError, match=r"number of tiles must be 2 or more; got 0"):
        adjust("zoo:synthetic-bulk", tmp_path / "a", on="scene.tif", labels="labels.tif", tiles=0)
    with pytest.raises(InputError, match="must be one of int8, bfloat16, float16; got int3"):
        quantize("zoo:synthetic-bulk", tmp_path / "q", calibrate="scene.tif", to="int3")  # type: ignore[arg-type]
