"""Bootstrap intervals of means."""

from __future__ import annotations

import math

import numpy as np

from napari_cvsuite.reports.intervals import Interval, bootstrap_mean


def test_equal_values_have_no_spread() -> None:
    assert bootstrap_mean(np.full(5, 2.0), 0) == Interval(2.0, 2.0, 2.0)


def test_of_nothing_there_is_no_mean() -> None:
    assert math.isnan(bootstrap_mean(np.empty(0), 0).value)


def test_the_interval_is_that_of_the_normal_approximation() -> None:
    # 100 values, half 0 and half 1: the mean has a deviation of 0.05, so +- 0.098.
    found = bootstrap_mean(np.repeat([0.0, 1.0], 50), 0)
    assert found.value == 0.5
    assert abs(found.low - 0.402) < 0.02 and abs(found.high - 0.598) < 0.02


def test_the_same_seed_gives_the_same_interval() -> None:
    values = np.arange(20.0)
    assert bootstrap_mean(values, 3) == bootstrap_mean(values, 3)
