"""What of a bundle does not fit is found before any work: exit status 2, one line that says what to do, no output."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from batchseg.errors import InputError
from batchseg.recipe.recipe import Models
from batchseg.scene.bands import BandWanted
from batchseg.schema import plain
from jobs.cli import main
from tests.runs import CLASSES, Workplace, noise, write_fake_bundle

FOUR = tuple(BandWanted(name=name, common=name) for name in ("red", "green", "blue", "swir16"))
Make = Callable[[Path], Any]


def bundle(**changes: Any) -> Make:
    return lambda folder: {"models": Models(bulk=write_fake_bundle(folder / "own", **changes))}


def damaged(folder: Path) -> Any:
    ref = write_fake_bundle(folder / "own")
    path = folder / "own" / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    return {"models": Models(bulk=ref)}


def pickled(folder: Path) -> Any:
    ref = write_fake_bundle(folder / "own")
    item = json.loads((folder / "own" / "item.json").read_text())
    item["assets"]["weights"]["href"] = "weights.pt"
    (folder / "own" / "item.json").write_text(json.dumps(item))
    return {"models": Models(bulk=ref)}


def two_class_lists(folder: Path) -> Any:
    other = (*CLASSES[:-1], replace(CLASSES[-1], name="lava"))
    return {
        "models": Models(
            bulk=write_fake_bundle(folder / "own"), heavy=write_fake_bundle(folder / "own-heavy", classes=other)
        )
    }


def too_many_classes(folder: Path) -> Any:
    ref = write_fake_bundle(folder / "own")
    item = json.loads((folder / "own" / "item.json").read_text())
    one = item["properties"]["mlm:output"][0]["classification:classes"][0]
    many = [one | {"value": 300 + i, "name": f"class {i}"} for i in range(256)]
    item["properties"]["mlm:output"][0]["classification:classes"] = many
    (folder / "own" / "item.json").write_text(json.dumps(item))
    return {"models": Models(bulk=ref)}


REFUSED: dict[str, tuple[Make, str, str]] = {
    "weights of another digest": (damaged, "not those of the contract", "Fetch the bundle again"),
    "weights that may be a pickle": (pickled, "never loaded", "batchseg model import"),
    "a missing band": (
        bundle(bands=FOUR, mean=(90.0,) * 4, std=(50.0,) * 4),
        "names no band as the model's swir16",
        "bands: [1, 2, 3, 3]",
    ),
    "pixels too large": (bundle(gsd_m=(0.1, 0.5)), "not of the size that the model knows", "accept: [gsd]"),
    "pixels too small": (bundle(gsd_m=(5.0, 20.0)), "not of the size that the model knows", "accept: [gsd]"),
    "another data type": (bundle(dtype="uint16", range=(0.0, 10_000.0)), "data type is not the model's", "scale:"),
    "another class list": (two_class_lists, "different classes", "one class list"),
    "a side that does not fit": (
        bundle(stride_px=64, halo_px=8),
        "do not fit the network",
        "`tiling: {core: 16, chunk: 32, halo: {bulk: 24}}`",
    ),
    "another side than the only one": (
        bundle(tile_px=64),
        "one size only",
        "Write `tiling: {core: 48, chunk: 48}`",
    ),
    "too many classes": (too_many_classes, "contradicts itself", "255"),
    "a device without numerics": (lambda _: {}, "never tuned for cuda", "give the pool a device that it was tuned for"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_before_anything_is_written(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make, what, todo = REFUSED[name]
    place = Workplace.of(tmp_path, noise(40, 40))
    recipe = place.recipe(**make(tmp_path))
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(plain(recipe)))
    argv = ["run", str(tmp_path / "recipe.yaml"), "--quiet"]
    if "device" in name:
        (tmp_path / "fleet.yaml").write_text("pools: [{device: cuda}]")
        argv += ["--fleet", str(tmp_path / "fleet.yaml")]
    assert main(argv) == 2
    told = capsys.readouterr().err.strip()
    assert what in told
    assert todo in told
    assert "\n" not in told
    assert not place.output.exists()


@pytest.mark.parametrize(
    ("changes", "accepted"),
    [({"gsd_m": (5.0, 20.0)}, "gsd"), ({"dtype": "uint16", "range": (0.0, 255.0)}, "dtype")],
)
def test_what_is_accepted_runs(changes: dict[str, Any], accepted: str, tmp_path: Path) -> None:
    place = Workplace.of(tmp_path, noise(40, 40), **bundle(**changes)(tmp_path))
    with pytest.raises(InputError):
        place.run()
    assert place.run(accept=(accepted,)).exit_status == 0


def test_bands_come_by_common_name_whatever_the_order(tmp_path: Path) -> None:
    """The model calls them B04, B03, B02; the scene says what they are."""
    bands = tuple(BandWanted(name=n, common=c) for n, c in (("B04", "red"), ("B03", "green"), ("B02", "blue")))
    pixels = noise(40, 40)
    by_name = Workplace.of(tmp_path, pixels, **bundle(bands=bands)(tmp_path))
    first = by_name.run()
    by_index = by_name.run(bands=(1, 2, 3), output=str(tmp_path / "again"))
    for one in ("labels.tif", "tier.tif"):
        assert (first.output / "scene0" / one).read_bytes() == (by_index.output / "scene0" / one).read_bytes()
