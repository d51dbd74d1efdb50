"""What the documents say is true: defaults, links, files, commands."""

from __future__ import annotations

import re
import shlex
import subprocess
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import rasterio

from batchseg.recipe import load_fleet, load_recipe
from batchseg.recipe.document import document
from batchseg.recipe.load import load_as
from batchseg.runs.night import Night
from batchseg.training import document as training
from batchseg.training.checks import load_train_recipe
from batchseg.training.ground import read_ground
from batchseg.training.rasters import UNLABELLED, check_rasters
from jobs.cli import EPILOG, build_parser
from jobs.python_page import make_page as make_python_page
from tests.batchseg.scene.scene_rasters import UTM, noise, write

ROOT = Path(__file__).parents[2]
README, ARCHITECTURE = ROOT / "README.md", ROOT / "ARCHITECTURE.md"
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
OF_THE_WORKPLACE = ("/" + "work/", "/tmp/" + "lab")

pytestmark = pytest.mark.skipif(not (ROOT / ".git").exists(), reason="git tells which files are ours")


@cache
def files() -> tuple[str, ...]:
    """Of this repository, with those that are not committed yet."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    return tuple(path for path in found if path and (ROOT / path).is_file())


@cache
def pages() -> dict[str, str]:
    return {path: (ROOT / path).read_text("utf-8") for path in files() if path.endswith(".md")}


def code(text: str, language: str) -> list[str]:
    return [body for name, body in FENCE.findall(text) if name == language]


def test_the_page_of_recipes_is_made_from_the_code() -> None:
    assert (ROOT / "docs" / "recipe.md").read_text("utf-8") == document(), "run `make docs`"
    assert (ROOT / "docs" / "training.md").read_text("utf-8") == training.make_page(), "run `make docs`"


def test_the_page_of_python_is_made_from_the_docstrings() -> None:
    assert (ROOT / "docs" / "python.md").read_text("utf-8") == make_python_page(), "run `make docs`"


def test_the_training_recipe_of_the_page_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It can be read, and rasters as the page says are taken."""
    (text,) = code((ROOT / "docs" / "training.md").read_text("utf-8"), "yaml")
    monkeypatch.chdir(tmp_path)
    Path("town.yaml").write_text(text)
    recipe = load_train_recipe(Path("town.yaml"))
    assert [c.name for c in recipe.class_list] == ["ground", "building"]
    place = UTM | {"transform": rasterio.Affine(0.5, 0, 500_000, 0, -0.5, 5_000_000)}
    for raster in (raster for spec in recipe.grounds for raster in spec.rasters):
        write(Path(raster.image), noise(3, 80, 96), names=("red", "green", "blue"), **place)
        write(Path(str(raster.labels)), noise(1, 80, 96, low=0) % 2, **place)
    check_rasters(recipe)
    ground = read_ground(recipe.train, recipe)
    assert set(np.unique(ground.labels_WHW)) == {0, 1, UNLABELLED}


def test_the_recipe_of_the_readme_can_be_read(tmp_path: Path) -> None:
    (recipe,) = code(README.read_text("utf-8"), "yaml")
    path = tmp_path / "recipe.yaml"
    path.write_text(recipe)
    assert load_recipe(path).models.bulk is not None


def test_shipped_recipes_and_fleets_can_be_read() -> None:
    ours = [path for path in files() if re.fullmatch(r"configs/\w+\.yaml", path)]
    assert ours
    for path in ours:
        if "nightly" in path:
            load_as(Night, ROOT / path, "night")
        else:
            (load_fleet if "fleet" in path else load_recipe)(ROOT / path)


def test_python_in_the_documents_compiles() -> None:
    blocks = [(path, block) for path, text in pages().items() for block in code(text, "python")]
    assert blocks
    for path, block in blocks:
        compile(block, path, "exec")


def test_links_lead_somewhere() -> None:
    broken = [
        f"{path}: {target}"
        for path, text in pages().items()
        for target in re.findall(r"\]\(([^)\s]+)\)", FENCE.sub("", text))
        if "://" not in target
        and not target.startswith("#")
        and not (ROOT / path).parent.joinpath(target.partition("#")[0]).exists()
    ]
    assert broken == []


def test_files_that_documents_name_are_there() -> None:
    """By whole path, or by the end of one, as in `runs/drive.py`."""
    missing = [
        f"{path}: {name}"
        for path, text in pages().items()
        if path in ("README.md", "ARCHITECTURE.md") or path.startswith("docs/")
        for name in re.findall(r"`([\w./-]+\.(?:py|yaml|md))`", text)
        if not any(f"/{known}".endswith(f"/{name}") for known in files()) and name not in EXAMPLES
    ]
    assert missing == []


EXAMPLES = {"recipe.yaml", "fleet.yaml", "ray_cluster.yaml"}


def test_every_invariant_names_a_test() -> None:
    rows = re.findall(r"^\| (I\d+) \|(.*)\|$", ARCHITECTURE.read_text("utf-8"), re.MULTILINE)
    assert [name for name, _ in rows] == [f"I{i}" for i in range(1, 10)]
    for name, row in rows:
        assert re.search(r"`[\w/]*\w+\.py`", row), name


def commands(text: str) -> list[str]:
    """Whole commands: in blocks, and between backticks where they have arguments."""
    lines = [line.partition("#")[0] for line in text.splitlines() if re.match(r"\s+batchseg \w+ ", line)]
    return [line.strip() for line in lines] + re.findall(r"`(batchseg \w+ [^`]+)`", text)


def test_commands_of_the_documents_can_be_given() -> None:
    shown = [command for text in pages().values() for command in commands(text)]
    shown += [re.split(r"\s{2,}", line.strip())[0] for line in EPILOG.splitlines() if line.startswith("  batchseg ")]
    assert len(shown) > 8
    for command in shown:
        arguments = [word for word in shlex.split(command)[1:] if word not in ("…", "...")]
        try:
            build_parser().parse_args(arguments)
        except SystemExit as stopped:
            pytest.fail(f"{command!r} is no command ({stopped})")


def test_targets_of_make_are_there() -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    shown = {
        target for text in pages().values() for target in re.findall(r"(?:`|^    )make ([\w-]+)", text, re.MULTILINE)
    }
    assert shown
    assert shown <= targets


def test_nothing_speaks_of_the_machine_it_was_written_on() -> None:
    for path in files():
        content = (ROOT / path).read_bytes()
        for word in OF_THE_WORKPLACE:
            assert word.encode() not in content, f"{path} mentions {word}"
