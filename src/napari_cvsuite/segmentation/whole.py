"""Networks that see the whole image, brought to one square, as the published QTSeg does."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import nn

from napari_cvsuite.images import minmax
from napari_cvsuite.images.resize import pad_square, resize_longest_side, rgb_to_ycrcb
from napari_cvsuite.models.catalog import InputSpec
from napari_cvsuite.segmentation.plane import flips_mean, forward

__all__ = ["enlarge_rows", "network_input", "predict_small"]

Array = NDArray[np.float32]


def network_input(pixels: NDArray[np.uint8], spec: InputSpec) -> Array:
    """Prepare an image as training did (arXiv 2412.17241, released recipe).

    Parameters
    ----------
    pixels : ndarray of uint8, shape (H, W, 3)
    spec : InputSpec
        Its ``tile`` is the side of the square.

    Returns
    -------
    ndarray of float32, shape (tile, tile, 3)
        Longest side resized to the square, colours converted, padded with zeros at the bottom and
        the right, and brought to [-1, 1] with one range for all of it.
    """
    small = resize_longest_side(pixels, spec.tile)
    if spec.colour == "ycrcb":
        small = rgb_to_ycrcb(small)
    padded = pad_square(small, spec.tile)
    return minmax(padded.astype(np.float32), float(padded.min()), float(padded.max()))


def predict_small(
    model: nn.Module,
    pixels: NDArray[np.uint8],
    spec: InputSpec,
    device: str,
    precision: str,
    tta: bool = False,
) -> Array:
    """Return the probabilities of a whole plane at the network's own size.

    Parameters
    ----------
    model : nn.Module
        Returns (logits, embedding); in eval mode and on `device`.
    pixels : ndarray of uint8, shape (H, W, 3)
    spec : InputSpec
        Of a card with mode ``"resize"``.
    tta : bool
        Average over the eight flips and quarter turns.

    Returns
    -------
    ndarray of float32, shape (K, h, w)
        The longer side is ``spec.tile``; the padding is cut off.
    """

    # Shrunk first: turning it costs less, and every view has the same size.
    small = resize_longest_side(pixels, spec.tile)

    def one(view: NDArray[np.uint8]) -> Array:
        height, width = view.shape[:2]
        found = forward(model, network_input(view, spec), device, precision, 1.0)
        return found[:, :height, :width]

    if not tta:
        return one(small)
    return flips_mean(lambda view: one(view.astype(np.uint8)), small.astype(np.float32))


def enlarge_rows(small: Array, shape: tuple[int, int], first: int, stop: int) -> Array:
    """Return some rows of a map enlarged (or shrunk) to a plane, linearly between pixel centres.

    Parameters
    ----------
    small : ndarray of float32, shape (K, h, w)
    shape : tuple of int
        Height and width of the plane.
    first, stop : int
        The rows to return.

    Returns
    -------
    ndarray of float32, shape (K, stop - first, width)
    """
    top, below, down = _neighbours(small.shape[1], shape[0], np.arange(first, stop))
    left, right, across = _neighbours(small.shape[2], shape[1], np.arange(shape[1]))
    down = down[:, None]
    rows = small[:, top] * (1 - down) + small[:, below] * down
    found = rows[:, :, left] * (1 - across) + rows[:, :, right] * across
    return found.astype(np.float32, copy=False)


def _neighbours(
    source: int, target: int, wanted: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], Array]:
    """Return for each wanted pixel the two it lies between, and how far along."""
    position = np.clip((wanted + 0.5) * source / target - 0.5, 0, source - 1)
    low = np.floor(position).astype(np.int64)
    return low, np.minimum(low + 1, source - 1), (position - low).astype(np.float32)
