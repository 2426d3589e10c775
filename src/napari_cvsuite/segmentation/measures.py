"""Measures of objects from sums that add up, so that an object may come in pieces."""

from __future__ import annotations

from dataclasses import dataclass
from math import gcd
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["COLUMNS", "Columns", "Extents", "Sums", "measure", "object_columns"]

COLUMNS = (
    "index",
    "class",
    "area",
    "centroid_y",
    "centroid_x",
    "major_axis",
    "minor_axis",
    "eccentricity",
    "solidity",
)
"""Columns of the object table, in order."""
Columns = dict[str, NDArray[np.float64]]
Integers = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Extents:
    """First and last column of objects in each of their rows, sorted by object and row."""

    number: Integers
    y: Integers
    left: Integers
    right: Integers

    @classmethod
    def of(cls, number: Integers, y: Integers, left: Integers, right: Integers) -> Extents:
        """Sort, and join what lies in one row of one object."""
        order = np.lexsort((y, number))
        number, y, left, right = number[order], y[order], left[order], right[order]
        new = np.ones(len(number), bool)
        new[1:] = (np.diff(number) != 0) | (np.diff(y) != 0)
        first = np.flatnonzero(new)
        if not len(first):
            return cls(number, y, left, right)
        return cls(
            number[first],
            y[first],
            np.minimum.reduceat(left, first),
            np.maximum.reduceat(right, first),
        )

    def of_numbers(self, wanted: NDArray[np.bool_]) -> Extents:
        """Return those of the objects that `wanted`, indexed by number, is true for."""
        keep = wanted[self.number]
        return Extents(self.number[keep], self.y[keep], self.left[keep], self.right[keep])

    def convex_pixels(self) -> tuple[Integers, Integers]:
        """Return the object numbers, and of each the pixels in its convex hull.

        A pixel counts if its centre lies in the convex hull of the object's pixel centres; by
        Pick's theorem these are A + B / 2 + 1 for a hull of area A with B centres on its outline.
        """
        numbers, first = np.unique(self.number, return_index=True)
        ends = [*first.tolist(), len(self.number)][1:]
        y, left, right = self.y.tolist(), self.left.tolist(), self.right.tolist()
        counts = [
            _convex_count(y[a:b], left[a:b], right[a:b])
            for a, b in zip(first.tolist(), ends, strict=True)
        ]
        return numbers, np.array(counts, np.int64)


def _chain(x: list[int], y: list[int], side: int) -> list[tuple[int, int]]:
    """Corners of the hull on one side (1 left, -1 right), downwards."""
    chain: list[tuple[int, int]] = []
    for point in zip(x, y, strict=True):
        while len(chain) > 1:
            (ax, ay), (bx, by) = chain[-2], chain[-1]
            if side * ((bx - ax) * (point[1] - ay) - (by - ay) * (point[0] - ax)) < 0:
                break
            chain.pop()
        chain.append(point)
    return chain


def _convex_count(y: list[int], left: list[int], right: list[int]) -> int:
    outline = _chain(left, y, 1) + _chain(right, y, -1)[::-1]
    area = border = 0
    ax, ay = outline[-1]
    for bx, by in outline:
        area += ax * by - bx * ay
        border += gcd(bx - ax, by - ay)
        ax, ay = bx, by
    return (abs(area) + border) // 2 + 1


@dataclass(frozen=True, eq=False)
class Sums:
    """Sums over the pixels of objects.

    Parameters
    ----------
    number : ndarray of int64, shape (n,)
        Object numbers, rising.
    value : ndarray of int64, shape (n,)
        Their classes.
    total : ndarray of float64, shape (n, 6)
        Sums of 1, y, x, y², x² and x·y in pixels.
    box : ndarray of int64, shape (n, 4)
        First row and column, and one past the last.
    """

    number: Integers
    value: Integers
    total: NDArray[np.float64]
    box: Integers

    def __getitem__(self, keep: Any) -> Sums:
        return Sums(self.number[keep], self.value[keep], self.total[keep], self.box[keep])

    @classmethod
    def joined(cls, parts: list[Sums]) -> Sums:
        """Put the objects of several measurements one after another."""
        if not parts:
            empty = np.zeros(0, np.int64)
            return cls(empty, empty, np.zeros((0, 6)), np.zeros((0, 4), np.int64))
        return cls(
            np.concatenate([part.number for part in parts]),
            np.concatenate([part.value for part in parts]),
            np.concatenate([part.total for part in parts]),
            np.concatenate([part.box for part in parts]),
        )

    def merged(self, number: Integers) -> Sums:
        """Give the objects new numbers and add up those that share one."""
        numbers, first, inverse = np.unique(number, return_index=True, return_inverse=True)
        total = np.zeros((len(numbers), 6))
        np.add.at(total, inverse, self.total)
        box = self.box[first]
        np.minimum.at(box[:, :2], inverse, self.box[:, :2])
        np.maximum.at(box[:, 2:], inverse, self.box[:, 2:])
        return Sums(numbers, self.value[first], total, box)


