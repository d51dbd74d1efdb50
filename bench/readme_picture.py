"""The picture in the README: scene, labels and tiers of the demo, side by side.

make demo && python -m bench.readme_picture docs/images/demo.png
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray

DEMO = Path("out/demo")
SIDE_PX = 420
GAP_PX = 8


def read_panel(path: Path) -> NDArray[Any]:
    """Read a small view in red, green and blue from the overviews; classes have their own colours."""
    with rasterio.open(path) as file:
        if file.count >= 3:
            shape, average = (3, SIDE_PX, SIDE_PX), rasterio.enums.Resampling.average
            colours_BHW: NDArray[Any] = file.read((1, 2, 3), out_shape=shape, resampling=average)
            return colours_BHW
        codes = file.read(1, out_shape=(SIDE_PX, SIDE_PX))
        table = np.full((256, 3), 255, np.uint8)
        for code, colour in file.colormap(1).items():
            table[code] = colour[:3]
        if file.nodata is not None:
            table[int(file.nodata)] = 255
    return np.moveaxis(table[codes], 2, 0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("picture", type=Path, help="PNG file to write")
    target = parser.parse_args().picture
    panels = [
        read_panel(DEMO / "input" / "scene.tif"),
        *(read_panel(DEMO / "scene" / f"{n}.tif") for n in ("labels", "tier")),
    ]
    gap = np.full((3, SIDE_PX, GAP_PX), 255, np.uint8)
    picture = np.concatenate([panels[0], gap, panels[1], gap, panels[2]], axis=2)
    target.parent.mkdir(parents=True, exist_ok=True)
    profile = {"driver": "PNG", "dtype": "uint8", "count": 3, "height": picture.shape[1], "width": picture.shape[2]}
    with rasterio.open(target, "w", **profile) as file:
        file.write(picture)
    Path(f"{target}.aux.xml").unlink(missing_ok=True)


if __name__ == "__main__":
    main()
