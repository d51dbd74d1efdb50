"""`batchseg model`: what it prints, what it makes, what it refuses."""

from __future__ import annotations

import errno
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from transformers import SegformerConfig, SegformerForSemanticSegmentation

from batchseg.adapt import candidates, check, tune
from batchseg.adapt.candidates import Candidate
from batchseg.model import bundle as bundle_module
from batchseg.model import importing
from batchseg.model.bundle import open_bundle
from batchseg.model.segmenter import open_segmenter
from batchseg.model.torch_graph import load_graph
from jobs.cli import main
from jobs.verbs.model_import import parse_classes
from tests.batchseg.model.model_bundles import write_onnx, write_random
from tests.stac import problems_of

GSD = ["--gsd", "0.3", "0.8"]
BANDS = ["--bands", "red,green,blue"]
CLASSES = ["--classes", "water,3=forest:#00ff7f,road"]
SCALING = ["--mean", "90,100,80", "--std", "40,50,30"]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BATCHSEG_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def downloaded(tmp_path: Path) -> Path:
    """A folder as people download it, small, with shapes that are none of B0 to B5."""
    torch.manual_seed(0)
    config = SegformerConfig(
        hidden_sizes=[8, 16, 24, 32],
        depths=[1, 1, 1, 1],
        num_attention_heads=[1, 1, 2, 2],
        decoder_hidden_size=16,
        id2label={0: "water", 1: "forest", 2: "road"},
        label2id={"water": 0, "forest": 1, "road": 2},
    )
    folder = tmp_path / "segformer"
    SegformerForSemanticSegmentation(config).save_pretrained(folder)
    content = {
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": [0.485, 0.456, 0.406],
        "image_std": [0.229, 0.224, 0.225],
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(content))
    return folder


def imported(*argv: Any) -> int:
    return main(["model", "import", *map(str, argv)])


def test_a_segformer_folder_becomes_a_bundle_that_gives_the_same(downloaded: Path, tmp_path: Path) -> None:
    out = tmp_path / "bundle"
    assert imported(downloaded, out, *BANDS, *GSD) == 0
    bundle = open_bundle(str(out))
    contract = bundle.contract
    assert [c.name for c in contract.classes] == ["water", "forest", "road"]
    assert contract.mean == pytest.approx((0.485 * 255, 0.456 * 255, 0.406 * 255))
    assert problems_of(json.loads((out / "item.json").read_text())) == []
    x = np.random.default_rng(1).integers(0, 256, (1, 3, 64, 64), dtype=np.uint8)
    theirs = SegformerForSemanticSegmentation.from_pretrained(downloaded).eval()
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
    with torch.inference_mode():
        wanted = theirs((torch.from_numpy(x) / 255 - mean) / std).logits
        graph = load_graph(bundle)
        found = graph.network(graph.normalise(torch.from_numpy(x)))
    torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-4)


def test_the_users_words_win_over_the_files(downloaded: Path, tmp_path: Path) -> None:
    argv = ["--bands", "B04=red,B03=green,B02=blue", *CLASSES, *SCALING, *GSD, "--tier", "bulk", "--name", "mine"]
    assert imported(downloaded, tmp_path / "bundle", *argv) == 0
    contract = open_bundle(str(tmp_path / "bundle")).contract
    assert [(b.name, b.common) for b in contract.bands] == [("B04", "red"), ("B03", "green"), ("B02", "blue")]
    assert [(c.id, c.name) for c in contract.classes] == [(0, "water"), (3, "forest"), (2, "road")]
    assert contract.classes[1].rgb == (0, 255, 127)
    assert (contract.mean, contract.std, contract.name, contract.tier) == ((90, 100, 80), (40, 50, 30), "mine", "bulk")


