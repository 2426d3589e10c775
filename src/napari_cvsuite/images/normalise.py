"""From pixels of any type to the three channels in [-1, 1] that the networks take."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_cvsuite.images.image import ImageError

__all__ = ["finite_range", "minmax", "to_three_channels"]


def to_three_channels(plane: NDArray[Any]) -> NDArray[np.float32]:
    """Return a plane as H x W x 3 float32.

    Gray is repeated, alpha is dropped, a missing third channel is zero. NaN becomes the smallest
    finite value, infinities the largest and the smallest.

    Parameters
    ----------
    plane : ndarray of any real type, shape (H, W) or (H, W, C)

    Raises
    ------
    ImageError
        More than four channels, or no finite pixel.
    """
    values = plane[..., None] if plane.ndim == 2 else plane
    channels = values.shape[-1]
    if channels > 4:
        raise ImageError(f"the image has {channels} channels; choose up to three of them")
    # float64 holds every integer type's range, so that nothing overflows below.
    exact = values[..., :1] if channels == 1 else values[..., :3]
    exact = exact.astype(np.float64)
    finite = np.isfinite(exact)
    if not finite.all():
        if not finite.any():
            raise ImageError("the image has no finite pixel (all NaN or infinite); load another")
        low, high = exact[finite].min(), exact[finite].max()
        exact = np.nan_to_num(exact, nan=low, posinf=high, neginf=low)
    largest = np.abs(exact).max(initial=0.0)
    if largest > 1e30:
        exact /= largest
    if exact.shape[-1] == 1:
        return np.repeat(exact.astype(np.float32), 3, axis=-1)
    if exact.shape[-1] == 2:
        exact = np.concatenate([exact, np.zeros_like(exact[..., :1])], axis=-1)
    return exact.astype(np.float32)


def finite_range(plane: NDArray[Any]) -> tuple[float, float]:
    """Return the smallest and the largest finite value.

    Raises
    ------
    ImageError
        There is none.
    """
    finite = plane[np.isfinite(plane)]
    if not finite.size:
        raise ImageError("the image has no finite pixel (all NaN or infinite); load another")
    return float(finite.min()), float(finite.max())


def minmax(plane: NDArray[Any], low: float, high: float) -> NDArray[np.float32]:
    """Scale ``[low, high]`` to ``[-1, 1]``; a constant image becomes -1 (never NaN)."""
    if not high > low:
        return np.full(plane.shape, -1.0, np.float32)
    scaled: NDArray[np.float32] = (2.0 * ((plane - low) / (high - low)) - 1.0).astype(np.float32)
    return scaled
