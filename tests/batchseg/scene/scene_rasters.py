"""Small rasters for tests, in the forms in which common programs write them."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from rasterio.errors import NotGeoreferencedWarning

UTM = {"crs": "EPSG:32633", "transform": rasterio.Affine(10, 0, 500_000, 0, -10, 5_000_000)}
NOWHERE: dict[str, Any] = {}


def noise(bands: int, height: int, width: int, dtype: str = "uint8", *, low: int = 1) -> np.ndarray:
    rng = np.random.default_rng(bands * 7919 + height * 31 + width)
    return rng.integers(low, 120, (bands, height, width)).astype(dtype)


def smooth(bands: int, height: int, width: int) -> np.ndarray:
    """Make noise that compresses like a picture."""
    rng = np.random.default_rng(height)
    walk = np.cumsum(rng.normal(0, 3, (bands, height, width)), axis=2)
    return np.clip(walk + 128, 1, 255).astype(np.uint8)


def write(path: Path, pixels_BHW: np.ndarray, *, mask_HW: np.ndarray | None = None, **facts: Any) -> Path:
    """A GeoTIFF of these pixels. `colours`, `names`, `tags` and `gcps` are set after creation."""
    after = {
        name: facts.pop(name) for name in ("colours", "names", "gcps", "rpcs", "palette", "options") if name in facts
    }
    count, height, width = pixels_BHW.shape
    profile = {"driver": "GTiff", "count": count, "height": height, "width": width, "dtype": pixels_BHW.dtype.name}
    with (
        warnings.catch_warnings(),
        rasterio.Env(**after.get("options", {})),
    ):
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path, "w", **{**profile, **facts}) as dataset:
            if "colours" in after:
                dataset.colorinterp = after["colours"]
            if "names" in after:
                dataset.descriptions = after["names"]
            if "gcps" in after:
                dataset.gcps = after["gcps"]
            if "rpcs" in after:
                dataset.update_tags(ns="RPC", **after["rpcs"])
            if "palette" in after:
                dataset.write_colormap(1, after["palette"])
            dataset.write(pixels_BHW)
            if mask_HW is not None:
                dataset.write_mask(mask_HW)
    return path


def vrt(path: Path, *bands: str, files: str = "") -> str:
    body = "".join(f"<VRTRasterBand {band}</VRTRasterBand>" for band in bands)
    path.write_text(f'<VRTDataset rasterXSize="4" rasterYSize="4">{body}{files}</VRTDataset>')
    return str(path)