def test_an_onnx_file_becomes_a_bundle(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wanted = write_onnx(tmp_path / "made")
    file = shutil.copy(wanted.weights, tmp_path / "net.onnx")
    argv = [file, tmp_path / "bundle", *BANDS, "--classes", "a,b,c,d", *SCALING, *GSD, "--stride", 8, "--halo", 48]
    assert imported(*argv) == 0
    bundle = open_bundle(str(tmp_path / "bundle"))
    assert problems_of(json.loads((tmp_path / "bundle" / "item.json").read_text())) == []
    x = np.random.default_rng(1).integers(0, 256, (1, 3, 64, 64), dtype=np.uint8)
    assert len(np.unique(open_segmenter(bundle, device="cpu", tile_px=64)(x)[0])) > 1
    assert main(["model", "check", str(bundle.folder)]) == 0
    told = capsys.readouterr().out
    for text in ("1 x 3 x 608 x 608 uint8", "1 x 512 x 512 labels", "ms", "GiB"):
        assert text in told


def test_tensors_in_files_beside_an_onnx_file_come_along(tmp_path: Path) -> None:
    wanted = write_onnx(tmp_path / "made")
    model = onnx.load_from_string(wanted.weights.read_bytes())
    path = tmp_path / "net.onnx"
    onnx.save(model, str(path), save_as_external_data=True, location="net.data", size_threshold=0)
    argv = [path, tmp_path / "bundle", *BANDS, "--classes", "a,b,c,d", *SCALING, *GSD]
    assert imported(*argv) == 0
    (tmp_path / "net.data").unlink()
    x = np.zeros((1, 3, 64, 64), np.uint8)
    open_segmenter(open_bundle(str(tmp_path / "bundle")), device="cpu", tile_px=64)(x)


def no_safetensors(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def no_names(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["id2label"] = {str(i): f"LABEL_{i}" for i in range(3)}
    (folder / "config.json").write_text(json.dumps(config))


def another_model(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "vit"}))


@pytest.mark.parametrize(
    ("change", "more", "what"),
    [
        (no_safetensors, [], "pickles are never loaded"),
        (no_names, [], "does not name its classes"),
        (another_model, [], "expected segformer, got vit"),
        (lambda f: (f / "preprocessor_config.json").unlink(), [], "no file says how the input is scaled"),
        (lambda _: None, ["--bands", "red,green"], "number of bands"),
        (lambda _: None, ["--classes", "water,forest"], "number of classes"),
        (lambda _: None, ["--gsd", "2", "1"], "contradicts itself"),
        (lambda _: None, ["--classes", "water:blue,forest,road"], "this is not a class"),
        (lambda _: None, ["--mean", "90,100,80"], "belong together; expected --mean and --std"),
        (lambda _: None, ["--std", "40,50,30"], "got --std alone"),
        (lambda _: None, ["--dtype", "uint16"], "--range: uint16 does not say which raw values"),
        (lambda _: None, ["--dtype", "float32"], "--range: float32 does not say which raw values"),
        (lambda f: (f / "classes.txt").write_bytes(b"\xff"), ["--classes", "segformer/classes.txt"], "cannot be read"),
        (lambda f: (f / "model.safetensors").write_bytes(b"no tensors"), [], "weights cannot be read"),
    ],
)
def test_what_is_missing_is_asked_for_and_nothing_written(
    change: Any,
    more: list[str],
    what: str,
    downloaded: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    change(downloaded)
    assert imported(downloaded, tmp_path / "bundle", *BANDS, *GSD, *more) == 2
    assert what in capsys.readouterr().err
    assert not list(tmp_path.glob("bundle*"))


@pytest.mark.parametrize("raw", [["--dtype", "uint16", "--range", "0", "10000"], []])
def test_what_is_told_of_raw_values_is_kept(raw: list[str], downloaded: Path, tmp_path: Path) -> None:
    assert imported(downloaded, tmp_path / "bundle", *BANDS, *GSD, *raw) == 0
    contract = open_bundle(str(tmp_path / "bundle")).contract
    assert (contract.dtype, contract.range) == (("uint16", (0, 10000)) if raw else ("uint8", (0, 255)))


def test_no_place_of_its_makers_machine_comes_along(downloaded: Path, tmp_path: Path) -> None:
    config = json.loads((downloaded / "config.json").read_text())
    (downloaded / "config.json").write_text(json.dumps(config | {"_name_or_path": "/home/maker/secret"}))
    assert imported(downloaded, tmp_path / "bundle", *BANDS, *GSD) == 0
    item = (tmp_path / "bundle" / "item.json").read_text()
    assert "/home/maker" not in item
    assert open_bundle(str(tmp_path / "bundle")).contract.lineage.imported.config["model_type"] == "segformer"


def test_a_list_of_classes_may_be_longer_than_the_name_of_a_file(tmp_path: Path) -> None:
    names = [f"a class of ground with number {number}" for number in range(150)]
    assert [c.name for c in parse_classes(",".join(names))] == names
    (tmp_path / "classes.txt").write_text("\n".join(names))
    assert [c.name for c in parse_classes(str(tmp_path / "classes.txt"))] == names


def test_a_disk_that_takes_no_more_is_told_and_nothing_left(
    downloaded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(folder: Path, *_: Any, **__: Any) -> None:
        (folder / "weights.safetensors").write_bytes(b"half of th")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(importing, "write_bundle", full)
    assert imported(downloaded, tmp_path / "bundle", *BANDS, *GSD) == 2
    assert "could not be made; got [Errno 28] No space left on device" in capsys.readouterr().err
    assert not list(tmp_path.glob("bundle*"))
    assert imported(downloaded, tmp_path / ("b" * 300), *BANDS, *GSD) == 2
    assert "File name too long" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["model.pt", "model.pth", "model.pkl", "pytorch_model.bin", "model.h5", "none.onnx"])
def test_other_files_are_refused_unread(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if name != "none.onnx":
        (tmp_path / name).write_bytes(b"c__builtin__\nexit\n.")
    assert imported(tmp_path / name, tmp_path / "bundle", *BANDS, *GSD) == 2
    wanted = "pickles are never loaded" if name.endswith(("t", "h", "l", "bin")) else "can be imported"
    assert wanted in capsys.readouterr().err
    assert not (tmp_path / "bundle").exists()


def write_fixed(folder: Path, side_px: int) -> Path:
    """An ONNX network that takes tiles of one size only."""
    net = onnx.load(write_onnx(folder / "made").weights)
    for size in net.graph.input[0].type.tensor_type.shape.dim[2:]:
        size.dim_value = side_px
    onnx.save(net, folder / "fixed.onnx")
    return folder / "fixed.onnx"


def test_tiles_without_a_core_are_answered_with_the_halo_to_give(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = [write_fixed(tmp_path, 64), tmp_path / "bundle", *BANDS, "--classes", "a,b,c,d", *SCALING, *GSD]
    assert imported(*argv, "--halo", "32") == 2
    assert "Give a --halo of less than 32" in capsys.readouterr().err
    assert imported(*argv, "--halo", "31") == 0


@pytest.mark.parametrize(
    ("side_px", "halo", "expected_px"),
    [(256, [], 32), (224, [], 28), (512, [], 64), (250, [], 28), (64, [], 8), (256, ["--halo", "48"], 48)],
)
def test_a_network_of_one_size_gets_an_eighth_of_it_as_halo(
    side_px: int, halo: list[str], expected_px: int, tmp_path: Path
) -> None:
    argv = [write_fixed(tmp_path, side_px), tmp_path / "bundle", *BANDS, "--classes", "a,b,c,d", *SCALING, *GSD]
    assert imported(*argv, *halo) == 0
    contract = open_bundle(str(tmp_path / "bundle")).contract
    assert (contract.tile_px, contract.halo_px) == (side_px, expected_px)
    if not halo:
        assert (side_px - 2 * contract.halo_px) ** 2 >= 0.56 * side_px**2, "most of a tile is core"


def test_other_networks_get_the_usual_halo(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = [write_onnx(tmp_path / "made").weights, tmp_path / "bundle", *BANDS, "--classes", "a,b,c,d", *SCALING, *GSD]
    assert imported(*argv) == 0
    assert open_bundle(str(tmp_path / "bundle")).contract.halo_px == 64
    with pytest.raises(SystemExit):
        main(["model", "import", "--help"])
    assert "an eighth of the side" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("argv", "what"),
    [
        (["tune", "zoo:synthetic-bulk", "--tiles", "0"], "argument --tiles: 1 or more, not 0"),
        (["tune", "net", "--min-agreement", "1.1"], "argument --min-agreement: 0 to 1, not 1.1"),
        (["tune", "net", "--min-agreement", "nan"], "argument --min-agreement: 0 to 1, not nan"),
        (["tune", "net", "--min-agreement", "most"], "argument --min-agreement: 0 to 1, not most"),
        (["import", "net.onnx", "out", *BANDS, *GSD, "--mean", "90,x"], "numbers like 90.5,100, not '90,x'"),
    ],
)
def test_numbers_that_cannot_be_meant(argv: list[str], what: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["model", *argv])
    assert what in capsys.readouterr().err


@pytest.mark.parametrize("drop", ["--classes", "--mean", "--std"])
def test_an_onnx_file_needs_what_it_does_not_say(drop: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wanted = write_onnx(tmp_path / "made")
    argv = [*BANDS, "--classes", "a,b,c,d", *SCALING, *GSD]
    at = argv.index(drop)
    assert imported(wanted.weights, tmp_path / "bundle", *argv[:at], *argv[at + 2 :]) == 2
    assert "does not say" in capsys.readouterr().err


def test_show_prints_the_contract_and_checks_the_weights(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundle = write_random(tmp_path)
    assert main(["model", "show", str(tmp_path)]) == 0
    told = capsys.readouterr().out
    for text in ("red, green, blue", "0.3 to 0.8 m", "10 class 1 #2802c8", "multiple of 8 px", bundle.digest):
        assert text in told
    bundle.weights.write_bytes(b"others")
    assert main(["model", "show", str(tmp_path)]) == 2
    assert "not those of the contract" in capsys.readouterr().err


@pytest.mark.parametrize("action", [["check"], ["tune", "--dry-run"]])
def test_weights_are_checked_where_a_converted_graph_would_run_without_them(
    action: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = write_random(tmp_path)
    content = bytearray(bundle.weights.read_bytes())
    content[-1] ^= 1
    bundle.weights.write_bytes(content)

    def tried(*_: Any, **__: Any) -> None:
        raise AssertionError("weights that are not those of the contract were run")

    monkeypatch.setattr(check, "run_trial", tried)
    monkeypatch.setattr(candidates, "run_trial", tried)
    assert main(["model", *action, str(tmp_path), "--device", "cpu"]) == 2
    assert "not those of the contract" in capsys.readouterr().err


@pytest.mark.parametrize("remote", [True, False])
def test_what_is_not_ones_own_is_copied_before_it_is_tuned(
    remote: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_random(tmp_path / "some net").folder
    ref = "https://models.example/some net" if remote else "zoo:some net"
    monkeypatch.setattr(bundle_module, "fetch_bundle", lambda *_: folder)
    monkeypatch.setattr(bundle_module, "ZOO", tmp_path)
    found = Candidate(
        replace(open_bundle(str(folder)).contract.numerics["cpu"], seconds_per_tile=1.0, agreement=1.0), None
    )
    monkeypatch.setattr(tune, "measure_candidates", lambda *_, **__: [found])
    before = (folder / "item.json").read_bytes()
    command = ["model", "tune", "--device", "cpu", "--tiles", "1"]
    assert main([*command, ref]) == 2
    assert f"`cp -r '{folder}' 'my-some net'`" in capsys.readouterr().err
    assert main([*command, ref, "--dry-run"]) == 0
    assert (folder / "item.json").read_bytes() == before
    assert main([*command, str(folder)]) == 0
    assert (folder / "item.json").read_bytes() != before


def test_eight_bits_are_not_said_to_be_float32(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["model", "show", "zoo:aerial-bulk-int8"]) == 0
    told = capsys.readouterr().out
    assert "100.00% of labels as its own quantised weights give them" in told
    assert "99.24% of labels as aerial-bulk gives them in float32" in told
    assert "as in float32" not in told


def test_an_unknown_network_is_refused_before_anything_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_random(tmp_path / "net")
    path = tmp_path / "net" / "item.json"
    item = json.loads(path.read_text())
    item["properties"]["batchseg:architecture"] = {"kind": "vgg", "depth": 16}
    path.write_text(json.dumps(item))
    for command in (["model", "show", str(path.parent)], ["model", "check", str(path.parent)]):
        assert main(command) == 2
        told = capsys.readouterr().err
        assert "architecture: kind: the contract cannot be understood" in told
        assert "expected bulknet or unet or segformer or onnx, got 'vgg'" in told
