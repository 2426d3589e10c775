"""Labels cut to what a network sees of their image."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from napari_cvsuite.images import Image, ImageError
from napari_cvsuite.jobs import Context
from napari_cvsuite.models.planes import Planes
from napari_cvsuite.models.subject import Subject, opened, see_plane
from napari_cvsuite.neurons.options import NeuronOptions
from napari_cvsuite.neurons.seen_labels import seen_mask

PLANE = np.random.default_rng(0).integers(0, 255, (64, 96), np.uint8)


@pytest.fixture
def subject(tiny_classifier: str) -> Iterator[Subject]:
    with opened(NeuronOptions(model=tiny_classifier), Context()) as found:
        yield found


def _mask(pixels: np.ndarray, labels: np.ndarray, subject: Subject, number: int = 0) -> np.ndarray:
    planes = Planes(Image.from_array(pixels), subject.options)
    seen = see_plane(planes, number, subject)
    return seen_mask(Image.from_array(labels, name="cells"), planes, seen, subject)


def test_the_mask_is_that_of_the_middle_square(subject: Subject) -> None:
    labels = np.zeros(PLANE.shape, np.int32)
    # The network sees columns 16 to 80, and two pixels of the image as one.
    labels[10:20, 20:28] = 7
    labels[:, :16] = 3
    expected = np.zeros((32, 32), bool)
    expected[5:10, 2:6] = True
    np.testing.assert_array_equal(_mask(PLANE, labels, subject), expected)


def test_slices_have_their_own_labels_or_share_one(subject: Subject) -> None:
    stack = np.stack([PLANE] * 3)
    labels = np.zeros(stack.shape, bool)
    labels[1, :, 16:48], labels[2, :, 48:80] = True, True
    assert _mask(stack, labels, subject, 1)[:, :16].all()
    assert not _mask(stack, labels, subject, 2)[:, :16].any()
    shared = [_mask(stack, labels[1], subject, number) for number in range(3)]
    assert all(np.array_equal(one, shared[1]) for one in shared)


def test_labels_that_cannot_be_used(subject: Subject) -> None:
    empty = np.zeros(PLANE.shape, np.uint8)
    with pytest.raises(ImageError, match=r"cells marks nothing .* draw the object there"):
        _mask(PLANE, empty, subject)
    outside = empty.copy()
    outside[:, :16] = 1
    with pytest.raises(ImageError, match="marks nothing"):
        _mask(PLANE, outside, subject)
    with pytest.raises(ImageError, match="labels of the same size"):
        _mask(PLANE, empty[:, :90] + 1, subject)
    with pytest.raises(ImageError, match="whole numbers"):
        _mask(PLANE, empty + 0.5, subject)
