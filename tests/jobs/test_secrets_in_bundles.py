"""Bundles are given away: neither their items and cards nor what lies beside them shows a credential."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from batchseg.model.bundle import open_bundle
from batchseg.zoo import __path__ as zoo_path
from jobs.cli import main
from tests.batchseg.training.test_rasters import write_pair
from tests.jobs.planted_secrets import QUERY, WORD, check, host, place, plant

__all__ = ["host", "place", "plant"]
pytestmark = pytest.mark.timeout(200)


def write_training(place: Path, host: str, query: str, **changes: Any) -> str:
    """A training on two pairs of rasters behind signed addresses."""
    ground = [
        {
            "rasters": [
                {"image": f"http://{host}/{name}.tif?{query}", "labels": f"http://u:{WORD}P1@{host}/{name}_labels.tif"}
            ],
            "window_px": 64,
        }
        for name in ("town", "village")
    ]
    values = {
        "name": "signed-net",
        "tier": "bulk",
        "architecture": {"kind": "bulknet", "width": 8},
        "halo_px": 16,
        "train": ground[0],
        "validate": ground[1],
        "classes": [{"id": 7, "name": "dark", "rgb": [0, 0, 0]}, {"id": 2, "name": "bright", "rgb": [255, 255, 0]}],
        "gsd_m": [5.0, 20.0],
        "crop_px": 32,
        "batch": 2,
        "steps": 4,
        "checkpoint_every": 2,
        "threads": 1,
        "data": f"ground from https://user:{WORD}Data01@host/town?sig={WORD}{'x' * 120}",
        "limits": f"fetched with Authorization: Bearer {WORD}Limits01",
    }
    (place / "training.yaml").write_text(yaml.safe_dump(values | changes))
    return str(place / "training.yaml")


def test_a_trained_bundle(place: Path, host: str, capfd: pytest.CaptureFixture[str]) -> None:
    for name in ("town", "village"):
        write_pair(place.parent / "inputs", name)
    out = str(place / "net")
    assert main(["train", write_training(place, host, QUERY), out, "--device", "cpu"]) == 0
    check(place, capfd)
    item = (place / "net" / "item.json").read_text()
    assert f"http://{host}/town.tif" in item
    again = write_training(place, host, QUERY.replace("Signature0123", "Another9876"), steps=6)
    assert main(["train", again, out, "--device", "cpu"]) == 0, "a new signature is the same training"
    assert main(["model", "show", out]) == 0
    check(place, capfd)


def test_a_bundle_that_is_made_on_a_signed_scene(place: Path, host: str, capfd: pytest.CaptureFixture[str]) -> None:
    inputs = place.parent / "inputs"
    assert main(["synth", str(inputs / "town"), "--size", "1600"]) == 0
    scene, labels = (f"http://{host}/town/{name}.tif?{QUERY}" for name in ("scene", "labels"))
    command = ["quantize", "zoo:synthetic-bulk", str(place / "small"), "--to", "bfloat16", "--tiles", "4"]
    assert main([*command, "--calibrate", scene, "--labels", labels]) == 0
    check(place, capfd)
    assert json.loads((place / "small" / "item.json").read_text())["id"]


def test_a_bundle_behind_a_signed_address(place: Path, host: str, capfd: pytest.CaptureFixture[str]) -> None:
    """The query stays behind each of its files, and the cache is not called by it."""
    shipped = Path(next(iter(zoo_path))) / "synthetic-bulk"
    bundle = place.parent / "inputs" / "net"
    bundle.mkdir()
    for name in ("item.json", open_bundle("zoo:synthetic-bulk").weights.name):
        (bundle / name).write_bytes((shipped / name).read_bytes())
    assert main(["model", "show", f"http://{host}/net?{QUERY}"]) == 0
    assert main(["model", "show", f"http://{host}/net?{QUERY.replace('Signature0123', 'Another9876')}"]) == 0
    told = check(place, capfd)
    assert "synthetic-bulk" in told
    assert len(list((place.parent / "BATCHSEG_CACHE" / "bundles").iterdir())) == 1
