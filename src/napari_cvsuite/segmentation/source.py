"""One plane of an image, read part by part as the network wants it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from skimage.color import rgb2hed

from napari_cvsuite.images import (
    Image,
    ImageError,
    Scaling,
    to_three_channels,
    usable_channels,
)

__all__ = ["BLOCK_PIXELS", "PlaneSource", "row_blocks"]

BLOCK_PIXELS = 4_000_000
"""Pixels that are read, measured or labelled at a time; bounds the memory of large images."""
STAIN_SAMPLE = 16_000_000
"""Larger planes have the clipping limits of a stain estimated from a regular grid of pixels."""


def row_blocks(shape: tuple[int, int], pixels: int = BLOCK_PIXELS) -> Iterator[slice]:
    """Yield the rows of a plane in blocks of about `pixels` pixels."""
    height, width = shape
    step = max(1, pixels // width)
    for start in range(0, height, step):
        yield slice(start, min(start + step, height))


class PlaneSource:
    """A plane in the range [-1, 1], scaled once for the whole plane and never by its parts.

    Parameters
    ----------
    image : Image
    index : mapping of axis to position
    channels : tuple of int, optional
        Channels to use; None takes all of up to three, without the alpha of RGBA.
    stain : {"none", "hematoxylin"}
    check : callable
        Called between blocks; raises to stop.

    Raises
    ------
    ImageError
        The plane cannot be used; the message says why.
    """

    def __init__(
        self,
        image: Image,
        index: Mapping[str, int],
        channels: tuple[int, ...] | None = None,
        stain: str = "none",
        check: Callable[[], None] = lambda: None,
    ) -> None:
        self.shape = (image.size("y"), image.size("x"))
        self._image, self._index, self._stain, self._check = image, dict(index), stain, check
        self._channels = usable_channels(image, channels)
        self._rows = slice(0, 0)
        self._cached: NDArray[Any] = np.zeros((0, 0))
        if self.shape[0] * self.shape[1] <= BLOCK_PIXELS:
            self._load(slice(0, self.shape[0]))
        self._raw = Scaling.of(self._blocks())
        self._scaling = self._raw
        if stain != "none":
            _check_colour(image, channels, stain)
            self._scaling = self._stain_limits()

    def read(self, y: int, x: int, height: int, width: int) -> NDArray[np.float32]:
        """Return a part, height x width x 3 in [-1, 1]."""
        self._load(slice(y, y + height))
        first = y - self._rows.start
        part = self._cached[first : first + height, x : x + width]
        if self._stain != "none":
            part = np.clip(self._density(part), self._scaling.low, self._scaling.high)
        return self._scaling.apply(part)

    def pixels(self) -> NDArray[np.uint8]:
        """Return the whole plane, H x W x 3; what is not uint8 is brought to 0 to 255."""
        pixels = np.zeros((*self.shape, 3), np.uint8)
        for rows in row_blocks(self.shape):
            self._check()
            self._load(rows)
            if self._cached.dtype == np.uint8 and self._stain == "none":
                first = rows.start - self._rows.start
                part = to_three_channels(self._cached[first : first + rows.stop - rows.start])
            else:
                part = 127.5 * (1 + self.read(rows.start, 0, rows.stop - rows.start, self.shape[1]))
            pixels[rows] = np.rint(part)
        return pixels

    def _load(self, rows: slice) -> None:
        # Tiles come row by row: what is compressed is decoded once for a row of tiles.
        if rows.start < self._rows.start or rows.stop > self._rows.stop:
            try:
                self._cached = self._image.plane(self._index, self._channels, rows)
            except OSError as error:
                # Named here, since whoever writes the results takes an OSError for its own.
                raise ImageError(
                    f"{self._image.name} cannot be read any further ({error.strerror or error}); "
                    "check the disk or the connection and try again"
                ) from error
            self._rows = rows

    def _blocks(self) -> Iterator[NDArray[Any]]:
        for rows in row_blocks(self.shape):
            self._check()
            self._load(rows)
            first = rows.start - self._rows.start
            yield self._cached[first : first + rows.stop - rows.start]

    def _density(self, part: NDArray[Any]) -> NDArray[np.float64]:
        """Density of the stain by the colour deconvolution of Ruifrok and Johnston (2001)."""
        rgb = to_three_channels(part, (self._raw.low, self._raw.high))
        integer = part.dtype.kind in "ui"
        top = np.iinfo(part.dtype).max if integer else max(self._raw.high, 1e-12)
        density: NDArray[np.float64] = rgb2hed(np.clip(rgb / top, 0.0, 1.0))[..., 0]
        return density

    def _stain_limits(self) -> Scaling:
        # The outermost 1 % and 0.5 % are clipped: single dark specks would compress all others.
        step = int(np.ceil(np.sqrt(self.shape[0] * self.shape[1] / STAIN_SAMPLE)))
        parts = [self._density(block[::step, ::step]).ravel() for block in self._blocks()]
        low, high = np.percentile(np.concatenate(parts), [1.0, 99.5])
        return Scaling(float(low), float(high))


def _check_colour(image: Image, channels: tuple[int, ...] | None, stain: str) -> None:
    count = len(channels) if channels else image.size("c") if "c" in image.axes else 1
    if count not in (3, 4):
        raise ImageError(f"stain {stain!r} needs an RGB image; choose 'none' for others")
