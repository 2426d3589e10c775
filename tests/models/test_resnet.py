"""Residual networks: what the compact one is shown of an image."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import uniform_filter

from napari_cvsuite.models.resnet import LocalStatistics, compact


@pytest.mark.parametrize("last", [False, True])
def test_statistics_are_those_of_squares_around_each_pixel(last: bool) -> None:
    image = np.random.default_rng(2).uniform(0, 1, (3, 9, 12))
    x = torch.from_numpy((image - 0.45) / 0.225)[None]
    if last:
        x = x.contiguous(memory_format=torch.channels_last)
    colours, detail, normalised, variance, energy = LocalStatistics()(x)[0].split([3, 3, 1, 1, 1])

    def box(values: np.ndarray, side: int) -> np.ndarray:
        return uniform_filter(values, (0, side, side)[-values.ndim :], mode="nearest")

    gray = image.mean(axis=0)
    left = image - box(image, 3)
    spread = box(gray**2, 7) - box(gray, 7) ** 2
    np.testing.assert_array_equal(colours, x[0])
    np.testing.assert_allclose(detail, 8 * left, atol=1e-12)
    np.testing.assert_allclose(normalised[0], (gray - box(gray, 7)) / np.sqrt(spread + 1e-4))
    np.testing.assert_allclose(variance[0], (np.log(spread + 1e-5) + 6) / 2.5)
    expected = (np.log(box(left**2, 3).mean(axis=0) + 1e-6) + 8) / 2.5
    np.testing.assert_allclose(energy[0], expected)


def test_what_the_compact_network_sees_has_a_gradient() -> None:
    x = torch.rand(1, 3, 33, 40, requires_grad=True)
    maps = compact((8, 8, 16, 16, 16))(x)
    assert [tuple(one.shape[2:]) for one in maps] == [(17, 20), (9, 10), (5, 5), (3, 3), (2, 2)]
    sum(one.sum() for one in maps).backward()
    assert torch.isfinite(x.grad).all() and (x.grad != 0).any()
