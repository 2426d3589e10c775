"""Resizing and colour conversion with the numbers OpenCV gives, in NumPy alone.

Weights trained on images that OpenCV prepared see their training input only when the same
arithmetic runs before them, so rounding and fixed-point steps follow OpenCV here.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from napari_cvsuite.images.image import ImageError

__all__ = ["pad_square", "resize_longest_side", "resize_nearest", "rgb_to_ycrcb"]

UInt8 = npt.NDArray[np.uint8]
_Taps = tuple[npt.NDArray[np.intp], npt.NDArray[np.float32]]

# Linear weights are 11-bit integers in OpenCV, colour coefficients 14-bit ones.
_LINEAR_ONE = 1 << 11
_COLOUR_BITS = 14
_COLOUR_HALF = 1 << (_COLOUR_BITS - 1)
_COLOUR_ZERO = 128 << _COLOUR_BITS
# A sliver of a source pixel thinner than this gets no weight.
_SLIVER = 1e-3


def resize_longest_side(image: UInt8, size: int) -> UInt8:
    """Resize an image so that its longest side has the given length.

    Parameters
    ----------
    image : array of uint8
        Height x width x channels.
    size : int
        Length of the longest side of the result.

    Returns
    -------
    array of uint8
        The other side keeps the aspect, rounded down, and is at least one pixel long. Shrinking
        averages areas; enlarging blends neighbours, both as OpenCV's ``INTER_AREA`` does.

    Raises
    ------
    ImageError
        The image is not uint8 with three axes, is empty, or the size is below one.
    """
    _check(image, size)
    height, width = image.shape[:2]
    if height > width:
        shape = (size, max(1, int(width * size / height)))
    else:
        shape = (max(1, int(height * size / width)), size)
    if shape == (height, width):
        return image.copy()
    if shape[0] > height or shape[1] > width:
        return _enlarge(image, shape)
    if height % shape[0] == 0 and width % shape[1] == 0:
        return _shrink_whole(image, shape)
    return _shrink(image, shape)


def resize_nearest(mask: npt.NDArray[Any], shape: tuple[int, int]) -> npt.NDArray[Any]:
    """Resize a mask without making new values.

    Parameters
    ----------
    mask : array
        Height x width, and any axes after them.
    shape : tuple of int
        Height and width of the result.

    Returns
    -------
    array
        Of the mask's dtype; pixel ``i`` comes from ``floor(i * source / target)`` on each axis.

    Raises
    ------
    ImageError
        The mask is empty or has fewer than two axes, or the shape is below one pixel.
    """
    if mask.ndim < 2 or mask.size == 0:
        raise ImageError(
            f"A mask of shape {mask.shape} cannot be resized; give at least one row and column."
        )
    if min(shape) < 1:
        raise ImageError(f"A mask cannot be resized to {shape}; give at least one pixel a side.")
    rows = np.arange(shape[0]) * mask.shape[0] // shape[0]
    columns = np.arange(shape[1]) * mask.shape[1] // shape[1]
    return mask[rows[:, None], columns]


def rgb_to_ycrcb(image: UInt8) -> UInt8:
    """Convert an RGB image to luma, red difference and blue difference.

    Parameters
    ----------
    image : array of uint8
        Height x width x 3, in the order red, green, blue.

    Returns
    -------
    array of uint8
        Of the same shape, in the order Y, Cr, Cb.

    Raises
    ------
    ImageError
        The image is not uint8 with three channels.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ImageError(
            f"Colour conversion needs a height x width x 3 image of uint8, not {image.dtype} of "
            f"shape {image.shape}; convert it first."
        )
    red, green, blue = (image[..., channel].astype(np.int32) for channel in range(3))
    luma = (4899 * red + 9617 * green + 1868 * blue + _COLOUR_HALF) >> _COLOUR_BITS
    # The differences use the rounded luma, as OpenCV does.
    cr = ((red - luma) * 11682 + _COLOUR_ZERO + _COLOUR_HALF) >> _COLOUR_BITS
    cb = ((blue - luma) * 9241 + _COLOUR_ZERO + _COLOUR_HALF) >> _COLOUR_BITS
    return np.clip(np.stack([luma, cr, cb], axis=-1), 0, 255).astype(np.uint8)


def pad_square(image: npt.NDArray[Any], size: int) -> npt.NDArray[Any]:
    """Pad an image with zeros at the bottom and the right to a square.

    Parameters
    ----------
    image : array
        Height x width, and any axes after them.
    size : int
        Side of the square.

    Returns
    -------
    array
        A new array of the image's dtype.

    Raises
    ------
    ImageError
        The image has fewer than two axes or is larger than the square.
    """
    if image.ndim < 2 or max(image.shape[:2]) > size:
        raise ImageError(
            f"An image of shape {image.shape} does not fit a square of {size} pixels; "
            "resize it first."
        )
    height, width = image.shape[:2]
    padded = np.zeros((size, size, *image.shape[2:]), image.dtype)
    padded[:height, :width] = image
    return padded


