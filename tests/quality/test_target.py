"""The label of distorted images."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_cvsuite.quality.distortions import distort
from napari_cvsuite.quality.target import gradient_similarity, likeness, target

RNG = np.random.default_rng(0)


def _tensor(image: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(image.transpose(2, 0, 1).astype(np.float32) / 255)[None]


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    from skimage.data import astronaut

    return np.ascontiguousarray(astronaut()[80:272, 120:312])


def test_an_image_is_like_itself(picture: np.ndarray) -> None:
    one = _tensor(picture)
    assert float(target(one, one)) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("name", ["gaussian blur", "gaussian noise", "jpeg", "stripes", "banding"])
def test_the_label_falls_with_the_level(picture: np.ndarray, name: str) -> None:
    worse = torch.cat([_tensor(distort(picture, name, level)) for level in range(6)])
    found = target(worse, _tensor(picture).expand(6, -1, -1, -1))
    assert (found.diff() < 0).all() and (found >= 0).all() and (found <= 1).all()


def test_each_measure_counts_for_each_image_alone(picture: np.ndarray) -> None:
    one, other = _tensor(picture), _tensor(distort(picture, "speckle", 3))
    both = likeness(torch.cat([one, other]), torch.cat([one, one]))
    assert both.shape == (2, 3)
    torch.testing.assert_close(both[1:], likeness(other, one))


def test_flat_images_have_a_label() -> None:
    flat = torch.full((1, 3, 192, 192), 0.5)
    assert float(target(flat, flat)) == 1.0


def test_gradient_similarity_by_hand() -> None:
    # A step of height h between halves: Prewitt gives h on both columns beside it, 0 elsewhere.
    def step(height: float) -> torch.Tensor:
        image = torch.zeros(1, 1, 8, 8)
        image[..., 4:] = height
        return image

    constant = 170 / 255**2
    one, other = 0.5**2, 0.25**2
    edge = (2 * 0.5 * 0.25 + constant) / (one + other + constant)
    expected = (2 * edge + 2) / 4  # After halving, 2 of 4 columns.
    assert float(gradient_similarity(step(0.5), step(0.25))) == pytest.approx(expected, abs=1e-6)


def test_small_and_unequal_images_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 176"):
        target(torch.rand(1, 3, 175, 200), torch.rand(1, 3, 175, 200))
    with pytest.raises(ValueError, match="same shape"):
        target(torch.rand(1, 3, 192, 200), torch.rand(1, 3, 192, 192))
