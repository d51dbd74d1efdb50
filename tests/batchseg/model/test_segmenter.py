from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from batchseg.errors import BundleError
from batchseg.model import openvino_segmenter, torch_graph
from batchseg.model.architecture import BulkNetSpec, SegformerSpec
from batchseg.model.bundle import Bundle, open_bundle, zoo_names
from batchseg.model.segmenter import open_segmenter
from batchseg.scene.bands import BandWanted
from batchseg.synth import render
from tests.batchseg.model.model_bundles import on_cpu, write_random

SIDE = 64
CHOICES = [("torch", "float32"), ("torch", "bfloat16"), ("openvino", "float32"), ("openvino", "bfloat16")]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BATCHSEG_CACHE", str(tmp_path / "cache"))


def tiles(count: int, *, seed: int = 0, bands: int = 3) -> NDArray[np.uint8]:
    """Smooth ground with some noise, so that labels are neither all one nor all noise."""
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 256, (count, bands, SIDE // 8, SIDE // 8))
    fine = coarse.repeat(8, 2).repeat(8, 3) + random.normal(0, 8, (count, bands, SIDE, SIDE))
    return np.clip(fine, 0, 255).astype(np.uint8)


def opened(folder: Path, backend: str, precision: str, **changes: Any) -> Any:
    numerics = {k: changes.pop(k) for k in ("batch", "threads", "streams") if k in changes}
    bundle = write_random(folder, numerics=on_cpu(backend=backend, precision=precision, **numerics), **changes)
    return open_segmenter(bundle, device="cpu", tile_px=SIDE)


@pytest.mark.parametrize(("backend", "precision"), CHOICES)
def test_the_same_bytes_whatever_the_neighbours_and_however_often(backend: str, precision: str, tmp_path: Path) -> None:
    segment = opened(tmp_path, backend, precision, batch=3)
    assert segment.batch == 3
    a, b = tiles(3), tiles(3, seed=9)
    labels, confidence = segment(a)
    assert (labels.dtype, confidence.dtype, labels.shape, confidence.shape) == (
        "u1",
        "u1",
        (3, SIDE, SIDE),
        labels.shape,
    )
    assert len(np.unique(labels)) > 1
    assert confidence.max() < 255
    kept = labels.copy(), confidence.copy()
    for place in range(3):
        mixed = b.copy()
        mixed[place] = a[1]
        others = segment(mixed)
        np.testing.assert_array_equal(others[0][place], kept[0][1])
        np.testing.assert_array_equal(others[1][place], kept[1][1])
    padded = np.zeros_like(a)
    padded[0] = a[0]
    np.testing.assert_array_equal(segment(padded)[1][0], kept[1][0])
    again = segment(a)
    np.testing.assert_array_equal(again[0], kept[0])
    np.testing.assert_array_equal(again[1], kept[1])
    # What was given out first is still what it was: answers do not share memory with the next ones.
    np.testing.assert_array_equal(labels, kept[0])
    np.testing.assert_array_equal(confidence, kept[1])


def test_the_backends_agree(tmp_path: Path) -> None:
    x = tiles(2)
    answers = {one: opened(tmp_path / "-".join(one), *one)(x) for one in CHOICES}
    exact_labels, exact_confidence = answers["torch", "float32"]
    for one, (labels, confidence) in answers.items():
        agreement, limit = (labels == exact_labels).mean(), 0.9995 if one[1] == "float32" else 0.97
        assert agreement >= limit, one
        assert np.abs(confidence.astype(int) - exact_confidence).mean() < (0.05 if one[1] == "float32" else 3), one


@pytest.mark.parametrize(("backend", "precision"), CHOICES)
def test_tiles_of_another_shape_are_refused(backend: str, precision: str, tmp_path: Path) -> None:
    segment = opened(tmp_path, backend, precision)
    for wrong in (tiles(1), tiles(3), tiles(2)[:, :, :32], tiles(2, bands=4)):
        with pytest.raises(ValueError, match="tiles must be of shape"):
            segment(wrong)


@pytest.mark.parametrize("backend", ["torch", "openvino"])
def test_float_input_and_four_bands(backend: str, tmp_path: Path) -> None:
    bands = tuple(BandWanted(name=name, common=name) for name in ("red", "green", "blue", "nir"))
    changes: dict[str, Any] = {"bands": bands, "mean": (1e3,) * 4, "std": (500.0,) * 4}
    segment = opened(tmp_path, backend, "float32", dtype="uint16", range=(0.0, 10_000.0), **changes)
    labels, _ = segment(tiles(2, bands=4).astype(np.float32) * 8)
    assert len(np.unique(labels)) > 1


def test_a_tile_that_the_network_cannot_take_is_refused(tmp_path: Path) -> None:
    bundle = write_random(tmp_path, stride_px=32)
    with pytest.raises(BundleError, match="do not fit the network"):
        open_segmenter(bundle, device="cpu", tile_px=80)


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    bundle = write_random(tmp_path)
    item = json.loads((tmp_path / "item.json").read_text())
    item["properties"]["batchseg:architecture"]["width"] = 16
    (tmp_path / "item.json").write_text(json.dumps(item))
    with pytest.raises(BundleError, match="not of this architecture"):
        torch_graph.load_graph(open_bundle(str(bundle.folder)))


def test_damaged_weights_are_refused_at_opening(tmp_path: Path) -> None:
    bundle = write_random(tmp_path)
    path = tmp_path / "weights.safetensors"
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(BundleError, match="not those of the contract"):
        open_segmenter(bundle, device="cpu", tile_px=SIDE)


def cached(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "cache" / "openvino").iterdir())


