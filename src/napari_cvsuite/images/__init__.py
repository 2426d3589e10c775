"""Arrays with axes: reading, normalising, tiling, writing. No torch, no Qt."""

from napari_cvsuite.images.image import Image, ImageError
from napari_cvsuite.images.normalise import finite_range, minmax, to_three_channels
from napari_cvsuite.images.readers import READERS, read
from napari_cvsuite.images.tiling import Tile, blend_rows, plan_tiles
from napari_cvsuite.images.writers import write_labels, write_probability

__all__ = [
    "READERS",
    "Image",
    "ImageError",
    "Tile",
    "blend_rows",
    "finite_range",
    "minmax",
    "plan_tiles",
    "read",
    "to_three_channels",
    "write_labels",
    "write_probability",
]
