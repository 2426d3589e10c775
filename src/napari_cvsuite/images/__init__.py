"""Arrays with axes: reading, normalising, tiling, writing. No torch, no Qt."""

from napari_cvsuite.images.channels import channel_numbers, usable_channels
from napari_cvsuite.images.cut import Cut, cut_along
from napari_cvsuite.images.grid import Grid
from napari_cvsuite.images.image import Image, ImageError
from napari_cvsuite.images.normalise import Scaling, finite_range, minmax, to_three_channels
from napari_cvsuite.images.readers import READERS, expand, find_images, read
from napari_cvsuite.images.tiling import Tile, blend_rows, plan_tiles
from napari_cvsuite.images.window import Window, window_of
from napari_cvsuite.images.writers import (
    open_tiff,
    replacing,
    scratch_array,
    write_labels,
    write_probability,
)

__all__ = [
    "READERS",
    "Cut",
    "Grid",
    "Image",
    "ImageError",
    "Scaling",
    "Tile",
    "Window",
    "blend_rows",
    "channel_numbers",
    "cut_along",
    "expand",
    "find_images",
    "finite_range",
    "minmax",
    "open_tiff",
    "plan_tiles",
    "read",
    "replacing",
    "scratch_array",
    "to_three_channels",
    "usable_channels",
    "window_of",
    "write_labels",
    "write_probability",
]
