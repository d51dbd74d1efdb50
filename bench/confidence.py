"""Share of labels that are right, by their confidence, over maps whose truth is known.

    python -m bench.confidence out/run/scene=truth.tif [OUT/SCENE=LABELS …]

Each pair is the folder of a scene in the output of a run, and a raster of labels on the same grid, with the class ids
of the model; 255 is unlabelled. A calibrated model is right as often as its mean confidence says, in every row.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import rasterio
from numpy.typing import NDArray

from batchseg.layers.confidence import CERTAIN, NO_CONFIDENCE

EDGES = (0.0, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.01)
UNLABELLED = 255

Counts = NDArray[np.int64]
"""Pixels, and right pixels, by confidence code."""


def count(folder: Path, labels: Path) -> Counts:
    """Count the labelled pixels of one scene by confidence, and those of them that are right."""
    read = [_read(path) for path in (folder / "labels.tif", folder / "confidence.tif", labels)]
    map_HW, confidence_HW, truth_HW = read
    known_HW = (truth_HW != UNLABELLED) & (confidence_HW != NO_CONFIDENCE)
    codes, right = confidence_HW[known_HW], (map_HW == truth_HW)[known_HW]
    return np.stack([np.bincount(part, minlength=CERTAIN + 1) for part in (codes, codes[right])])


def _read(path: Path) -> NDArray[np.uint8]:
    with rasterio.open(path) as file:
        return np.asarray(file.read(1))


def make_table(counts: Counts) -> list[str]:
    """The lines of a Markdown table, one per range of confidence."""
    all_px, rows = int(counts[0].sum()), []
    codes = np.arange(CERTAIN + 1) / CERTAIN
    for low, high in itertools.pairwise(EDGES):
        inside = (codes >= low) & (codes < high)
        num, right = counts[:, inside].sum(axis=1)
        if num:
            mean = float(codes[inside] @ counts[0, inside] / num)
            rows.append(f"| {low:.0%} to {min(high, 1):.0%} | {num / all_px:.1%} | {mean:.1%} | {right / num:.1%} |")
    return ["| confidence | share of pixels | mean confidence | right |", "|---|---|---|---|", *rows]


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pairs", nargs="+", metavar="FOLDER=LABELS")
    pairs = [pair.partition("=")[::2] for pair in parser.parse_args(argv).pairs]
    counts = np.stack([count(Path(folder), Path(labels)) for folder, labels in pairs])
    print("\n".join(make_table(counts.sum(axis=0))))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