def test_a_converted_graph_is_kept_and_never_half(tmp_path: Path) -> None:
    bundle = write_random(tmp_path / "bundle")
    x = tiles(2)
    first = open_segmenter(bundle, device="cpu", tile_px=SIDE)(x)
    (kept,) = cached(tmp_path)
    assert sorted(path.name for path in kept.iterdir()) == ["digests.json", "graph.bin", "graph.xml"]
    before = (kept / "graph.xml").stat().st_mtime_ns
    second = open_segmenter(bundle, device="cpu", tile_px=SIDE)(x)
    assert (kept / "graph.xml").stat().st_mtime_ns == before
    np.testing.assert_array_equal(first[1], second[1])
    open_segmenter(bundle, device="cpu", tile_px=2 * SIDE)
    assert len(cached(tmp_path)) == 2


def test_a_change_of_our_own_code_makes_a_new_graph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = write_random(tmp_path / "bundle")
    open_segmenter(bundle, device="cpu", tile_px=SIDE)
    monkeypatch.setattr(openvino_segmenter, "_hash_code", lambda: "another")
    open_segmenter(bundle, device="cpu", tile_px=SIDE)
    assert len(cached(tmp_path)) == 2


SCRIPT = """
import sys
import numpy as np
from batchseg.model.bundle import open_bundle
from batchseg.model.segmenter import open_segmenter
segment = open_segmenter(open_bundle(sys.argv[1]), device="cpu", tile_px=64)
x = np.zeros((2, 3, 64, 64), np.uint8)
labels, confidence = segment(x)
print(*(name for name in ("torch", "transformers", "openvino_telemetry.main") if name in sys.modules))
"""


def start(bundle: Bundle, tmp_path: Path) -> list[str]:
    environment = os.environ | {"HOME": str(tmp_path / "home")}
    (tmp_path / "home").mkdir(exist_ok=True)
    command = [sys.executable, "-c", SCRIPT, str(bundle.folder)]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    # OpenVINO's reporting would keep its counters there.
    assert not list((tmp_path / "home").iterdir())
    return result.stdout.split()


