"""Segmentation metrics per image, in the paper's and in the plain definition.

The paper's figures replace a true-positive count of zero by one; the plain ones do not, and
call two empty masks a perfect match.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

__all__ = [
    "Confusion",
    "bootstrap_interval",
    "class_counts",
    "confusion",
    "dice",
    "hd95",
    "image_metrics",
    "iou",
    "pooled_dice",
]

BoolMask = NDArray[np.bool_]


@dataclass(frozen=True)
class Confusion:
    """Pixel counts of a binary prediction against the truth.

    ``paper=True`` applies the released rule that a true-positive count of zero counts as one.
    """

    tp: int
    fp: int
    fn: int
    tn: int
    paper: bool = False

    @property
    def _tp(self) -> int:
        return max(self.tp, 1) if self.paper else self.tp

    @property
    def recall(self) -> float:
        """TP / (TP + FN); 1 when there is nothing to find."""
        return _ratio(self._tp, self._tp + self.fn)

    @property
    def precision(self) -> float:
        """TP / (TP + FP); 1 when nothing was marked."""
        return _ratio(self._tp, self._tp + self.fp)

    @property
    def dice(self) -> float:
        """2 TP / (2 TP + FP + FN), in [0, 1]."""
        return _ratio(2 * self._tp, 2 * self._tp + self.fp + self.fn)

    @property
    def iou(self) -> float:
        """TP / (TP + FP + FN), in [0, 1]."""
        return _ratio(self._tp, self._tp + self.fp + self.fn)

    @property
    def accuracy(self) -> float:
        """(TP + TN) / (TP + FP + FN + TN)."""
        return _ratio(self._tp + self.tn, self._tp + self.fp + self.fn + self.tn)

    @property
    def mae(self) -> float:
        """Mean absolute error of the binary masks: the share of wrong pixels."""
        return (self.fp + self.fn) / max(self.tp + self.fp + self.fn + self.tn, 1)


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else 1.0


def confusion(prediction: BoolMask, truth: BoolMask, paper: bool = False) -> Confusion:
    """Count pixels of two boolean masks of the same shape.

    Raises
    ------
    ValueError
        The shapes differ.
    """
    if prediction.shape != truth.shape:
        raise ValueError(
            f"prediction {prediction.shape} and truth {truth.shape} must have the same shape; "
            "resize one of them first"
        )
    p, t = prediction.astype(bool), truth.astype(bool)
    tp = int(np.count_nonzero(p & t))
    fp, fn = int(np.count_nonzero(p)) - tp, int(np.count_nonzero(t)) - tp
    return Confusion(tp, fp, fn, p.size - tp - fp - fn, paper)


def dice(prediction: BoolMask, truth: BoolMask) -> float:
    """Plain Dice coefficient in [0, 1]; two empty masks give 1."""
    return confusion(prediction, truth).dice


def iou(prediction: BoolMask, truth: BoolMask) -> float:
    """Plain intersection over union in [0, 1]; two empty masks give 1."""
    return confusion(prediction, truth).iou


def _surface(mask: BoolMask) -> BoolMask:
    surface: BoolMask = mask & ~ndimage.binary_erosion(mask, border_value=0)
    return surface


def hd95(prediction: BoolMask, truth: BoolMask, spacing: tuple[float, ...] | None = None) -> float:
    """95th percentile of the distances between the two boundaries, both directions pooled.

    Parameters
    ----------
    prediction, truth : ndarray of bool, same shape
    spacing : tuple of float, optional
        Pixel size per axis; the result has its unit (pixels without it).

    Returns
    -------
    float
        0 when both masks are empty, ``inf`` when one of them is.
    """
    p, t = prediction.astype(bool), truth.astype(bool)
    if not p.any() and not t.any():
        return 0.0
    if not p.any() or not t.any():
        return float("inf")
    edge_p, edge_t = _surface(p), _surface(t)
    to_t = ndimage.distance_transform_edt(~edge_t, sampling=spacing)[edge_p]
    to_p = ndimage.distance_transform_edt(~edge_p, sampling=spacing)[edge_t]
    return float(np.percentile(np.concatenate([to_t, to_p]), 95))


def image_metrics(
    prediction: NDArray[np.int64], truth: NDArray[np.int64], classes: int
) -> dict[str, float]:
    """Plain metrics of one class map, averaged over the foreground classes in either map.

    Parameters
    ----------
    prediction, truth : ndarray of int, shape (H, W)
        Class indices; pixels whose truth is negative are left out.
    classes : int
        Number of classes with background.

    Returns
    -------
    dict
        ``dice``, ``iou``, ``precision``, ``recall`` and ``mae`` in [0, 1], and ``hd95`` in pixels
        (NaN where only one map has the class). All are NaN without any foreground class.
    """
    valid = truth >= 0
    rows = []
    for value in range(1, classes):
        p, t = (prediction == value) & valid, truth == value
        if not p.any() and not t.any():
            continue
        counts = confusion(p[valid], t[valid])
        distance = hd95(p, t)
        rows.append(
            {
                "dice": counts.dice,
                "iou": counts.iou,
                "precision": counts.precision,
                "recall": counts.recall,
                "mae": counts.mae,
                "hd95": distance if np.isfinite(distance) else float("nan"),
            }
        )
    names = ("dice", "iou", "precision", "recall", "mae", "hd95")
    columns = {name: np.array([row[name] for row in rows]) for name in names}
    return {
        name: float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")
        for name, values in columns.items()
    }


def bootstrap_interval(
    values: NDArray[np.float64], level: float = 0.95, repeats: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean."""
    rng = np.random.default_rng(seed)
    return _middle(rng.choice(values, (repeats, len(values))).mean(axis=1), level)


def _middle(means: NDArray[np.float64], level: float) -> tuple[float, float]:
    """Return the ends of the middle part of the means of resamples."""
    low, high = np.percentile(means, [50 * (1 - level), 50 * (1 + level)])
    return float(low), float(high)


def class_counts(
    prediction: NDArray[np.int64], truth: NDArray[np.int64], classes: int
) -> NDArray[np.int64]:
    """Count the pixels of every class: right, predicted, and in the truth.

    Parameters
    ----------
    prediction, truth : ndarray of int, shape (H, W)
        Class indices; pixels whose truth is negative are left out.

    Returns
    -------
    ndarray of int64, shape (classes, 3)
    """
    p, t = prediction[truth >= 0], truth[truth >= 0]
    columns = (p[p == t], p, t)
    return np.stack([np.bincount(column, minlength=classes) for column in columns], axis=1)


def pooled_dice(
    counts: NDArray[np.int64], level: float = 0.95, repeats: int = 2000, seed: int = 0
) -> tuple[float, float, float]:
    """Return the mean over classes of the Dice of all images' pixels together.

    Parameters
    ----------
    counts : ndarray of int, shape (images, classes, 3)
        See :func:`class_counts`.

    Returns
    -------
    dice, low, high : float
        With the percentile bootstrap interval over images. Classes that a resample lacks are left
        out of its mean.
    """
    n = len(counts)
    turns = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), repeats)
    means = _mean_dice(np.tensordot(turns, counts, 1))
    return float(_mean_dice(counts.sum(axis=0))), *_middle(means, level)


def _mean_dice(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Average Dice over the last axis but one; classes that are nowhere do not count."""
    sizes = counts[..., 1] + counts[..., 2]
    there = sizes > 0
    ratio = 2 * counts[..., 0] / np.maximum(sizes, 1)
    mean: NDArray[np.float64] = (ratio * there).sum(axis=-1) / np.maximum(there.sum(axis=-1), 1)
    return mean
