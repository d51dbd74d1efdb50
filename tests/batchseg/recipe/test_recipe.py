from __future__ import annotations

import time
from dataclasses import fields, is_dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from batchseg.errors import RecipeError
from batchseg.recipe import (
    Fleet,
    Models,
    NodataPolicy,
    PoolSpec,
    Priority,
    Recipe,
    Retries,
    Route,
    Tiling,
    load_fleet,
    load_recipe,
)
from batchseg.recipe.recipe import Halo
from batchseg.schema import build, plain
from tests.strategies import quick, thorough

BASE = "scenes: [a.tif]\noutput: out\nmodels: {bulk: zoo:x, heavy: zoo:y}\n"


@pytest.fixture
def recipe_file(tmp_path: Path) -> Path:
    return tmp_path / "my recipe.yaml"


def test_the_least_recipe_has_every_default(recipe_file: Path) -> None:
    recipe_file.write_text("scenes: [a.tif]\noutput: out\nmodels: {bulk: zoo:x}\n")
    recipe = load_recipe(recipe_file)
    assert recipe == Recipe(scenes=("a.tif",), output="out", models=Models(bulk="zoo:x"))
    assert (recipe.tiling.core, recipe.tiling.chunk, recipe.tiling.halo) == (512, 4096, Halo(bulk=None, heavy=None))
    assert (recipe.nodata.from_, recipe.nodata.value, recipe.nodata.rule) == ("auto", None, "all")
    assert recipe.outputs == ("labels", "confidence", "tier")
    assert (recipe.route.priority, recipe.labels, recipe.aoi, recipe.bands) == ((), (), None, None)
    assert (recipe.scale, recipe.accept) == (None, ())


def test_a_full_recipe_is_read_as_it_is_written(recipe_file: Path) -> None:
    recipe_file.write_text(
        BASE
        + "tiling: {core: 256, chunk: 1024, halo: {heavy: 64}}\n"
        + "route: {priority: [{polygons: towns.gpkg, where: \"kind = 'town'\"}, {polygons: roads.gpkg}]}\n"
        + "labels: [ref.tif, null]\naoi: aoi.geojson\nbands: [nir, 2, 2]\nscale: [0, 10000]\n"
        + "nodata: {from: value, value: -9999, rule: any}\naccept: [gsd]\noutputs: [labels]\n"
    )
    assert load_recipe(recipe_file) == Recipe(
        scenes=("a.tif",),
        output="out",
        models=Models(bulk="zoo:x", heavy="zoo:y"),
        tiling=Tiling(core=256, chunk=1024, halo=Halo(heavy=64)),
        route=Route(priority=(Priority(polygons="towns.gpkg", where="kind = 'town'"), Priority(polygons="roads.gpkg"))),
        labels=("ref.tif", None),
        aoi="aoi.geojson",
        bands=("nir", 2, 2),
        scale=(0.0, 10000.0),
        nodata=NodataPolicy(from_="value", value=-9999.0, rule="any"),
        accept=("gsd",),
        outputs=("labels",),
    )


