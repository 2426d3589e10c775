from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from skimage.measure import regionprops

from napari_cvsuite.segmentation.measures import Sums, measure, object_columns
from napari_cvsuite.segmentation.objects import object_table

MAPS = hnp.arrays(
    np.int32, st.tuples(st.integers(1, 12), st.integers(1, 12)), elements=st.integers(0, 3)
)


def _pixels_in_hull(mask: NDArray[np.bool_]) -> int:
    """Count by definition: a point is outside if it sees the set within less than half a turn."""
    points = np.argwhere(mask)
    count = 0
    for y, x in np.ndindex(mask.shape):
        away = points - (y, x)
        if not away.any(axis=1).all():
            count += 1
            continue
        angles = np.sort(np.arctan2(away[:, 0], away[:, 1]))
        gaps = np.diff([*angles, angles[0] + 2 * np.pi])
        count += gaps.max() <= np.pi + 1e-9
    return count


@settings(max_examples=150, deadline=None)
@given(MAPS)
def test_moments_are_those_of_scikit_image_and_hulls_those_of_the_definition(
    labels: NDArray[np.int32],
) -> None:
    table = object_table(labels, labels, (2.0, 0.5))
    regions = regionprops(labels, spacing=(2.0, 0.5))
    assert [row["index"] for row in table] == [region.label for region in regions]
    for row, region in zip(table, regions, strict=True):
        assert row["class"] == region.label
        assert row["area"] == pytest.approx(region.area)
        assert (row["centroid_y"], row["centroid_x"]) == pytest.approx(region.centroid)
        assert row["major_axis"] == pytest.approx(region.axis_major_length, abs=1e-5)
        assert row["minor_axis"] == pytest.approx(region.axis_minor_length, abs=1e-5)
        mask = labels == region.label
        assert row["solidity"] == pytest.approx(mask.sum() / _pixels_in_hull(mask))
        assert 0 <= row["eccentricity"] <= 1


@settings(max_examples=60, deadline=None)
@given(MAPS, st.integers(1, 12))
def test_pieces_add_up(labels: NDArray[np.int32], cut: int) -> None:
    whole, _ = measure(labels, labels)
    above, below = (
        measure(part, part, y)[0] for part, y in ((labels[:cut], 0), (labels[cut:], cut))
    )
    both = Sums.joined([above, below])
    joined = both.merged(both.number)
    assert np.array_equal(joined.number, whole.number)
    assert np.array_equal(joined.total, whole.total)
    assert np.array_equal(joined.box, whole.box)


def test_a_far_bar_has_the_measures_of_arithmetic() -> None:
    bar = np.ones((5, 20), np.int32)
    sums, extents = measure(bar, bar, y=100_000, x=200_000)
    numbers, convex = extents.convex_pixels()
    columns = object_columns(sums, convex, (1.0, 1.0))
    assert numbers.tolist() == [1] and convex.tolist() == [100]
    assert sums.box.tolist() == [[100_000, 200_000, 100_005, 200_020]]
    assert columns["centroid_y"] == pytest.approx(100_002)
    assert columns["centroid_x"] == pytest.approx(200_009.5)
    # The variance of n equally spaced points is (n² - 1) / 12.
    assert columns["major_axis"] == pytest.approx(4 * np.sqrt(399 / 12), rel=1e-4)
    assert columns["minor_axis"] == pytest.approx(4 * np.sqrt(24 / 12), rel=1e-4)
    assert columns["eccentricity"] == pytest.approx(np.sqrt(1 - 24 / 399), rel=1e-4)
    assert columns["solidity"] == 1
