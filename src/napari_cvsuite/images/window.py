"""From pixels of any type to the range [0, 1] that networks take."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_cvsuite.images.image import ImageError
from napari_cvsuite.images.normalise import to_three_channels

__all__ = ["PERCENTILES", "RULES", "Window", "window_of"]

RULES = ("auto", "type", "percentile", "fixed")
PERCENTILES = (0.1, 99.9)
"""Ends of the window by percentiles, which single hot or dead pixels cannot move."""
SAMPLE = 1_000_000
"""Pixels of a plane that percentiles are estimated from, on a regular grid."""


@dataclass(frozen=True)
class Window:
    """Intensities that become 0 and 1; what lies outside is clipped.

    Parameters
    ----------
    low, high : float
    rule : str
        How they were found, for people.
    """

    low: float
    high: float
    rule: str

    def apply(self, plane: NDArray[Any]) -> NDArray[np.float32]:
        """Return H x W x 3 in [0, 1]; a window of no width gives zeros.

        Gray is repeated, alpha dropped, NaN becomes 0.

        Raises
        ------
        ImageError
            The plane has more than four channels, or no finite pixel.
        """
        # In double, as 32-bit integers and large offsets would lose their last digits.
        pixels = to_three_channels(plane.astype(np.float64) - self.low)
        if not self.high > self.low:
            return np.zeros_like(pixels)
        scaled: NDArray[np.float32] = np.clip(pixels / np.float32(self.high - self.low), 0.0, 1.0)
        return scaled


def window_of(
    planes: Iterable[NDArray[Any]], rule: str, low: float = 0.0, high: float = 0.0
) -> Window:
    """Find the window of an image, or of a stack from some of its planes.

    Parameters
    ----------
    planes : iterable of ndarray, shape (H, W) or (H, W, C)
        All of one type.
    rule : {"auto", "type", "percentile", "fixed"}
        ``type`` is the whole range of the data type, 0 to 1 for floats; ``percentile`` runs from
        the 0.1th to the 99.9th percentile of the finite pixels; ``fixed`` is `low` to `high`;
        ``auto`` is ``type`` for 8 bits and ``percentile`` for all others.
    low, high : float
        Of the rule ``fixed``.

    Raises
    ------
    ImageError
        The rule does not fit the pixels, or there is no finite pixel.
    """
    if rule == "fixed":
        return Window(low, high, f"fixed, {low:g} to {high:g}")
    found: list[NDArray[np.float64]] = []
    dtype: np.dtype[Any] | None = None
    for plane in planes:
        dtype = plane.dtype
        if dtype.kind == "b":
            return Window(0.0, 1.0, "type bool, 0 to 1")
        if dtype.kind in "ui" and (rule == "type" or (rule == "auto" and dtype == np.uint8)):
            info = np.iinfo(dtype)
            ends = (float(max(info.min, 0)), float(info.max))
            return Window(*ends, f"type {dtype}, {ends[0]:g} to {ends[1]:g}")
        found.append(_sample(plane))
    finite = np.concatenate(found) if found else np.zeros(0)
    if not finite.size:
        raise ImageError.of_blank()
    if rule == "type":
        if finite.min() < 0 or finite.max() > 1:
            raise ImageError(
                "intensity 'type' takes floats from 0 to 1, but these run from "
                f"{finite.min():g} to {finite.max():g}; choose percentile or fixed"
            )
        return Window(0.0, 1.0, f"type {dtype}, 0 to 1")
    least, most = (float(end) for end in np.percentile(finite, PERCENTILES))
    return Window(
        least, most, f"percentiles {PERCENTILES[0]} and {PERCENTILES[1]}, {least:g} to {most:g}"
    )


def _sample(plane: NDArray[Any]) -> NDArray[np.float64]:
    """Return finite pixels on a regular grid, without alpha."""
    step = int(np.ceil(np.sqrt(plane.shape[0] * plane.shape[1] / SAMPLE)))
    kept = plane[::step, ::step]
    if kept.ndim == 3 and kept.shape[2] == 4:
        kept = kept[..., :3]
    values = kept.astype(np.float64).ravel()
    return values[np.isfinite(values)]
