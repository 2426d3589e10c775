"""What a classifier of a fixed input size sees of an image of any size: a square part, resized."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Picture

from napari_cvsuite.images import Grid, ImageError
from napari_cvsuite.models.planes import Pixels, Planes

__all__ = ["VIEWS", "Box", "look", "view_box"]

VIEWS = ("centre", "whole", "region")
_OVER = 4
"""Pixels for each one the network sees that are kept before the last resize."""
_STRIP = 1 << 21
"""Pixels of a strip that is read at a time."""


@dataclass(frozen=True)
class Box:
    """The part of a plane that is seen, in its pixels, whose centres are whole numbers plus 0.5.

    Parameters
    ----------
    top, left, height, width : float
    """

    top: float
    left: float
    height: float
    width: float

    def grid(self, shape: tuple[int, int]) -> Grid:
        """Return where the values of a map of `shape` over the box lie on the plane."""
        step = (self.height / shape[0], self.width / shape[1])
        origin = (self.top + (step[0] - 1) / 2, self.left + (step[1] - 1) / 2)
        return Grid(step, origin)


def view_box(shape: tuple[int, int], view: str, region: str = "", crop: float = 1.0) -> Box:
    """Return the part of a plane that a classifier sees.

    Parameters
    ----------
    shape : tuple of int
        Height and width of the plane.
    view : {"centre", "whole", "region"}
        The middle square, so much of the shorter side as the network was trained to see; the whole
        plane, squeezed into a square; or the square around a region, of its longer side, moved
        into the plane and no larger than its shorter side.
    region : str
        ``top,left,height,width`` in pixels.
    crop : float
        Share of the shorter side that the middle square has, in (0, 1].

    Raises
    ------
    ImageError
        The region is no region of the plane.
    """
    height, width = shape
    if view == "whole":
        return Box(0.0, 0.0, float(height), float(width))
    side = min(shape) * crop
    top, left = (height - side) / 2, (width - side) / 2
    if view == "region":
        given = _numbers(region)
        side = min(max(given[2], given[3]), float(min(shape)))
        top = min(max(given[0] + (given[2] - side) / 2, 0.0), height - side)
        left = min(max(given[1] + (given[3] - side) / 2, 0.0), width - side)
    return Box(top, left, side, side)


def _numbers(region: str) -> tuple[float, float, float, float]:
    try:
        top, left, height, width = (float(part) for part in region.split(","))
    except ValueError:
        top = left = height = width = math.nan
    good = all(map(math.isfinite, (top, left))) and 1 <= height < math.inf and 1 <= width < math.inf
    if not good:
        raise ImageError(
            "a region is top,left,height,width in pixels, at least one pixel high and wide, such "
            f"as 10,20,64,64; got {region!r}"
        )
    return top, left, height, width


def look(planes: Planes, index: Mapping[str, int], box: Box, size: int) -> Pixels:
    """Return what a network of input `size` sees of a plane.

    Large parts are averaged over blocks while they are read, strip by strip; then follows one
    linear resize that averages. Intensities are brought to [0, 1] as :class:`Planes` says.

    Parameters
    ----------
    planes : Planes
    index : mapping of axis to position
    box : Box
    size : int

    Returns
    -------
    ndarray of float32, shape (size, size, 3)
        In [0, 1].

    Raises
    ------
    ImageError
        The plane cannot be read, or has no finite pixel.
    """
    top, left = math.floor(box.top), math.floor(box.left)
    bottom = min(planes.shape[0], math.ceil(box.top + box.height))
    right = min(planes.shape[1], math.ceil(box.left + box.width))
    block = (
        max(1, int((bottom - top) // (_OVER * size))),
        max(1, int((right - left) // (_OVER * size))),
    )
    raw = _averaged(planes, index, (top, bottom), (left, right), block)
    pixels = planes.window_at(raw).apply(raw)
    part = (
        (box.left - left) / block[1],
        (box.top - top) / block[0],
        min((box.left - left + box.width) / block[1], float(pixels.shape[1])),
        min((box.top - top + box.height) / block[0], float(pixels.shape[0])),
    )
    channels = [
        Picture.fromarray(np.ascontiguousarray(pixels[..., channel])).resize(
            (size, size), Picture.Resampling.BILINEAR, box=part
        )
        for channel in range(3)
    ]
    return np.clip(np.stack([np.asarray(one, np.float32) for one in channels], axis=-1), 0, 1)


def _averaged(
    planes: Planes,
    index: Mapping[str, int],
    rows: tuple[int, int],
    columns: tuple[int, int],
    block: tuple[int, int],
) -> NDArray[Any]:
    """Read a part of a plane and average blocks of it; what is not finite does not count."""
    if block == (1, 1):
        return planes.raw(index, slice(*rows), slice(*columns))
    width = columns[1] - columns[0]
    step = max(1, _STRIP // (width * block[0])) * block[0]
    strips = []
    for start in range(rows[0], rows[1], step):
        strip = planes.raw(index, slice(start, min(start + step, rows[1])), slice(*columns))
        strips.append(_blocks(strip, block))
    means = np.concatenate(strips)
    # The data type decides on the window of intensities, so integers stay integers.
    return np.rint(means).astype(strip.dtype) if strip.dtype.kind in "ui" else means


def _blocks(strip: NDArray[Any], block: tuple[int, int]) -> NDArray[np.float64]:
    """Return means of the finite pixels of blocks; the last ones may be smaller."""
    if strip.dtype.kind == "f":
        known = np.isfinite(strip)
        counts = _sums(known, block)
        sums = _sums(np.where(known, strip, 0), block)
    else:
        counts, sums = (
            _sums(np.ones((*strip.shape[:2], 1)[: strip.ndim]), block),
            _sums(strip, block),
        )
    return np.divide(sums, counts, out=np.full_like(sums, np.nan), where=counts > 0)


def _sums(values: NDArray[Any], block: tuple[int, int]) -> NDArray[np.float64]:
    for axis, length in enumerate(block):
        starts = np.arange(0, values.shape[axis], length)
        values = np.add.reduceat(values, starts, axis=axis, dtype=np.float64)
    return values
