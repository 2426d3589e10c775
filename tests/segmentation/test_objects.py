from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from napari_cvsuite.segmentation.objects import label_objects, object_table


def _discs(*centres: tuple[int, int], radius: int = 10) -> NDArray[np.uint8]:
    y, x = np.mgrid[:60, :80]
    mask = np.zeros((60, 80), np.uint8)
    for cy, cx in centres:
        mask[(y - cy) ** 2 + (x - cx) ** 2 <= radius**2] = 1
    return mask


def test_watershed_splits_touching_discs_that_components_join() -> None:
    classes = _discs((30, 20), (30, 37))
    assert label_objects(classes, "components").max() == 1
    split = label_objects(classes, "watershed")
    assert split.max() == 2
    assert np.array_equal(split > 0, classes > 0)
    assert split[30, 20] != split[30, 37]


def test_watershed_leaves_a_single_disc_whole() -> None:
    assert label_objects(_discs((30, 40), radius=17), "watershed").max() == 1


def test_small_objects_go_and_numbers_have_no_gap() -> None:
    classes = _discs((15, 15), (40, 60))
    classes[0, 0] = 1
    labels = label_objects(classes, "components", min_size=5)
    assert labels[0, 0] == 0
    assert set(np.unique(labels)) == {0, 1, 2}


def test_classes_do_not_join_and_holes_fill() -> None:
    classes = _discs((30, 30))
    classes[28:33, 28:33] = 0
    assert label_objects(classes, fill_holes=True)[30, 30] == 1
    classes[28:33, 28:33] = 2
    labels = label_objects(classes, fill_holes=True)
    assert labels.max() == 2 and labels[30, 30] != labels[30, 22]


def test_table_is_in_physical_units() -> None:
    classes = np.zeros((20, 30), np.uint8)
    classes[5:9, 10:20] = 1
    (row,) = object_table(label_objects(classes), classes, scale=(2.0, 0.5))
    assert row["area"] == pytest.approx(40 * 2.0 * 0.5)
    assert row["centroid_y"] == pytest.approx(6.5 * 2.0)
    assert row["centroid_x"] == pytest.approx(14.5 * 0.5)
    assert row["class"] == 1


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (3, 3)])
def test_tiny_and_empty_maps(shape: tuple[int, int]) -> None:
    assert object_table(label_objects(np.zeros(shape, np.uint8)), np.zeros(shape, np.uint8)) == []
    full = np.ones(shape, np.uint8)
    (row,) = object_table(label_objects(full), full)
    assert row["area"] == full.size


def test_unknown_method() -> None:
    with pytest.raises(ValueError, match="watershed"):
        label_objects(np.zeros((2, 2), np.uint8), "magic")
