from __future__ import annotations

import math

import numpy as np
import pytest

from napari_cvsuite.segmentation.metrics import (
    bootstrap_interval,
    class_counts,
    confusion,
    dice,
    hd95,
    image_metrics,
    iou,
    pooled_dice,
)


def test_counts_of_two_overlapping_squares() -> None:
    a, b = np.zeros((10, 10), bool), np.zeros((10, 10), bool)
    a[0:4, 0:4] = True
    b[2:6, 0:4] = True
    counted = confusion(a, b)
    assert (counted.tp, counted.fp, counted.fn, counted.tn) == (8, 8, 8, 76)
    assert dice(a, b) == pytest.approx(0.5)
    assert iou(a, b) == pytest.approx(1 / 3)
    assert counted.mae == pytest.approx(0.16)


def test_paper_rule_counts_no_hit_as_one() -> None:
    a, b = np.zeros((4, 4), bool), np.zeros((4, 4), bool)
    a[0, 0], b[3, 3] = True, True
    assert dice(a, b) == 0
    assert confusion(a, b, paper=True).dice == pytest.approx(2 / 4)


def test_shapes_must_agree() -> None:
    with pytest.raises(ValueError, match="same shape"):
        dice(np.zeros((2, 2), bool), np.zeros((3, 3), bool))


def test_hd95_of_shifted_bars_is_the_shift_in_units() -> None:
    a, b = np.zeros((40, 40), bool), np.zeros((40, 40), bool)
    a[:, 10], b[:, 13] = True, True
    assert hd95(a, b) == pytest.approx(3.0)
    assert hd95(a, b, spacing=(1.0, 0.5)) == pytest.approx(1.5)
    assert hd95(a, a) == 0
    assert math.isinf(hd95(a, np.zeros_like(a)))
    assert hd95(np.zeros_like(a), np.zeros_like(a)) == 0


def test_bootstrap_interval_holds_the_mean() -> None:
    values = np.linspace(0.0, 1.0, 101)
    low, high = bootstrap_interval(values)
    assert 0.4 < low < 0.5 < high < 0.6


def test_image_metrics_leave_void_and_absent_classes_out() -> None:
    # Class 1: one hit, one miss; class 2 lies in the void alone.
    truth = np.array([[1, 1, -100, 0]])
    found = image_metrics(np.array([[1, 0, 2, 0]]), truth, 3)
    assert found["dice"] == pytest.approx(2 / 3)
    assert found["iou"] == pytest.approx(1 / 2)
    assert (found["precision"], found["recall"]) == (1.0, 0.5)
    assert found["mae"] == pytest.approx(1 / 3)
    nothing = image_metrics(np.zeros((1, 2), int), np.zeros((1, 2), int), 3)
    assert all(np.isnan(value) for value in nothing.values())


def test_class_counts_leave_void_out() -> None:
    truth = np.array([[0, 1, 1, 2], [-100, 1, 2, 2]])
    prediction = np.array([[0, 1, 2, 2], [1, 1, 2, 0]])
    assert class_counts(prediction, truth, 4).tolist() == [
        [1, 2, 1],
        [2, 2, 3],
        [2, 3, 3],
        [0, 0, 0],
    ]


def test_pooled_dice_adds_pixels_before_it_divides() -> None:
    # Two images with a class each of 10 and 90 pixels, and a class that only the second has.
    counts = np.array([[[10, 10, 10], [0, 0, 0]], [[0, 10, 90], [30, 60, 30]]])
    first, second = 2 * 10 / (20 + 100), 2 * 30 / (60 + 30)
    dice, low, high = pooled_dice(counts)
    assert dice == pytest.approx((first + second) / 2)
    # A resample holds the first image twice, the second twice, or both.
    ends = sorted([1.0, (0.0 + second) / 2, dice])
    assert low == pytest.approx(ends[0]) and high == pytest.approx(ends[-1])


def test_pooled_dice_of_nothing_is_zero() -> None:
    assert pooled_dice(np.zeros((2, 1, 3), int)) == (0.0, 0.0, 0.0)
