"""Objects in a class map: labelling, splitting of touching ones, and their table."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage import measure, segmentation
from skimage.morphology import reconstruction

from napari_cvsuite.segmentation.measures import Columns, object_columns
from napari_cvsuite.segmentation.measures import measure as measure_objects

__all__ = [
    "METHODS",
    "fill_class_holes",
    "label_objects",
    "object_table",
    "rows_of",
    "split_touching",
]

Labels = NDArray[np.int32]
METHODS = ("none", "components", "watershed")
REACH = 12
"""Pixels around an object that its splitting depends on (smoothing, and the distances below it)."""


def check_method(method: str) -> None:
    """Raise ValueError for an unknown method."""
    if method not in METHODS:
        raise ValueError(f"method must be none, components or watershed; got {method!r}")


def label_objects(
    classes: NDArray[np.integer],
    method: str = "components",
    min_size: int = 0,
    fill_holes: bool = False,
) -> Labels:
    """Number the objects of every foreground class.

    Planes too large for this are labelled by
    :func:`napari_cvsuite.segmentation.blockwise.label_blocks`, with the same result.

    Parameters
    ----------
    classes : ndarray of int, shape (H, W)
        Class map; 0 is background.
    method : {"none", "components", "watershed"}
        ``none`` makes one object of each class; ``components`` takes 8-connected parts;
        ``watershed`` also splits parts that touch at a waist, by their distance to the edge.
    min_size : int
        Objects with fewer pixels are dropped.
    fill_holes : bool
        Fill background that one object encloses; of two classes the higher one fills.

    Returns
    -------
    ndarray of int32, shape (H, W)
        Object numbers from 1 on, without gaps; 0 elsewhere.

    Raises
    ------
    ValueError
        Unknown method.
    """
    check_method(method)
    filled = fill_class_holes(classes) if fill_holes else classes
    labels = np.zeros(classes.shape, np.int32)
    for value in _values(classes):
        mask = filled == value
        part = mask.astype(np.int32) if method == "none" else measure.label(mask, connectivity=2)
        if method == "watershed":
            part = split_touching(mask, part)
        labels[mask] = part[mask] + labels.max()
    return _drop_small(labels, min_size)


def fill_class_holes(classes: NDArray[np.integer]) -> NDArray[np.integer]:
    """Return a class map whose enclosed background has the class that encloses it.

    Of two classes the higher one fills.

    Parameters
    ----------
    classes : ndarray of int, shape (H, W)
        Class map; 0 is background.
    """
    filled = classes.copy()
    for value in _values(classes):
        holes = ndimage.binary_fill_holes(classes == value) & (classes == 0)
        filled[holes] = value
    return filled


def _values(classes: NDArray[np.integer]) -> list[int]:
    return [int(value) for value in np.unique(classes) if value != 0]


def split_touching(mask: NDArray[np.bool_], part: NDArray[np.integer]) -> Labels:
    """Split parts that touch at a waist by a watershed on the distance to their edge.

    Each part is split as if it were alone, except that the smoothing of its distances sees
    others nearer than its radius of four pixels.

    Parameters
    ----------
    mask : ndarray of bool, shape (H, W)
        All pixels of a class.
    part : ndarray of int, shape (H, W)
        Numbers of the 8-connected parts to split; others, also inside the mask, are 0.

    Returns
    -------
    ndarray of int32, shape (H, W)
    """
    smooth = ndimage.gaussian_filter(ndimage.distance_transform_edt(mask), 1.0)
    # Rounded, so that heights which are equal stay so wherever the block's borders fall.
    distance = np.round(smooth, 6)
    # Zero outside cuts what would lead from part to part.
    distance[part == 0] = 0.0
    # A waist must be clearly narrower than the bodies, else noise in the outline splits nuclei.
    peaks = measure.label(_h_maxima(distance, 0.75))
    # Ranks instead of heights: among equal ones the watershed would take its seeds in an order
    # that depends on all other parts, so a pixel between two peaks could change sides.
    rank = np.empty(distance.size, np.intp)
    rank[np.argsort(-distance, axis=None, kind="stable")] = np.arange(distance.size)
    # 8-connected as the parts are, so that each is reached as a whole from its peaks.
    split = segmentation.watershed(
        rank.reshape(distance.shape), peaks, mask=part > 0, connectivity=2
    )
    # A part too small to hold a peak keeps its own number.
    lost = (part > 0) & (split == 0)
    split[lost] = part[lost] + split.max()
    result: Labels = split.astype(np.int32)
    return result


def _h_maxima(image: NDArray[np.float64], height: float) -> NDArray[np.bool_]:
    # No seed below zero: else the highest peak of all would decide what becomes of flat parts.
    dome = image - reconstruction(np.maximum(image - height, 0.0), image, method="dilation")
    return np.asarray(dome >= height - 1e-9)


def _drop_small(labels: Labels, min_size: int) -> Labels:
    sizes = np.bincount(labels.ravel())
    keep = sizes >= max(min_size, 1)
    keep[0] = False
    numbers = np.zeros(len(sizes), np.int32)
    numbers[keep] = np.arange(1, int(keep.sum()) + 1)
    result: Labels = numbers[labels]
    return result


def object_table(
    labels: Labels,
    classes: NDArray[np.integer],
    scale: tuple[float, float] = (1.0, 1.0),
) -> list[dict[str, float]]:
    """Measure every object, in physical units.

    Parameters
    ----------
    labels : ndarray of int32, shape (H, W)
    classes : ndarray of int, shape (H, W)
        An object's class is that of its first pixel. Give the filled map where holes were
        filled: a hole within another class can be an object of its own.
    scale : tuple of float
        Pixel height and width.

    Returns
    -------
    list of dict
        ``index`` (object number), ``class``, ``area`` (square units), ``centroid_y``,
        ``centroid_x``, ``major_axis``, ``minor_axis`` (units; of the ellipse with the same second
        moments), ``eccentricity`` and ``solidity`` (0 to 1; share of the pixels in the convex
        hull); empty for no objects.
    """
    sums, extents = measure_objects(labels, classes)
    _, convex = extents.convex_pixels()
    return rows_of(object_columns(sums, convex, scale))


def rows_of(columns: Columns) -> list[dict[str, Any]]:
    """Return a table of columns as one dictionary an object."""
    lists = [values.tolist() for values in columns.values()]
    return [dict(zip(columns, row, strict=True)) for row in zip(*lists, strict=True)]
