"""A tiling that does not fit a network is refused with a line for the recipe, and that line works as it stands."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from batchseg.errors import BundleError
from batchseg.model.bundle import Bundle
from batchseg.model.fit import find_halos
from batchseg.recipe.heavy_tiles import Route
from batchseg.recipe.recipe import Halo, Models, Recipe, Tiling
from batchseg.schema import build, plain
from jobs.cli import main
from tests.batchseg.model.model_bundles import contract
from tests.runs import Workplace, noise, write_fake_bundle
from tests.strategies import quick
from tiling.grid import stored_chunk_px


def make_bundle(halo_px: int, stride_px: int, tile_px: int | None = None) -> Bundle:
    return Bundle(contract(halo_px=halo_px, stride_px=stride_px, tile_px=tile_px), Path("nowhere"), "0" * 64)


@st.composite
def bundles(draw: st.DrawFn) -> Bundle:
    halo_px = draw(st.integers(0, 80))
    if draw(st.booleans()):
        return make_bundle(halo_px, draw(st.sampled_from([1, 2, 8, 14, 16, 32, 64])))
    stride_px = draw(st.sampled_from([1, 16, 32]))
    least = (2 * halo_px) // stride_px + 1
    return make_bundle(halo_px, stride_px, stride_px * draw(st.integers(least, least + 600 // stride_px)))


@st.composite
def tilings(draw: st.DrawFn) -> Tiling:
    core_px = draw(st.integers(1, 800) | st.sampled_from([256, 512]))
    chunk_px = core_px * draw(st.integers(1, 12))
    sheet_px = chunk_px + draw(st.integers(0, 5000)) if draw(st.booleans()) else max(32768, chunk_px)
    halo = Halo(**{tier: draw(st.none() | st.integers(0, 90)) for tier in ("bulk", "heavy")})
    return Tiling(core=core_px, chunk=chunk_px, sheet=sheet_px, halo=halo)


def make_recipe(tiling: Tiling) -> Recipe:
    return Recipe(scenes=("a.tif",), output="out", models=Models(bulk="a", heavy="b"), tiling=tiling)


def paste(todo: str) -> Tiling:
    """The tiling that a user gets who pastes the line of a message."""
    match = re.search(r"`(tiling: .*?)`", todo)
    assert match is not None, todo
    return build(Tiling, yaml.safe_load(match[1])["tiling"], where="tiling")


def find_todo(tiling: Tiling, models: Any) -> str | None:
    """What the refusal says to do; None if the tiling fits."""
    try:
        assert set(find_halos(make_recipe(tiling), models)) == set(models)
    except BundleError as error:
        return error.todo or ""
    return None


def some_tiling_fits(models: Any) -> bool:
    """Found by trying all of them: small cores, since any larger one has the same remainders."""
    sides = [
        {c.tile_px} if (c := bundle.contract).tile_px else set(range(c.stride_px, 2000, c.stride_px))
        for bundle in models.values()
    ]
    cores = [{side_px - 2 * halo_px for side_px in s for halo_px in range(side_px // 2)} - {0} for s in sides]
    return bool(set.intersection(*cores))


@quick
@given(st.lists(bundles(), min_size=1, max_size=2), tilings())
def test_the_line_of_the_message_fits(found: list[Bundle], tiling: Tiling) -> None:
    models: Any = dict(zip(("bulk", "heavy"), found, strict=False))
    todo = find_todo(tiling, models)
    if todo is None:
        return
    if "no tiling fits" in todo:
        assert not some_tiling_fits(models)
        return
    pasted = paste(todo)
    halos_px = find_halos(make_recipe(pasted), models)
    assert pasted.chunk % pasted.core == 0
    assert pasted.chunk <= pasted.sheet
    for tier, bundle in models.items():
        side_px, c = pasted.core + 2 * halos_px[tier], bundle.contract
        assert side_px % c.stride_px == 0
        assert c.tile_px in (None, side_px)
        given_px = getattr(tiling.halo, tier)
        wanted_px = c.halo_px if given_px is None else given_px
        assert halos_px[tier] >= min(wanted_px, (c.tile_px or 10**6) // 2 - 1), "no tile sees less than is wanted"


@pytest.mark.parametrize(
    ("tiling", "models", "expected"),
    [
        (Tiling(), {"bulk": (32, 1, 256)}, Tiling(core=192, chunk=4032)),
        (Tiling(), {"bulk": (28, 1, 224)}, Tiling(core=168, chunk=4032)),
        (Tiling(), {"heavy": (40, 32, None)}, Tiling(halo=Halo(heavy=48))),
        (Tiling(core=500, chunk=4000), {"bulk": (32, 8, None)}, Tiling(core=500, chunk=4000, halo=Halo(bulk=34))),
        (Tiling(), {"bulk": (32, 1, 256), "heavy": (64, 32, None)}, Tiling(core=192, chunk=4032)),
        (
            Tiling(halo=Halo(heavy=96)),
            {"bulk": (28, 1, 224), "heavy": (64, 32, None)},
            Tiling(core=168, chunk=4032, halo=Halo(heavy=108)),
        ),
        (
            Tiling(),
            {"bulk": (32, 1, 256), "heavy": (64, 1, 512)},
            Tiling(core=192, chunk=4032, halo=Halo(heavy=160)),
        ),
        (Tiling(core=512, chunk=512, sheet=600), {"bulk": (32, 1, 256)}, Tiling(core=192, chunk=576, sheet=600)),
        (Tiling(core=64, chunk=64, sheet=64), {"bulk": (32, 1, 256)}, Tiling(core=192, chunk=192, sheet=192)),
    ],
)
def test_the_nearest_tiling_is_proposed(
    tiling: Tiling, models: dict[str, tuple[int, int, int | None]], expected: Tiling
) -> None:
    opened: Any = {tier: make_bundle(*facts) for tier, facts in models.items()}
    with pytest.raises(BundleError) as caught:
        find_halos(make_recipe(tiling), opened)
    assert paste(str(caught.value.todo)) == expected
    assert stored_chunk_px(expected.chunk) >= min(1024, expected.chunk)


def test_where_nothing_fits_both_networks_it_is_said() -> None:
    models: Any = {"bulk": make_bundle(8, 1, 255), "heavy": make_bundle(8, 32)}
    with pytest.raises(BundleError, match="no tiling fits"):
        find_halos(make_recipe(Tiling()), models)


@pytest.mark.parametrize("is_pair", [False, True])
def test_plan_takes_the_pasted_line(is_pair: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    models = Models(
        bulk=write_fake_bundle(tmp_path / "fixed", tile_px=64),
        heavy=write_fake_bundle(tmp_path / "strided", stride_px=32, halo_px=10) if is_pair else None,
    )
    place = Workplace.of(tmp_path, noise(300, 200))
    recipe = place.recipe(models=models, tiling=Tiling(sheet=5000, halo=Halo(heavy=20)), route=Route())
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(plain(recipe)))
    assert main(["plan", str(path)]) == 2
    tiling = paste(capsys.readouterr().err)
    path.write_text(yaml.safe_dump(plain(replace(recipe, tiling=tiling))))
    assert main(["plan", str(path)]) == 0
    assert tiling.sheet == 5000
