"""From pixels of any type to the three channels in [-1, 1] that the networks take."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_cvsuite.images.image import ImageError

__all__ = ["Scaling", "finite_range", "minmax", "to_three_channels"]

_HUGE = 1e30


def _chosen(plane: NDArray[Any]) -> NDArray[Any]:
    """Return the channels that count: the first of one, else up to three; alpha is dropped."""
    values = plane[..., None] if plane.ndim == 2 else plane
    channels = values.shape[-1]
    if channels > 4:
        raise ImageError(
            f"the image has {channels} channels; choose up to three of them (channels='0,1,2')"
        )
    return values[..., :1] if channels == 1 else values[..., :3]


def to_three_channels(
    plane: NDArray[Any], limits: tuple[float, float] | None = None
) -> NDArray[np.float32]:
    """Return a plane as H x W x 3 float32.

    Gray is repeated, alpha is dropped, a missing third channel is zero. NaN becomes the smallest
    finite value, infinities the largest and the smallest.

    Parameters
    ----------
    plane : ndarray of any real type, shape (H, W) or (H, W, C)
    limits : tuple of float, optional
        Smallest and largest finite value of the image that `plane` is a part of; those of the
        plane itself by default.

    Raises
    ------
    ImageError
        More than four channels, or no finite pixel.
    """
    exact = _chosen(plane)
    if limits is None:
        limits = finite_range(exact)
    low, high = limits
    if exact.dtype.kind == "f":
        if not np.isfinite(exact).all():
            exact = np.nan_to_num(exact.astype(np.float64), nan=low, posinf=high, neginf=low)
        if max(-low, high) > _HUGE:
            exact = exact.astype(np.float64) / max(-low, high)
    three: NDArray[np.float32] = np.zeros((*exact.shape[:2], 3), np.float32)
    # One channel is broadcast to all three; of two the third stays zero.
    three[..., : 3 if exact.shape[-1] == 1 else exact.shape[-1]] = exact
    return three


def finite_range(plane: NDArray[Any]) -> tuple[float, float]:
    """Return the smallest and the largest finite value.

    Raises
    ------
    ImageError
        There is none.
    """
    found = _range(plane)
    if found is None:
        raise ImageError.of_blank()
    return found


def _range(plane: NDArray[Any]) -> tuple[float, float] | None:
    if plane.dtype.kind == "f":
        finite = np.isfinite(plane)
        if not finite.all():
            plane = plane[finite]
    return (float(plane.min()), float(plane.max())) if plane.size else None


def minmax(plane: NDArray[Any], low: float, high: float) -> NDArray[np.float32]:
    """Scale ``[low, high]`` to ``[-1, 1]``; a constant image becomes -1 (never NaN)."""
    if not high > low:
        return np.full(plane.shape, -1.0, np.float32)
    scaled: NDArray[np.float32] = (2.0 * ((plane - low) / (high - low)) - 1.0).astype(np.float32)
    return scaled


@dataclass(frozen=True)
class Scaling:
    """How one whole image is brought to [-1, 1], so that its parts can be, one by one.

    Parameters
    ----------
    low, high : float
        Smallest and largest finite value of the whole image.
    """

    low: float
    high: float

    @classmethod
    def of(cls, parts: Iterable[NDArray[Any]]) -> Scaling:
        """Measure an image that comes in parts, each (H, W) or (H, W, C).

        Raises
        ------
        ImageError
            More than four channels, or no finite pixel.
        """
        found = [limits for part in parts if (limits := _range(_chosen(part))) is not None]
        if not found:
            raise ImageError.of_blank()
        return cls(min(low for low, _ in found), max(high for _, high in found))

    def apply(self, part: NDArray[Any]) -> NDArray[np.float32]:
        """Return a part as H x W x 3 in [-1, 1], the same as if the whole had been scaled."""
        limits = (self.low, self.high)
        ends = np.array([limits], np.float64)
        if part.ndim == 3 and part.shape[-1] == 2:
            # The third channel, which is missing, is zero and counts as a value of the image.
            ends = np.concatenate([ends, np.zeros_like(ends)])
        scaled_ends = to_three_channels(ends, limits)[..., 0]
        return minmax(
            to_three_channels(part, limits), float(scaled_ends.min()), float(scaled_ends.max())
        )
