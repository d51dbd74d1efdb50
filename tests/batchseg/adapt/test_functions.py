"""Adjusting, quantising, checking, tuning and importing from Python: values in, values out, and useful errors."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

import batchseg
from batchseg import BatchsegError, ModelFacts, RefusedBundleError
from batchseg.adapt import check, quantize, tune
from batchseg.adapt.adjust import LabelEvidence
from batchseg.adapt.candidates import Candidate
from batchseg.adapt.quantize import QuantizationResult
from batchseg.adapt.trial import Trial
from batchseg.classes import ClassInfo
from batchseg.model.bundle import Bundle, open_bundle, write_bundle
from batchseg.model.mixing import Mixture, mix_weights
from batchseg.scene.bands import BandWanted
from jobs.cli import main
from tests.batchseg.model.model_bundles import MADE, write_onnx, write_random


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BATCHSEG_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("functions") / "scene"
    assert main(["synth", str(folder), "--size", "640", "--seed", "9"]) == 0
    return folder


def write_mixed_up(folder: Path) -> str:
    """The shipped model, which calls some ground by the name of another class."""
    bundle = open_bundle("zoo:synthetic-bulk")
    weights_KK, offsets_K = np.eye(6), np.array([0.0, -2.0, 1.5, 0.0, -1.0, 0.0])
    weights_KK[[1, 2], [4, 5]] = 0.8
    write_bundle(folder, bundle.contract, mix_weights(bundle, Mixture(weights_KK, offsets_K)), created_at=MADE)
    return str(folder)


def test_adjust_returns_the_bundle_and_its_evidence(scene: Path, tmp_path: Path) -> None:
    wrong, shown = write_mixed_up(tmp_path / "wrong"), []
    adjustment = batchseg.adjust(
        wrong,
        str(tmp_path / "right"),
        on=str(scene / "scene.tif"),
        labels=str(scene / "labels.tif"),
        tiles=2,
        device="cpu",
        show=lambda done, total: shown.append((done, total)),
    )
    evidence = adjustment.evidence
    assert adjustment.bundle == open_bundle(str(tmp_path / "right"))
    assert adjustment.bundle.contract.name == "right"
    assert (evidence.tiles, evidence.labelled_tiles, evidence.unknown_px) == (2, 4, 0)
    assert 0 < evidence.gain.low_points < evidence.gain.high_points
    assert list(evidence.labelled_px) == [c.name for c in adjustment.bundle.contract.classes]
    assert shown == [(1, 4), (2, 4), (3, 4), (4, 4), (1, 2), (2, 2)]


def test_a_refused_adjustment_says_what_was_measured(scene: Path, tmp_path: Path) -> None:
    with rasterio.open(scene / "labels.tif") as source:
        profile, labels_HW = source.profile, source.read(1)
    with rasterio.open(tmp_path / "shuffled.tif", "w", **profile) as file:
        file.write(np.random.default_rng(0).permutation(labels_HW.ravel()).reshape(labels_HW.shape), 1)
    labels, out = str(tmp_path / "shuffled.tif"), tmp_path / "out"
    with pytest.raises(RefusedBundleError, match="not better on held-out labels") as caught:
        batchseg.adjust("zoo:synthetic-bulk", out, on=str(scene / "scene.tif"), labels=labels, tiles=2, device="cpu")
    assert isinstance(caught.value.measured, LabelEvidence)
    assert caught.value.measured.gain.low_points <= 0
    assert not list(tmp_path.glob("out*"))


def make_trial(numerics: Any, x_NBHW: np.ndarray, index: int) -> Trial:
    index_NHW = np.full((len(x_NBHW), 512, 512), index, np.uint8)
    return Trial(
        numerics=numerics,
        index_NHW=index_NHW,
        confidence_NHW=index_NHW,
        start_s=0.5,
        seconds_per_tile=0.25,
        memory_bytes=2**30,
    )


def test_a_refused_quantisation_says_what_was_measured(
    scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed = iter([0, 1])
    monkeypatch.setattr(quantize, "run_trial", lambda _b, numerics, _d, x: make_trial(numerics, x, next(changed)))
    with pytest.raises(RefusedBundleError, match="loses too many points of agreement") as caught:
        batchseg.quantize(
            "zoo:synthetic-bulk", tmp_path / "half", calibrate=str(scene / "scene.tif"), to="bfloat16", tiles=2
        )
    measured = caught.value.measured
    assert isinstance(measured, QuantizationResult)
    assert (measured.change.agreement, measured.judged_tiles, measured.seconds_per_tile) == (0.0, 1, 0.25)
    assert not list(tmp_path.glob("half*"))
    same = iter([0, 0])
    monkeypatch.setattr(quantize, "run_trial", lambda _b, numerics, _d, x: make_trial(numerics, x, next(same)))
    quantization = batchseg.quantize(
        "zoo:synthetic-bulk", tmp_path / "half", calibrate=str(scene / "scene.tif"), to="bfloat16", tiles=2
    )
    assert quantization.bundle == open_bundle(str(tmp_path / "half"))
    assert list(quantization.bundle.contract.numerics) == ["cuda"]


def test_check_returns_shapes_and_measurements(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = write_random(tmp_path, halo_px=48)
    monkeypatch.setattr(check, "run_trial", lambda _b, numerics, _d, x: make_trial(numerics, x, 2))
    found = batchseg.check_bundle(str(tmp_path), device="cpu")
    assert found.bundle == bundle
    assert (found.input_shape, found.input_type) == ((2, 3, 608, 608), "uint8")
    assert found.output_shape == (2, 512, 512)
    assert found.class_shares == {"class 0": 0, "class 1": 0, "class 2": 1, "class 3": 0}
    assert (found.device, found.seconds_per_tile, found.memory_bytes) == ("cpu", 0.25, 2**30)


def test_a_network_that_the_default_core_does_not_fit_is_checked_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_random(tmp_path, halo_px=40, stride_px=64)
    monkeypatch.setattr(check, "run_trial", lambda _b, numerics, _d, x: make_trial(numerics, x, 0))
    assert batchseg.check_bundle(str(tmp_path), device="cpu").input_shape[2:] == (640, 640)


@pytest.mark.parametrize("dry_run", [True, False])
def test_tune_returns_the_bundle_that_it_has_written(
    dry_run: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = write_random(tmp_path)
    best = replace(before.contract.numerics["cpu"], batch=4, seconds_per_tile=0.1, agreement=1.0)
    slow = replace(best, batch=1, seconds_per_tile=0.2)
    measured = [Candidate(slow, None), Candidate(best, None, 1.5)]
    monkeypatch.setattr(tune, "measure_candidates", lambda *_, **__: measured)
    tuning = batchseg.tune_bundle(str(tmp_path), device="cpu", tiles=1, dry_run=dry_run)
    assert (tuning.best, tuning.device, tuning.candidates) == (best, "cpu", tuple(measured))
    assert tuning.bundle.contract.numerics["cpu"] == best
    after: Bundle = open_bundle(str(tmp_path))
    assert after == (before if dry_run else tuning.bundle)
    assert (after.digest == tuning.bundle.digest) != dry_run


def test_import_takes_facts_and_returns_the_bundle(tmp_path: Path) -> None:
    path = write_onnx(tmp_path / "made").weights
    facts = ModelFacts(
        bands=tuple(BandWanted(name=name, common=name) for name in ("red", "green", "blue")),
        gsd_m=(0.3, 0.8),
        classes=tuple(ClassInfo(id=i, name=str(i), rgb=(i, i, i)) for i in range(4)),
        mean=(90.0, 100.0, 80.0),
        std=(40.0, 50.0, 30.0),
    )
    bundle = batchseg.import_bundle(str(path), str(tmp_path / "net"), facts)
    assert (bundle.contract.name, bundle.contract.range, bundle.contract.tier) == ("net", (0.0, 255.0), "heavy")
    assert bundle == batchseg.open_bundle(str(tmp_path / "net"))
    with pytest.raises(BatchsegError, match="there is something already"):
        batchseg.import_bundle(path, tmp_path / "net", facts)
    with pytest.raises(BatchsegError, match="uint16 does not say which raw values"):
        replace(facts, dtype="uint16")


def test_an_error_with_measurements_travels_between_processes() -> None:
    import pickle

    error = RefusedBundleError("too bad", expected="more", got="less")
    error.measured = "much"
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
