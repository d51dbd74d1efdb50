"""report.html, looked at with a browser: its figures are those of metrics.json, and nothing in it fails."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from batchseg.recipe import Fleet, PoolSpec
from tests.browser import browser
from tests.runs import CLASSES, Workplace, noise, write_scene

SHOTS = Path(os.environ.get("BATCHSEG_TEST_SHOTS", "out/screenshots"))
"""Where pictures of the page stay after the test."""


@pytest.fixture(scope="module")
def output(tmp_path_factory) -> Path:
    """Two scenes, the second without a reference and without its raster by now, and with names that break careless
    pages."""
    folder = tmp_path_factory.mktemp("page")
    smooth = noise(20, 24, seed=1).repeat(12, 1).repeat(12, 2)
    smooth[:, :40, :40] = 0
    scenes = (
        write_scene(folder / "harbour.tif", smooth, nodata=0),
        write_scene(folder / "a&b<i>x.tif", smooth[:, :100, :100]),
    )
    reference = write_scene(folder / "reference.tif", np.full((1, *smooth.shape[1:]), 2, np.uint8))
    place = Workplace(folder, scenes)
    place.run(labels=(reference, None), fleet=Fleet(pools=(PoolSpec(usd_per_hour=36.0),)))
    return place.output


def test_the_page_is_one_file_that_asks_for_nothing(output):
    text = (output / "report.html").read_text("utf-8")
    assert not re.search(r"""(src|href)=["'](?!data:)[^"']""", text)
    assert "url(http" not in text
    assert "/*DATA*/" not in text


def cells(page, selector: str) -> list[list[str]]:
    return page.run(
        f"[...document.querySelectorAll({selector!r})].map(row => [...row.cells].map(cell => cell.textContent))"
    )


@pytest.mark.real
def test_a_browser_shows_the_figures_of_the_run(output, tmp_path):
    metrics = json.loads((output / "metrics.json").read_text())
    of_scene = metrics["scenes"]["harbour"]
    with browser(tmp_path / "profile") as page:
        page.open(output / "report.html", width=1500, height=1300)
        page.shot(tmp_path / "report.png", whole=True)
        rows = {row[0]: row for row in cells(page, "#legend tr")}
        for one in CLASSES:
            _, area, share, iou = rows[one.name]
            assert float(area.replace(",", "")) == pytest.approx(of_scene["class_area_km2"][one.name], rel=1e-3)
            px = of_scene["class_px"][one.name] / of_scene["valid_px"]
            assert float(share.removesuffix(" %")) == pytest.approx(100 * px, abs=0.051)
            known = of_scene["iou"][one.name]  # a class without reference has no score
            assert iou == ("–" if known is None else f"{known:.3f}")
        swatches = page.run("[...document.querySelectorAll('#legend .swatch')].map(one => one.style.background)")
        assert swatches == ["rgb({}, {}, {})".format(*one.rgb) for one in CLASSES]
        counted = page.run("[...document.querySelectorAll('#confusion td')].map(one => Number(one.dataset.px))")
        assert counted == [count for row in of_scene["confusion"] for count in row]
        tiles = page.run(
            "Object.fromEntries([...document.querySelectorAll('.tile')]"
            ".map(one => [one.dataset.tile, one.querySelector('b').textContent]))"
        )
        assert tiles["mean IoU"] == f"{metrics['miou']:.3f}"
        assert float(tiles["cost"].removeprefix("$")) == pytest.approx(metrics["cost_usd"], rel=0.06)
        shown_layers(page, tmp_path, of_scene["tiles"])
        chunks_and_places(page, of_scene)
        scenes_by_name(page)
        page.shot(tmp_path / "last.png")
        assert page.problems == []
    SHOTS.mkdir(parents=True, exist_ok=True)
    for shot in tmp_path.glob("*.png"):
        shutil.copy(shot, SHOTS / f"page_{shot.name}")


@pytest.mark.real
def test_a_browser_shows_what_is_wrong_with_a_run(output, tmp_path):
    text = (output / "report.html").read_text("utf-8")
    head, mark, rest = text.partition('<script type="application/json" id="data">')
    data, end, tail = rest.partition("</script>")
    content = json.loads(data)
    content["metrics"]["quarantined"] = {"harbour/2_1": ["attempt 1: first", "attempt 2: <b>the raster is damaged"]}
    content["metrics"]["scenes"]["harbour"]["layout_note"] = "its blocks of 9000 x 1 px. Repair: gdal_translate"
    path = tmp_path / "report.html"
    path.write_text(head + mark + json.dumps(content).replace("<", "\\u003c") + end + tail, "utf-8")
    with browser(tmp_path / "profile") as page:
        page.open(path, width=1500, height=1300)
        assert cells(page, "#givenup tr") == [["harbour/2_1", "attempt 2: <b>the raster is damaged"]]
        assert "gdal_translate" in page.run("warnings.textContent")
        assert page.problems == []
        page.open(output / "report.html", width=1500, height=1300)
        assert page.run("document.getElementById('givenupcard')") is None
        assert page.problems == []


def visible(page) -> list[str]:
    return page.run("[...document.querySelectorAll('#stage img.layer')].filter(one => !one.hidden).map(one => one.alt)")


def shown_layers(page, folder, tiles) -> None:
    assert visible(page) == ["labels"]
    seen = set()
    for layer in ("confidence", "tier", "labels"):
        page.click(f'[data-layer="{layer}"]')
        assert visible(page) == [layer]
        page.shot(folder / f"{layer}.png")
        if layer == "tier":
            rows = {row[0]: row[1] for row in cells(page, "#legend tr")[1:]}
            assert rows == {
                name: str(count)
                for name, count in (("bulk", tiles["bulk"]), ("nothing to label", tiles["skipped"]))
                if count
            }
        if layer == "confidence":
            assert ["20 % to 100 %"] in cells(page, "#legend tr"), "no label of five classes is less certain"
        seen.add((folder / f"{layer}.png").read_bytes())
    assert len(seen) == 3, "the layers look alike"
    page.click('[data-layer="none"]')
    assert visible(page) == []
    page.click('[data-layer="labels"]')
    sizes = page.run("[...document.querySelectorAll('#stage img')].map(one => [one.naturalWidth, one.naturalHeight])")
    assert sizes == [[288, 240]] * 4


def chunks_and_places(page, of_scene) -> None:
    assert page.run("scale.hidden")
    for colour in ("cost", "confidence", "attempts"):
        page.run(f"colour.value = {colour!r}; colour.onchange()")
        assert page.run("scale.textContent").startswith(f"{colour} per chunk: ")
        boxes = page.run("[...document.querySelectorAll('#stage rect')].map(one => one.getAttribute('fill'))")
        assert len(boxes) == of_scene["chunks"]["done"] + of_scene["chunks"]["empty"]
        assert (len(set(boxes)) > 1) == (colour != "attempts")
    before = page.run("document.getElementById('stage').style.transform")
    page.call("Input.dispatchMouseEvent", type="mouseWheel", x=300, y=500, deltaX=0, deltaY=-300)
    page.click(".crop")
    assert page.run("document.getElementById('stage').style.transform") != before
    page.click("#fit")
    assert page.run("document.getElementById('stage').style.transform") == before
    confidences = [
        float(text.split()[0])
        for text in page.run("[...document.querySelectorAll('.crop p')].map(one => one.textContent)")
    ]
    assert confidences == sorted(confidences)
    assert confidences


def scenes_by_name(page) -> None:
    names = page.run("[...document.querySelectorAll('#scene option')].map(one => one.value)")
    assert len(names) == 2
    page.run(f"scene.value = {names[1]!r}; scene.onchange()")
    assert cells(page, "#confusion tr") == [["no reference labels for this scene"]]
