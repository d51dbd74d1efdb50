"""One name, one meaning: the rules for names of modules, classes, functions and variables."""

from __future__ import annotations

import ast
import re
import subprocess
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

from tests.test_architecture import MODULES, ROOT, SOURCES, tree

SAME_IDEA = {
    "chunk": "the arithmetic of a chunk, and the chunk as a task",
    "document": "the page of documentation of recipes, and that of training recipes",
    "pilot": "a pilot, and how a cluster runs one",
    "pool": "what a pool of workers is, and the pool on Ray",
    "sheet": "the GeoTIFFs of a sheet, and the sheet as a task",
}
"""Names that two modules bear because their folders make them two sides of one thing."""
VERB_FOLDERS = {"jobs", "jobs.verbs"}
"""A verb of the command line, and an entry point, bears the name of the function that it calls."""

VERBS_IN_ED = {"need", "feed", "seed", "embed", "exceed", "proceed"}
IRREGULAR = re.compile(
    "told|shown|drawn|made|given|taken|found|known|seen|held|kept|left|lost|built|sent|written|said|spent|begun|done|gone|"
    "met|bound|wound|chosen|broken|frozen|grown|thrown"
)
PARTICIPLES_ALLOWED = {
    "inlined": "marks a field in a declaration, like `setting`",
    "known_architectures": "an adjective: the architectures that are known",
    "stored_chunk_px": "an adjective: the side of a stored chunk",
}
ENDINGS_ALLOWED = {"tiles_of": "`tiling/` reads like geometry"}
UNNAMED = {"found", "told", "asked", "said"}
"""Words that say how a value came, not what it is."""

MAX_ANY_DICTS = 30
MAX_NOQA = 40


def functions() -> Iterator[tuple[str, str]]:
    """Place and name of each function that is no property: a property may be an adjective."""
    for path in SOURCES:
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                decorators = {ast.unparse(decorator).rpartition(".")[2] for decorator in node.decorator_list}
                if not decorators & {"property", "cached_property"}:
                    yield f"{path.relative_to(ROOT)}:{node.lineno}", node.name


def is_participle(word: str) -> bool:
    return IRREGULAR.fullmatch(word) is not None or (word.endswith("ed") and word not in VERBS_IN_ED)


def test_modules_of_one_name_are_two_sides_of_one_thing() -> None:
    places = defaultdict(set)
    for module, path in MODULES.items():
        if path.name != "__init__.py":
            folder, _, name = module.rpartition(".")
            places[name].add(folder)
    twins = {name for name, folders in places.items() if len(folders - VERB_FOLDERS) > 1}
    assert twins | {name for name in SAME_IDEA if len(places[name]) > 1} == set(SAME_IDEA)


def test_classes_have_names_of_their_own() -> None:
    names = Counter(node.name for path in SOURCES for node in ast.walk(tree(path)) if isinstance(node, ast.ClassDef))
    assert [name for name, count in names.items() if count > 1] == []


def test_functions_are_verbs() -> None:
    wrong = {
        place: name
        for place, name in functions()
        if is_participle(name.strip("_").partition("_")[0]) and name not in PARTICIPLES_ALLOWED
    }
    assert wrong == {}, "call it `do_x`, not `x_done`"


def test_functions_say_what_they_do_to_get_a_thing() -> None:
    wrong = {place: name for place, name in functions() if name.endswith("_of") and name not in ENDINGS_ALLOWED}
    assert wrong == {}, "call it `read_x`, `make_x`, `find_x` or `count_x`, not `x_of`"


def test_variables_are_named_after_things() -> None:
    wrong = {
        f"{path.relative_to(ROOT)}:{node.lineno}": name
        for path in SOURCES
        for node in ast.walk(tree(path))
        for name in (
            [node.arg]
            if isinstance(node, ast.arg)
            else [node.id]
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
            else []
        )
        if name in UNNAMED
    }
    assert wrong == {}


def test_types_rarely_give_up() -> None:
    """JSON that comes from outside has a type too: `batchseg.schema.Json`."""
    texts = {path: path.read_text("utf-8") for path in SOURCES}
    any_dicts = sum(text.count("dict[str, Any]") for text in texts.values())
    assert any_dicts <= MAX_ANY_DICTS
    bare_casts = [
        f"{path.relative_to(ROOT)}:{number}"
        for path, text in texts.items()
        for number, line in enumerate(text.splitlines(), start=1)
        if re.search(r"(?<![\w.])(?:typing\.)?cast\(", line) and "#" not in line
    ]
    assert bare_casts == [], "a cast says why in a comment"


def test_rules_are_rarely_suspended() -> None:
    listed = subprocess.run(["git", "ls-files", "*.py"], cwd=ROOT, capture_output=True, text=True, check=False).stdout
    paths = [ROOT / line for line in listed.splitlines() if (ROOT / line).is_file()]
    suspended = sum(path.read_text("utf-8").count("# noqa") for path in paths if path != Path(__file__))
    assert suspended <= MAX_NOQA