REFUSED = {
    # unknown keys, at any depth
    BASE + "tilling: {}\n": "unknown key `tilling`. Did you mean `tiling`?",
    BASE + "tiling: {cor: 8}\n": "tiling: unknown key `cor`. Did you mean `core`?",
    BASE + "tiling: {halo: {bulc: 8}}\n": "tiling: halo: unknown key `bulc`. Did you mean `bulk`?",
    BASE + "route: {priority: [{polygons: a}, {polygon: b}]}\n": "priority[1]: unknown key `polygon`. Did you mean",
    BASE + "nodata: {from_: value}\n": "nodata: unknown key `from_`. Did you mean `from`?",
    BASE + "zzz: 1\n": "unknown key `zzz`. Valid keys are scenes, output, models",
    BASE + "~: 1\n": "unknown key `None`",
    BASE + "7: 1\n": "unknown key `7`",
    # wrong types
    BASE.replace("[a.tif]", "a.tif"): "scenes: wrong value; expected a list like [a, b], got 'a.tif'",
    BASE.replace("[a.tif]", "[a.tif, 3]"): "scenes[1]: wrong value; expected text, got 3",
    BASE + "tiling: 5\n": "tiling: this must be a mapping; expected key: value lines, got 5",
    BASE + "tiling:\n": "tiling: this must be a mapping; expected key: value lines, got None",
    BASE + "tiling: {core: 512.0}\n": "tiling: core: wrong value; expected a whole number, got 512.0",
    BASE + "tiling: {core: true}\n": "tiling: core: wrong value; expected a whole number, got True",
    BASE + "tiling: {halo: {bulk: wide}}\n": "tiling: halo: bulk: wrong value; expected a whole number, got 'wide'",
    BASE + "scale: [0]\n": "scale: wrong value; expected 2 values, got [0]",
    BASE + "scale: [0, high]\n": "scale[1]: wrong value; expected a number, got 'high'",
    BASE + f"scale: [0, 1{'0' * 400}]\n": "scale[1]: wrong value; expected a number",
    BASE + "bands: [true]\n": "bands[0]: wrong value; expected int or str, got True",
    BASE + "outputs: [label]\n": "outputs[0]: wrong value; expected labels or confidence or tier, got 'label'. "
    "Did you mean `labels`?",
    BASE + "nodata: {from: maybe}\n": "nodata: from: wrong value; expected auto or value or alpha or mask or none",
    BASE + "aoi: 2024-01-01\n": "aoi: wrong value; expected text, got datetime.date",
    # what cannot be meant
    BASE.replace("[a.tif]", "[]"): "scenes: a recipe must name a scene",
    BASE.replace("output: out", "output: ''"): "output: a recipe must name an output folder",
    BASE.replace("{bulk: zoo:x, heavy: zoo:y}", "{}"): "models: a recipe must name a model",
    BASE + "tiling: {core: 500, chunk: 4096}\n": "a chunk must be a whole number of cores; expected chunk = k x core, "
    "got core 500, chunk 4096. Set chunk: 4000",
    BASE + "tiling: {core: 512, chunk: 100}\n": "Set chunk: 512",
    BASE + "tiling: {core: 0, chunk: 512}\n": "tiling: core: a core must have at least one pixel; got 0",
    BASE + "tiling: {core: 512, chunk: 0}\n": "tiling: a chunk must be a whole number of cores",
    BASE + "tiling: {core: -8, chunk: -16}\n": "tiling: core: a core must have at least one pixel; got -8",
    BASE + "tiling: {halo: {heavy: -1}}\n": "tiling: halo: heavy: a halo must not be negative; got -1",
    BASE + "outputs: [tier]\n": "outputs: the layer `labels` must be written",
    BASE + "outputs: [labels, labels]\n": "outputs: each layer must be listed once; got labels, labels",
    BASE + "bands: []\n": "bands: a list of bands must not be empty",
    BASE + "scale: [5, 5]\n": "scale: a scale must be a range; expected [low, high], got [5.0, 5.0]",
    BASE + "scale: [.nan, 1]\n": "scale: a scale must be a range",
    BASE + "scale: [0, .inf]\n": "scale: a scale must be a range",
    BASE + "scale: [-.inf, 0]\n": "scale: a scale must be a range",
    BASE + "nodata: {value: 0}\n": "nodata: `value` needs `from: value`; got from: auto",
    BASE.replace(", heavy: zoo:y", "")
    + "route: {priority: [{polygons: a}]}\n": "route: priority: a route needs two models",
    BASE + "route: {priority: [uncertan]}\n": "priority[0]: wrong value; expected a mapping like {polygons: …} or",
    BASE + "route: {priority: [uncertian]}\n": "got 'uncertian'. Did you mean `uncertain`?",
    BASE + "route: {fade: -1}\n": "route: fade: a fade must be a width in pixels; expected 0 to 64, got -1",
    BASE + "route: {priority: [uncertain, {uncertain: {above: 0.1}}]}\n": "`uncertain` must be given once",
    BASE + "route: {priority: [{uncertain: {above: 2}}]}\n": "uncertain: above: a share must be from 0 to 1; got 2",
    BASE + "route: {priority: [{uncertain: {abov: 1}}]}\n": "unknown key `abov`. Did you mean `above`?",
    BASE + "route: {audit: 1.5}\n": "route: audit: a share must be from 0 to 1",
    BASE.replace(", heavy: zoo:y", "") + "route: {audit: 0.1}\n": "route: audit: an audit needs two models",
    BASE + "budget: {heavy_share: 0.1}\n": "a budget limits `uncertain`, and this route has no `uncertain`",
    BASE + "route: {priority: [{uncertain: {above: 0.1}}]}\nbudget: {heavy_share: 0.1}\n": "exclude each other",
    BASE + "route: {priority: [uncertain]}\nbudget: {heavy_share: 2}\n": "heavy_share: a share must be from 0 to 1",
    BASE + "route: {priority: [uncertain]}\nbudget: {}\n": "a budget must be one amount; expected one of heavy_share",
    BASE + "route: {priority: [uncertain]}\nbudget: {usd: 3, heavy_share: 0.1}\n": "got heavy_share, usd",
    BASE + "route: {priority: [uncertain]}\nbudget: {usd: 0}\n": "usd: an amount of money must be positive; got 0",
    BASE + "route: {priority: [uncertain]}\nbudget: {usd_per_km2: .nan}\n": "usd_per_km2: an amount of money must be",
    # missing keys
    "": "`scenes` is missing. Add a line `scenes: …` (rasters",
    "output: out\nmodels: {bulk: x}\n": "`scenes` is missing",
    BASE + "route: {priority: [{where: x}]}\n": "route: priority[0]: `polygons` is missing. Add a line `polygons: …",
    # YAML itself
    BASE + "output: b\n": "line 4: `output` is given twice",
    BASE + "tiling:\n  core: 4\n  core: 8\n": "line 6: `core` is given twice",
    BASE + "\ttiling: 3\n": "this YAML cannot be read; got while scanning",
    BASE + "aoi: !!python/object:os.system x\n": "this YAML cannot be read",
    BASE + "aoi: 2024-99-99\n": "this YAML cannot be read",
    BASE + "? [a, b]\n: 1\n": "line 4: a key must not be a list or a mapping",
    "- scenes\n": "this must be a mapping; expected key: value lines, got ['scenes']",
    "just a word": "this must be a mapping",
}