def test_only_the_first_worker_of_a_machine_imports_torch_and_none_reports_home(tmp_path: Path) -> None:
    bundle = write_random(tmp_path / "bundle")
    assert start(bundle, tmp_path) == ["torch"]
    assert start(bundle, tmp_path) == []


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_streams_give_the_bytes_of_one_tile_alone_however_many_come(precision: str, tmp_path: Path) -> None:
    alone = opened(tmp_path / "one", "openvino", precision, batch=1, threads=1)
    streams = opened(tmp_path / "two", "openvino", precision, batch=5, threads=2, streams=2)
    many = tiles(5)
    wanted = [[answer[0].copy() for answer in alone(many[i : i + 1])] for i in range(5)]
    for num in (5, 1, 3):
        for labels, confidence in [streams(many[:num])] * 2:
            assert len(labels) == len(confidence) == num
            for i in range(num):
                np.testing.assert_array_equal(labels[i], wanted[i][0])
                np.testing.assert_array_equal(confidence[i], wanted[i][1])
    with pytest.raises(ValueError, match="tiles must be of shape"):
        streams(many[:, :, :32])


ARCHITECTURES = {
    "bulk": BulkNetSpec(width=8),
    "segformer": SegformerSpec(size="b0"),
    "details": SegformerSpec(size="b0", decoder=64, detail=16),
}


@pytest.mark.parametrize("halo_px", [4, 8, 6], ids=["a cell", "two cells", "a cell and a half"])
@pytest.mark.parametrize(("backend", "streams"), [("openvino", 1), ("openvino", 2), ("torch", 1)])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_without_its_halo_a_tile_gives_the_bytes_that_it_gives_with_it(
    name: str, backend: str, streams: int, halo_px: int, tmp_path: Path
) -> None:
    numerics = on_cpu(backend=backend, precision="bfloat16", streams=streams)
    bundle = write_random(tmp_path, architecture=ARCHITECTURES[name], numerics=numerics, stride_px=32)
    x, inside = tiles(2), slice(halo_px, SIDE - halo_px)
    whole = open_segmenter(bundle, device="cpu", tile_px=SIDE)(x)
    core = open_segmenter(bundle, device="cpu", tile_px=SIDE, halo_px=halo_px)(x)
    for ours, theirs in zip(core, whole, strict=True):
        np.testing.assert_array_equal(ours, theirs[:, inside, inside])


@pytest.mark.parametrize("extra", [{}, {"decoder": 64, "detail": 16}], ids=["as published", "with details"])
@pytest.mark.parametrize(("backend", "precision"), [("openvino", "bfloat16"), ("torch", "bfloat16")])
def test_segformer(backend: str, precision: str, extra: dict[str, Any], tmp_path: Path) -> None:
    numerics = on_cpu(backend=backend, precision=precision)
    architecture = SegformerSpec(size="b0", **extra)
    bundle = write_random(tmp_path, architecture=architecture, numerics=numerics, stride_px=32)
    segment = open_segmenter(bundle, device="cpu", tile_px=SIDE)
    a, b = tiles(2), tiles(2, seed=5)
    wanted, mixed = segment(a), segment(np.stack([b[0], a[1]]))
    for ours, theirs in zip(wanted, mixed, strict=True):
        np.testing.assert_array_equal(ours[1], theirs[1])
    for ours, again in zip(wanted, segment(a), strict=True):
        np.testing.assert_array_equal(ours, again)


@pytest.mark.parametrize("name", zoo_names())
def test_what_is_shipped_gives_the_same_bytes_whatever_the_neighbours(name: str, tmp_path: Path) -> None:
    bundle = open_bundle(f"zoo:{name}")
    side = 160
    pixels, _ = render(7, None, slice(0, side), slice(0, 6 * side))
    segment = open_segmenter(bundle, device="cpu", tile_px=side)
    at = [pixels[:, :, i * side : (i + 1) * side] for i in range(6)]
    batch = segment.batch
    wanted = segment(np.stack([at[0], *at[1:]][:batch]))
    mixed = segment(np.stack([at[0], *(np.zeros_like(at[0]) for _ in range(5))][:batch]))
    for ours, theirs in zip(wanted, mixed, strict=True):
        np.testing.assert_array_equal(ours[0], theirs[0])
