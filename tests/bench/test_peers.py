"""The comparison with peers compares like with like, and a script can read its last line."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio

from bench.peers.__main__ import FLOORS, find_failures, keep_rows
from bench.peers.agreement import compare_maps, mark_away
from bench.peers.tables import Row, compute_ratios, make_last_line, make_table
from tests.runs import write_scene

ROOT = Path(__file__).parents[2]
PEER = Row("heavy", "MONAI", "eager", mpx=10, wall_s=20, start_s=10, peak_bytes=3_000, agreement=0.99)
LOOP = Row("heavy", "rasterio loop", "compiled", mpx=10, wall_s=8, start_s=3, peak_bytes=900, agreement=0.99)
OURS = Row("heavy", "batchseg", "openvino", mpx=10, wall_s=5, start_s=1, peak_bytes=1_000, agreement=None)


def test_ratios_compare_with_the_best_peer_in_each_respect():
    worst = compute_ratios([OURS, PEER, LOOP])
    assert (worst.speed, worst.work_speed, worst.memory) == (8 / 5, 5 / 4, 0.9)
    assert make_last_line({"heavy": worst}) == "worst ratio heavy 1.60 bulk - memory 0.90"


def test_a_table_has_one_row_per_participant():
    lines = make_table([OURS, PEER, LOOP]).splitlines()
    assert len({line.count("|") for line in lines}) == 1
    assert "| heavy | MONAI | eager | 20.0 | 10.0 | 0.50 | 4.00 | 2.50 | 0 | 0.9900 |" in lines


def test_differing_maps_are_failures():
    low = Row("heavy", "MONAI", "eager", 10, 20, 10, 3_000, FLOORS["heavy"] - 0.001)
    assert find_failures([OURS, LOOP]) == []
    assert "MONAI (eager)" in find_failures([OURS, LOOP, low])[0]


def test_rows_of_several_runs_are_combined(tmp_path):
    faster = Row("heavy", "MONAI", "eager", 10, 15, 10, 3_000, 0.99)
    keep_rows(tmp_path, 64, [OURS, PEER])
    assert keep_rows(tmp_path, 64, [LOOP, faster]) == [OURS, faster, LOOP]
    assert keep_rows(tmp_path, 128, []) == []


def test_pixels_near_an_edge_are_separated_from_the_others():
    assert mark_away([0, 6, 12], 12, 2).nonzero()[0].tolist() == [2, 3, 8, 9]


def test_a_difference_counts_near_or_away_from_edges(tmp_path):
    ours = np.ones((1, 12, 12), np.uint8)
    theirs = ours.copy()
    theirs[0, 6, 6] = 2  # where tiles meet
    theirs[0, 3, 9] = 2  # away from it
    paths = [Path(write_scene(tmp_path / f"{name}.tif", px)) for name, px in (("ours", ours), ("theirs", theirs))]
    agreement = compare_maps(*paths, [0, 6, 12], 2)
    assert agreement.away_px == 16
    assert agreement.away == pytest.approx(15 / 16)
    assert agreement.near == pytest.approx(1 - 1 / (144 - 16))


def test_maps_of_another_grid_are_refused(tmp_path):
    pixels = np.ones((1, 4, 4), np.uint8)
    here = Path(write_scene(tmp_path / "here.tif", pixels))
    there = Path(write_scene(tmp_path / "there.tif", pixels, transform=rasterio.Affine.translation(5, 5)))
    with pytest.raises(ValueError, match="must have the grid of"):
        compare_maps(here, there, [], 1)


@pytest.mark.real
def test_peers_without_extra_packages_give_our_map(tmp_path):
    command = [
        sys.executable, "-m", "bench.peers", "--size", "1024", "--tiers", "bulk", "--peers", "loop", "ray_data",
        "--backends", "eager", "openvino", "--folder", tmp_path,
    ]  # fmt: skip
    ran = subprocess.run(command, check=False, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert ran.returncode == 0, ran.stderr
    agreements = re.findall(r"^bulk, (.+), (\w+): .* equal pixels (\S+) away", ran.stdout, re.MULTILINE)
    assert [(name, backend) for name, backend, _ in agreements] == [
        ("rasterio loop", "eager"), ("Ray Data", "eager"), ("rasterio loop", "openvino"), ("Ray Data", "openvino"),
    ]  # fmt: skip
    # The same graph on the same tiles: not one pixel may differ.
    assert all(float(share) == 1 for _, backend, share in agreements if backend == "openvino")
    last = ran.stdout.splitlines()[-1]
    figures = re.fullmatch(r"worst ratio heavy - bulk (\d+\.\d\d) memory (\d+\.\d\d)", last)
    assert figures, last
    assert all(float(figure) > 0 for figure in figures.groups())
