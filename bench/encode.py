"""The cost of the final GeoTIFFs: our writer and GDAL's COG driver, with the same pixels in one run.

    python -m bench.encode [--side 8192] [--threads 2] [--folder DIR]

GDAL needs the raster in a file first, a tiled GeoTIFF without compression. Its time includes this file and the
overviews, which are made by mode for classes and by average for the confidence. Both writers use DEFLATE at the fastest
level.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import rasterio
import rasterio.shutil
from numpy.typing import NDArray

from batchseg.classes import ClassInfo
from batchseg.layers import make_layers
from batchseg.layers.layer import Layer
from batchseg.output.cog import CogOptions, write_cog
from batchseg.scene.georef import Georef

PATCH_PX = 2048
NUM_CLASSES = 6
CORNER = (0.5, 0.0, 500_000.0, 0.0, -0.5, 4_000_000.0)
CLASSES = tuple(
    ClassInfo(id=code, name=f"class {code}", rgb=(40 * code, 200 - 30 * code, 90)) for code in range(NUM_CLASSES)
)
OUTPUTS = make_layers(("labels", "confidence", "tier"), CLASSES)


def smooth(noise_HW: NDArray[np.float32], radius_px: int) -> NDArray[np.float32]:
    """Two passes of a box filter along each axis, which wrap around, so that patches can be tiled."""
    for _ in range(2):
        for axis in (0, 1):
            sums = np.cumsum(np.concatenate([noise_HW, noise_HW], axis=axis), axis=axis)
            last = np.take(sums, np.arange(radius_px, radius_px + PATCH_PX), axis=axis)
            noise_HW = (last - np.take(sums, np.arange(PATCH_PX), axis=axis)) / radius_px
    return noise_HW


def make_landscape(side_px: int) -> dict[str, NDArray[np.uint8]]:
    """Labels with smooth outlines, a noisy confidence that falls towards them, and one tier per square."""
    rng = np.random.default_rng(0)
    noise = [smooth(rng.standard_normal((PATCH_PX, PATCH_PX), np.float32), 60) for _ in range(NUM_CLASSES)]
    score_KHW = np.stack(noise) / np.std(noise)
    best, second = np.partition(score_KHW, NUM_CLASSES - 2, axis=0)[-1:-3:-1]
    sure = 1 - 0.5 * np.exp(-3 * (best - second)) + 0.003 * rng.standard_normal(best.shape, np.float32)
    times = -(-side_px // PATCH_PX)
    labels = np.tile(score_KHW.argmax(axis=0).astype(np.uint8), (times, times))[:side_px, :side_px]
    confidence = np.tile(np.clip(254 * sure, 0, 254).astype(np.uint8), (times, times))[:side_px, :side_px]
    squares = (rng.random((side_px // 512 + 1, side_px // 512 + 1)) < 0.15).astype(np.uint8)
    tier = squares.repeat(512, axis=0).repeat(512, axis=1)[:side_px, :side_px].copy()
    for pixels in (labels, confidence, tier):
        pixels[: side_px // 16, : side_px // 2] = 255
    return {"labels": labels, "confidence": confidence, "tier": tier}


def write_with_ours(path: Path, layer: Layer, pixels: NDArray[np.uint8], threads: int) -> None:
    georef = Georef(width_px=pixels.shape[1], height_px=pixels.shape[0], crs_wkt=None, transform=CORNER)
    rows = pixels.__getitem__
    write_cog(
        path, georef, layer, lambda a, b: rows(slice(a, b)), scratch=path.parent, options=CogOptions(threads=threads)
    )


def write_with_gdal(path: Path, layer: Layer, pixels: NDArray[np.uint8], threads: int) -> None:
    first = path.with_suffix(".first.tif")
    shape = {"width": pixels.shape[1], "height": pixels.shape[0], "count": 1, "dtype": "uint8", "nodata": 255}
    tiled: dict[str, Any] = {"tiled": True, "blockxsize": 512, "blockysize": 512}
    if layer.palette:
        tiled["photometric"] = "PALETTE"
    with rasterio.open(first, "w", driver="GTiff", transform=rasterio.Affine(*CORNER), **shape, **tiled) as file:
        if layer.palette:
            file.write_colormap(1, layer.palette)
        file.write(pixels, 1)
    classes = layer.kind == "classes"
    rasterio.shutil.copy(
        first,
        path,
        driver="COG",
        COMPRESS="DEFLATE",
        LEVEL=1,
        PREDICTOR="NO" if classes else "DEFAULTS",
        OVERVIEW_RESAMPLING="MODE" if classes else "AVERAGE",
        NUM_THREADS=threads,
    )
    first.unlink()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=8192, help="side of the raster in pixels (default 8192)")
    parser.add_argument("--threads", type=int, default=2, help="threads of either writer (default 2)")
    parser.add_argument(
        "--folder", type=Path, default=None, help="folder for the files (default: the system's temporary one)"
    )
    args = parser.parse_args()
    pixels_of = make_landscape(args.side)
    total_s = {"ours": 0.0, "GDAL": 0.0}
    print(f"{args.side} x {args.side} px, {args.threads} threads, GDAL {rasterio.__gdal_version__}")
    print(f"{'layer':<12}{'writer':<8}{'s':>8}{'Mpx/s':>8}{'MB':>9}{'ratio':>8}")
    with TemporaryDirectory(dir=args.folder) as folder:
        for layer in OUTPUTS:
            for name, write in (("ours", write_with_ours), ("GDAL", write_with_gdal)):
                pixels = pixels_of[layer.name]
                path = Path(folder) / f"{name}.tif"
                start = time.perf_counter()
                write(path, layer, pixels, args.threads)
                took_s = time.perf_counter() - start
                total_s[name] += took_s
                size_bytes = path.stat().st_size
                print(
                    f"{layer.name:<12}{name:<8}{took_s:>8.2f}{pixels.size / 1e6 / took_s:>8.0f}"
                    f"{size_bytes / 1e6:>9.2f}{pixels.size / size_bytes:>8.1f}"
                )
    print(f"all layers: ours {total_s['ours']:.2f} s, GDAL {total_s['GDAL']:.2f} s,", end=" ")
    print(f"{total_s['GDAL'] / total_s['ours']:.1f} times")


if __name__ == "__main__":
    main()