@pytest.mark.parametrize(("text", "message"), list(REFUSED.items()))
def test_a_recipe_that_cannot_be_meant_is_refused(recipe_file: Path, text: str, message: str) -> None:
    recipe_file.write_text(text)
    with pytest.raises(RecipeError) as caught:
        load_recipe(recipe_file)
    assert str(caught.value).startswith(f"{recipe_file}: ")
    assert str(caught.value).count(str(recipe_file)) == 1
    assert message in str(caught.value)


FLEETS_REFUSED = {
    "zzz: 3\n": "unknown key `zzz`. Valid keys are pools",
    "pools: []\n": "pools: a fleet must have at least one pool",
    "pools: [{}, {}]\n": "pools: the names of pools must differ; got local, local",
    "pools: [{worker: 2}]\n": "pools[0]: unknown key `worker`. Did you mean `workers`?",
    "pools: [{workers: 0}]\n": "pools: local: a pool must have at least one worker; got 0",
    "pools: [{device: gpu}]\n": "pools[0]: device: wrong value; expected auto or cpu or cuda, got 'gpu'",
    "pools: [{usd_per_hour: -1}]\n": "pools: local: usd_per_hour: an amount must not be negative or infinite",
    "pools: [{usd_per_hour: .nan}]\n": "pools: local: usd_per_hour: an amount must not be negative or infinite",
    "pools: [{gpus: -0.5}]\n": "pools: local: gpus: an amount must not be negative or infinite",
    "pools: [{resources: {spot: -1}}]\n": "pools: local: spot: an amount must not be negative or infinite",
    "pools: [{resources: {spot: yes}}]\n": "pools[0]: resources: spot: wrong value; expected a number, got True",
    "pools: [{resources: {1: 1}}]\n": "pools[0]: resources: wrong value; expected text, got 1",
    "pools: [{name: ../a}]\n": "pools: name: the name of a pool must be usable in file names",
    "pools: [{name: ''}]\n": "pools: name: the name of a pool must be usable in file names",
    "head_usd_per_hour: .inf\n": "head_usd_per_hour: an amount must not be negative or infinite",
    "max_usd: 0\n": "max_usd: max_usd must be positive; got 0.0",
    "max_usd: .nan\n": "max_usd: max_usd must be positive",
    "retries: {failures: 0}\n": "retries: a chunk must have at least one attempt; got failures 0",
}


@pytest.mark.parametrize(("text", "message"), list(FLEETS_REFUSED.items()))
def test_a_fleet_that_cannot_be_meant_is_refused(recipe_file: Path, text: str, message: str) -> None:
    recipe_file.write_text(text)
    with pytest.raises(RecipeError) as caught:
        load_fleet(recipe_file)
    assert str(caught.value).startswith(f"{recipe_file}: {message}")


def test_without_a_fleet_there_is_one_worker_here(tmp_path: Path) -> None:
    (tmp_path / "empty.yaml").write_text("")
    assert load_fleet(None) == load_fleet(tmp_path / "empty.yaml") == Fleet()
    assert [pool.workers for pool in Fleet().pools] == [1]
    assert (Fleet().retries, Fleet().max_usd) == (Retries(failures=3, preemptions=20), None)


