"""Plain measures beside the score, that say what they measure: sharpness, noise, clipping."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

__all__ = ["Measures", "measure"]

SIDE = 2048
"""Of larger planes the middle is measured."""
_IMMERKAER = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32)


@dataclass(frozen=True)
class Measures:
    """Measures of a plane in [0, 1].

    Parameters
    ----------
    sharpness : float
        Variance of the Laplacian, on the scale of 8 bits (Pech-Pacheco et al. 2000); noise raises
        it, too.
    noise : float
        Standard deviation of white noise in per cent of the range (Immerkaer 1996); fine texture
        raises it, too.
    clipped : float
        Share of pixels at black or white in per cent.
    """

    sharpness: float
    noise: float
    clipped: float


def measure(pixels: NDArray[np.float32]) -> Measures:
    """Measure a plane.

    Parameters
    ----------
    pixels : ndarray of float32, shape (H, W, 3)
        In [0, 1].
    """
    part: NDArray[Any] = pixels[tuple(_middle(side) for side in pixels.shape[:2])]
    gray = part.mean(axis=2)
    laplacian = ndimage.laplace(gray * np.float32(255), mode="nearest")
    rough = ndimage.convolve(gray, _IMMERKAER, mode="reflect")
    return Measures(
        sharpness=float(laplacian.var()),
        noise=float(100 * np.sqrt(np.pi / 2) / 6 * np.abs(rough).mean()),
        clipped=float(100 * ((gray <= 0) | (gray >= 1)).mean()),
    )


def _middle(side: int) -> slice:
    start = max(0, (side - SIDE) // 2)
    return slice(start, start + min(side, SIDE))