def measure(
    labels: NDArray[np.integer], classes: NDArray[np.integer], y: int = 0, x: int = 0
) -> tuple[Sums, Extents]:
    """Measure the objects of a part of a plane.

    Parameters
    ----------
    labels : ndarray of int, shape (H, W)
        Object numbers; 0 is background.
    classes : ndarray of int, shape (H, W)
        An object's class is that of its first pixel.
    y, x : int
        Where the part lies in the plane.
    """
    # Runs of equal numbers in a row are far fewer than pixels, and sums over one are closed forms.
    inside = labels != 0
    starts, ends = inside.copy(), inside.copy()
    starts[:, 1:] &= labels[:, 1:] != labels[:, :-1]
    ends[:, :-1] &= labels[:, :-1] != labels[:, 1:]
    rows, left = np.nonzero(starts)
    right = np.nonzero(ends)[1]
    numbers, first, which = np.unique(
        labels[rows, left].astype(np.int64), return_index=True, return_inverse=True
    )
    value = classes[rows[first], left[first]].astype(np.int64)
    rows, left, right = rows + y, left + x, right + x
    length = (right - left + 1).astype(np.float64)
    middle = (left + right) / 2
    squares = length * (middle**2 + (length**2 - 1) / 12)
    weights = (length, length * rows, length * middle, length * rows**2.0, squares)
    sums = [np.bincount(which, w, len(numbers)) for w in (*weights, length * rows * middle)]
    box = np.zeros((len(numbers), 4), np.int64)
    box[:, :2] = np.iinfo(np.int64).max
    np.minimum.at(box[:, 0], which, rows)
    np.minimum.at(box[:, 1], which, left)
    np.maximum.at(box[:, 2], which, rows + 1)
    np.maximum.at(box[:, 3], which, right + 1)
    extents = Extents.of(numbers[which], rows, left, right)
    return Sums(numbers, value, np.stack(sums, axis=1), box), extents


def object_columns(sums: Sums, convex: Integers, scale: tuple[float, float]) -> Columns:
    """Return the object table as columns, in physical units.

    Parameters
    ----------
    sums : Sums
    convex : ndarray of int64, shape (n,)
        Pixels in the convex hull of each object.
    scale : tuple of float
        Pixel height and width.
    """
    count = sums.total[:, 0]
    y, x, yy, xx, xy = (sums.total[:, column] / count for column in range(1, 6))
    height, width = scale
    vertical = np.maximum(yy - y * y, 0.0) * height**2
    horizontal = np.maximum(xx - x * x, 0.0) * width**2
    mixed = (xy - x * y) * height * width
    # Eigenvalues of the covariance; an ellipse of half axes a, b has a²/4 and b²/4.
    middle = (vertical + horizontal) / 2
    spread = np.hypot((vertical - horizontal) / 2, mixed)
    large, small = middle + spread, np.maximum(middle - spread, 0.0)
    ratio = np.divide(small, large, out=np.ones_like(large), where=large > 0)
    return {
        "index": sums.number.astype(np.float64),
        "class": sums.value.astype(np.float64),
        "area": count * height * width,
        "centroid_y": y * height,
        "centroid_x": x * width,
        "major_axis": 4 * np.sqrt(large),
        "minor_axis": 4 * np.sqrt(small),
        "eccentricity": np.sqrt(1 - ratio),
        "solidity": count / np.maximum(convex, 1),
    }