@pytest.mark.parametrize("name", ["none.yaml", "folder", "binary.yaml"])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(RecipeError, match=f"{name}: this recipe cannot be read") as caught:
        load_recipe(tmp_path / name)
    assert caught.value.exit_status == 2


@thorough
@given(st.text(alphabet="abo:[]{}-?&*!'\"\n 0129.,~<|>#\t", max_size=40))
def test_any_text_is_a_fleet_or_a_clear_error(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    file = tmp_path_factory.getbasetemp() / "any.yaml"
    file.write_text(text)
    try:
        load_fleet(file)
    except RecipeError as error:
        assert str(error).startswith(f"{file}: ")  # noqa: PT017 - both ends are fine


words = st.text(st.characters(codec="utf-8", categories=["L", "N", "P"]), min_size=1, max_size=8)
amounts = st.floats(0, 1e6)
numbers = st.floats(-1e9, 1e9)
tilings = st.builds(
    lambda core, k, halo: Tiling(core=core, chunk=k * core, halo=halo),
    st.integers(1, 1000),
    st.integers(1, 9),
    st.builds(Halo, bulk=st.none() | st.integers(0, 99), heavy=st.none() | st.integers(0, 99)),
)
nodatas = st.builds(
    NodataPolicy, from_=st.sampled_from(["auto", "alpha", "mask", "none"]), rule=st.sampled_from(["all", "any"])
) | (st.builds(NodataPolicy, from_=st.just("value"), value=numbers, rule=st.sampled_from(["all", "any"])))
recipes = st.builds(
    Recipe,
    scenes=st.lists(words, min_size=1).map(tuple),
    output=words,
    models=st.builds(Models, bulk=words, heavy=words),
    tiling=tilings,
    route=st.builds(Route, priority=st.lists(st.builds(Priority, polygons=words, where=st.none() | words)).map(tuple)),
    labels=st.lists(st.none() | words).map(tuple),
    aoi=st.none() | words,
    bands=st.none() | st.lists(st.integers(1, 20) | words, min_size=1).map(tuple),
    scale=st.none() | st.tuples(st.floats(-1e9, 0), st.floats(1, 1e9)),
    nodata=nodatas,
    accept=st.lists(st.sampled_from(["gsd", "dtype"])).map(tuple),
    outputs=st.sampled_from([("labels",), ("tier", "labels"), ("labels", "confidence", "tier")]),
)
fleets = st.builds(
    Fleet,
    pools=st.lists(
        st.builds(
            PoolSpec,
            name=st.from_regex(r"[a-z][a-z0-9_.-]{0,6}", fullmatch=True),
            workers=st.integers(1, 99),
            device=st.sampled_from(["auto", "cpu", "cuda"]),
            usd_per_hour=amounts,
            cpus=amounts,
            gpus=amounts,
            resources=st.dictionaries(words, amounts, max_size=2),
        ),
        min_size=1,
        max_size=3,
        unique_by=lambda pool: pool.name,
    ).map(tuple),
    head_usd_per_hour=amounts,
    retries=st.builds(Retries, failures=st.integers(1, 9), preemptions=st.integers(1, 99)),
    max_usd=st.none() | st.floats(0.01, 1e6),
)


@quick
@given(recipes | fleets)
def test_what_is_written_down_is_what_was_meant(meant: Recipe | Fleet) -> None:
    """Plain data, and YAML, and back."""
    assert build(type(meant), plain(meant), where="here") == meant
    assert build(type(meant), yaml.safe_load(yaml.safe_dump(plain(meant))), where="here") == meant


def documented(kind: type[Any]) -> list[str]:
    missing = [f"{kind.__name__}.{f.name}" for f in fields(kind) if not f.metadata.get("doc")]
    nested = [f.default_factory for f in fields(kind) if is_dataclass(f.default_factory)]
    return missing + [name for inner in nested for name in documented(inner)]  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", [Recipe, Models, Priority, Fleet, PoolSpec])
def test_every_setting_is_documented(kind: type[Any]) -> None:
    assert documented(kind) == []


BOMB = "a: &a [x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 8)}]\n" for before, name in pairwise("abcdefghi")
)


@pytest.mark.parametrize("text", [BOMB + "scenes: *i\n", "scenes: &s [a.tif]\noutput: *s\n", "a: &a {b: *a}\n"])
def test_aliases_are_refused_before_they_grow(recipe_file: Path, text: str) -> None:
    recipe_file.write_text(text)
    begun_s = time.monotonic()
    with pytest.raises(RecipeError, match=r"alias is not allowed here\. Write the value out"):
        load_recipe(recipe_file)
    assert time.monotonic() - begun_s < 5
