"""Requirements of a model for a raster: the data type of its values, and the ground size of its pixels.

Inference and training ask the same two questions. Each caller names the place that states the requirement and gives
the line that lifts it, because a recipe for a run and a recipe for training are changed in different ways.
"""

from __future__ import annotations

from batchseg.errors import BundleError
from batchseg.scene.area import measure_gsd_m
from batchseg.scene.georef import Georef


def check_dtype(raster_dtype: str, model_dtype: str, *, url: str, required_by: str, todo: str) -> None:
    """Raise BundleError when a raster holds values of another type than the model was made for.

    Args:
        raster_dtype: Data type of the raster.
        model_dtype: Data type that the model expects.
        url: Address of the raster, for the message.
        required_by: Name of the bundle or of the recipe's field that states the requirement.
        todo: Advice that ends the message.
    """
    if raster_dtype != model_dtype:
        raise BundleError(
            "the raster's data type is not the model's",
            where=url,
            expected=f"{model_dtype} ({required_by})",
            got=raster_dtype,
            todo=todo,
        )


def check_pixel_size(
    georef: Georef, known_gsd_m: tuple[float, float], *, url: str, required_by: str, todo: str
) -> None:
    """Raise BundleError when a raster's pixels are smaller or larger on the ground than the model knows.

    A raster without a known place on the Earth passes: its pixel size cannot be told.

    Args:
        georef: Grid and place of the raster.
        known_gsd_m: Smallest and largest ground sample distance that the model knows.
        url: Address of the raster, for the message.
        required_by: Name of the bundle or of the recipe's field that states the requirement.
        todo: Advice that ends the message.
    """
    pixel_m, (low_m, high_m) = measure_gsd_m(georef), known_gsd_m
    if pixel_m is not None and not low_m <= pixel_m <= high_m:
        raise BundleError(
            "the raster's pixels are not of the size that the model knows",
            where=url,
            expected=f"{low_m:g} to {high_m:g} m ({required_by})",
            got=f"{pixel_m:.3g} m",
            todo=todo,
        )