def _check(image: UInt8, size: int) -> None:
    if image.dtype != np.uint8 or image.ndim != 3:
        raise ImageError(
            f"Resizing needs a height x width x channels image of uint8, not {image.dtype} of "
            f"shape {image.shape}; convert it first."
        )
    if image.size == 0:
        raise ImageError(f"An image of shape {image.shape} is empty; there is nothing to resize.")
    if size < 1:
        raise ImageError(f"An image cannot be resized to {size} pixels; give at least one.")


def _enlarge(image: UInt8, shape: tuple[int, int]) -> UInt8:
    top, below, row_weights = _linear_taps(image.shape[0], shape[0])
    left, right, column_weights = _linear_taps(image.shape[1], shape[1])
    source = image.astype(np.int32)
    first, second = column_weights[:, :, None]
    rows = source[:, left] * first + source[:, right] * second
    # Two truncations and a rounding, in this order: it is how OpenCV keeps 32 bits enough.
    rows >>= 4
    first, second = row_weights[:, :, None, None]
    blended = ((rows[top] * first) >> 16) + ((rows[below] * second) >> 16)
    return np.clip((blended + 2) >> 2, 0, 255).astype(np.uint8)


def _linear_taps(
    source: int, target: int
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp], npt.NDArray[np.int32]]:
    """Return the first and second tap of each target pixel and their integer weights."""
    inverse = target / source
    scale = 1.0 / inverse
    position = np.arange(target)
    first = np.floor(position * scale).astype(np.intp)
    fraction = ((position + 1) - (first + 1) * inverse).astype(np.float32)
    fraction = np.where(fraction <= 0, np.float32(0), fraction - np.floor(fraction))
    # The last source pixel has no right neighbour to blend with.
    fraction[first >= source - 1] = 0
    first = np.minimum(first, source - 1)
    second = np.minimum(first + 1, source - 1)
    weights = np.rint(np.stack([1 - fraction, fraction]) * _LINEAR_ONE).astype(np.int32)
    return first, second, weights


def _shrink_whole(image: UInt8, shape: tuple[int, int]) -> UInt8:
    rows, columns = image.shape[0] // shape[0], image.shape[1] // shape[1]
    blocks = image.reshape(shape[0], rows, shape[1], columns, image.shape[2])
    total = blocks.sum(axis=(1, 3), dtype=np.int64)
    if rows == columns == 2 and image.shape[2] in (1, 3, 4):
        # Exact halving has its own path in OpenCV, which rounds halves up and not to even.
        return ((total + 2) >> 2).astype(np.uint8)
    mean = total.astype(np.float32) * np.float32(1 / (rows * columns))
    return np.clip(np.rint(mean), 0, 255).astype(np.uint8)


def _shrink(image: UInt8, shape: tuple[int, int]) -> UInt8:
    index, weight = _area_taps(image.shape[1], shape[1])
    # Tap by tap in float32, columns before rows: another order rounds elsewhere.
    rows = np.zeros((image.shape[0], shape[1], image.shape[2]), np.float32)
    for tap in range(index.shape[1]):
        rows += image[:, index[:, tap]] * weight[:, tap, None]
    index, weight = _area_taps(image.shape[0], shape[0])
    mean = np.zeros((*shape, image.shape[2]), np.float32)
    for tap in range(index.shape[1]):
        mean += rows[index[:, tap]] * weight[:, tap, None, None]
    return np.clip(np.rint(mean), 0, 255).astype(np.uint8)


def _area_taps(source: int, target: int) -> _Taps:
    """Return which source pixels each target pixel covers, and the share of each."""
    scale = source / target
    start = np.arange(target) * scale
    stop = start + scale
    cell = np.minimum(scale, source - start)
    last = np.minimum(np.floor(stop), source - 1)
    # From here to `last` the pixels lie inside the cell; one on either side may be cut by it.
    first = np.minimum(np.ceil(start), last)
    before, after = first - start, np.minimum(np.minimum(stop - last, 1.0), cell)
    pixel = (first - 1)[:, None] + np.arange(int((last - first).max()) + 2)
    share = ((pixel >= first[:, None]) & (pixel < last[:, None])).astype(np.float64)
    share[:, 0] = np.where(before > _SLIVER, before, 0)
    at = (np.arange(target), (last - first).astype(np.intp) + 1)
    share[at] = np.where(after > _SLIVER, after, 0)
    weight = (share / cell[:, None]).astype(np.float32)
    return np.clip(pixel, 0, source - 1).astype(np.intp), weight
