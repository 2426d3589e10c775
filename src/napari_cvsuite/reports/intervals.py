"""Values with their 95 % intervals."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["DRAWS", "Interval", "bootstrap_mean"]

DRAWS = 1000
"""Resamples of a bootstrap interval."""


@dataclass(frozen=True)
class Interval:
    """A value with its 95 % interval, here by the bootstrap (Efron 1979)."""

    value: float
    low: float
    high: float


def bootstrap_mean(values: NDArray[np.float64], seed: int) -> Interval:
    """Return the mean of values with the interval of means of resamples.

    Parameters
    ----------
    values : ndarray of float64, shape (N,)
        Of none the mean is NaN.
    seed : int
    """
    if not len(values):
        return Interval(math.nan, math.nan, math.nan)
    drawn = np.random.default_rng(seed).integers(len(values), size=(DRAWS, len(values)))
    low, high = np.quantile(values[drawn].mean(axis=1), [0.025, 0.975])
    return Interval(float(values.mean()), float(low), float(high))
