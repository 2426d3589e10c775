"""Images of the demonstration: a cat, and tissue whose nuclei are labelled."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_cvsuite.images import Image, read

__all__ = ["cat", "labelled_tissue"]

SIDE = 64
"""Of the parts that tissue is cut into."""


def cat() -> Image:
    """Return the photograph of a cat that comes with scikit-image."""
    return Image.from_array(_picture("chelsea.png"), name="cat")


def labelled_tissue() -> tuple[Image, Image]:
    """Return parts of stained tissue as a stack, and a label where the nuclear stain is strong.

    Returns
    -------
    image, labels : Image
        64 slices of 64 x 64 pixels; 1 above Otsu's threshold of hematoxylin.
    """
    from skimage.color import rgb2hed
    from skimage.filters import gaussian, threshold_otsu

    pixels = _picture("ihc.png")
    stain = gaussian(rgb2hed(pixels)[..., 0], 1.5)
    nuclei = (stain > threshold_otsu(stain)).astype(np.uint8)
    return (
        Image.from_array(_cut(pixels), axes="zyxc", name="tissue"),
        Image.from_array(_cut(nuclei), axes="zyx", name="nuclei"),
    )


def _picture(name: str) -> NDArray[np.uint8]:
    import skimage

    pixels = read(Path(skimage.__file__).parent / "data" / name).plane()
    return np.ascontiguousarray(pixels[..., :3])


def _cut(array: NDArray[np.uint8]) -> NDArray[np.uint8]:
    rows, columns = array.shape[0] // SIDE, array.shape[1] // SIDE
    kept = array[: rows * SIDE, : columns * SIDE]
    parts = kept.reshape(rows, SIDE, columns, SIDE, *array.shape[2:]).swapaxes(1, 2)
    return np.ascontiguousarray(parts.reshape(-1, SIDE, SIDE, *array.shape[2:]))
