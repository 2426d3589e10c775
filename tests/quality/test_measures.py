"""Plain measures by arithmetic."""

from __future__ import annotations

import numpy as np
import pytest

from napari_cvsuite.quality.measures import measure


def _gray(plane: np.ndarray) -> np.ndarray:
    return np.repeat(plane[..., None], 3, axis=2).astype(np.float32)


def test_noise_is_found_in_per_cent_of_the_range() -> None:
    rng = np.random.default_rng(0)
    found = measure(_gray(0.5 + 0.02 * rng.standard_normal((400, 400))))
    assert found.noise == pytest.approx(2.0, rel=0.03)
    # The Laplacian of white noise has 20 times its variance: four neighbours and the centre.
    assert found.sharpness == pytest.approx(20 * (0.02 * 255) ** 2, rel=0.03)
    assert found.clipped == 0


def test_a_ramp_is_neither_sharp_nor_noisy() -> None:
    found = measure(_gray(np.tile(np.linspace(0.1, 0.9, 200), (200, 1))))
    assert found.sharpness < 0.1 and found.noise < 0.01


def test_clipped_counts_black_and_white() -> None:
    plane = np.full((10, 10), 0.5)
    plane[0] = 0
    plane[1, :5] = 1
    assert measure(_gray(plane)).clipped == pytest.approx(15.0)
