"""What every distortion promises, and the arithmetic of those that have one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image as Picture
from scipy import ndimage

from napari_cvsuite.quality.distortions import (
    DISTORTIONS,
    LEVELS,
    DistortionError,
    distort,
    grained,
)

NAMES = list(DISTORTIONS)
ORDERED = [name for name, one in DISTORTIONS.items() if one.direction]


@pytest.fixture(scope="module")
def photo() -> NDArray[np.uint8]:
    path = Path(skimage.__file__).parent / "data" / "astronaut.png"
    return np.asarray(Picture.open(path))[100:292, 130:322]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32, np.float64])
@pytest.mark.parametrize("colour", [True, False])
def test_shape_type_and_range_stay(
    photo: NDArray[np.uint8], name: str, dtype: Any, colour: bool
) -> None:
    image = photo if colour else photo[..., 1]
    if dtype == np.uint16:
        image = image.astype(np.uint16) * 257
    elif dtype != np.uint8:
        image = (image / 255).astype(dtype)
    before = image.copy()
    spoilt = distort(image, name, 3)
    assert spoilt.shape == image.shape and spoilt.dtype == image.dtype
    np.testing.assert_array_equal(image, before)
    if np.dtype(dtype).kind == "f":
        assert spoilt.min() >= 0 and spoilt.max() <= 1
    changed = bool((spoilt != image).any())
    assert changed != (DISTORTIONS[name].needs_colour and not colour)


@pytest.mark.parametrize("name", NAMES)
def test_every_level_is_further_from_the_image(photo: NDArray[np.uint8], name: str) -> None:
    errors = [
        float(np.abs(distort(photo, name, level).astype(float) - photo).mean())
        for level in range(LEVELS + 1)
    ]
    assert errors[0] == 0
    assert errors == sorted(errors) and len(set(errors)) == LEVELS + 1


@pytest.mark.parametrize("name", NAMES)
def test_seeds_decide(photo: NDArray[np.uint8], name: str) -> None:
    first = distort(photo, name, 3, seed=5)
    np.testing.assert_array_equal(first, distort(photo, name, 3, seed=5))


@given(st.sampled_from(NAMES), st.integers(1, 9), st.integers(1, 9), st.integers(1, LEVELS))
def test_tiny_images_survive(name: str, height: int, width: int, level: int) -> None:
    image = np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8)
    assert distort(image, name, level).shape == image.shape


@pytest.mark.parametrize("name", ["gaussian blur", "motion blur", "defocus"])
def test_blur_keeps_a_flat_image_and_the_light_of_a_point(name: str) -> None:
    flat = np.full((64, 64), 0.4, np.float32)
    np.testing.assert_allclose(distort(flat, name, 5), flat, atol=1e-5)
    point = np.zeros((129, 129), np.float32)
    point[64, 64] = 1.0
    spread = distort(point, name, 4)
    assert spread.sum() == pytest.approx(1.0, abs=1e-3)
    centre = ndimage.center_of_mass(spread)
    np.testing.assert_allclose(centre, (64, 64), atol=0.05)


def test_defocus_is_a_disc() -> None:
    point = np.zeros((41, 41), np.float32)
    point[20, 20] = 1.0
    spread = distort(point, "defocus", 5)
    y, x = np.mgrid[-20:21, -20:21]
    radius = np.hypot(y, x)
    assert spread[radius < 7].min() == pytest.approx(1 / (np.pi * 64), rel=0.02)
    assert spread[radius > 9].max() < 1e-6


def test_noise_has_its_strength() -> None:
    gray = np.full((400, 400), 0.5, np.float64)
    sigma = DISTORTIONS["gaussian noise"].strengths[1]
    assert distort(gray, "gaussian noise", 2).std() == pytest.approx(sigma, rel=0.02)
    share = DISTORTIONS["salt and pepper"].strengths[2]
    spoilt = distort(gray, "salt and pepper", 3)
    assert np.isin(spoilt, (0, 1)).mean() == pytest.approx(share, rel=0.1)
    per_photon = DISTORTIONS["poisson noise"].strengths[0]
    assert distort(gray, "poisson noise", 1).var() == pytest.approx(0.5 * per_photon, rel=0.03)


@pytest.mark.parametrize("counted", [False, True])
def test_grain_is_even_or_grows_with_the_root_of_the_light(counted: bool) -> None:
    dark, light = (np.full((2, 100, 200, 3), value, np.uint8) for value in (51, 204))
    crops = np.concatenate([dark, light], axis=2)
    for seed in range(10):
        rng = np.random.default_rng(seed)
        noisy = grained(crops, 6.0, rng, counted).astype(float)
        assert (noisy == noisy[..., :1]).all()
        assert not np.array_equal(noisy[0], noisy[1])
        for half, share in ((noisy[:, :, :200], 0.2), (noisy[:, :, 200:], 0.8)):
            assert half.std() == pytest.approx(6.0 * (share**0.5 if counted else 1), rel=0.02)
        assert noisy[:, :, :200].mean() == pytest.approx(51, abs=0.2)
    crops[..., 0] = 9
    coloured = grained(crops, 6.0, np.random.default_rng(0), counted)
    assert not np.array_equal(coloured[..., 1], coloured[..., 2])


def test_banding_leaves_few_values() -> None:
    ramp = np.linspace(0, 1, 2000, dtype=np.float64)[None]
    assert len(np.unique(distort(ramp, "banding", 5))) == 5


def test_stripes_are_the_same_along_a_row() -> None:
    gray = np.full((50, 80), 0.5, np.float32)
    spoilt = distort(gray, "stripes", 3)
    assert np.ptp(spoilt, axis=1).max() < 1e-6 < np.ptp(spoilt[:, 0])


def test_dust_covers_its_share() -> None:
    white = np.ones((300, 300), np.float32)
    dimmed = (distort(white, "dust", 4) < 0.9).mean()
    assert 0.04 < dimmed < 0.16


@pytest.mark.parametrize(
    ("image", "name", "level", "said"),
    [
        (np.zeros((4, 4), np.uint8), "rust", 1, "gaussian blur"),
        (np.zeros((4, 4), np.uint8), "jpeg", 6, "between 0 and 5"),
        (np.zeros((0, 4), np.uint8), "jpeg", 1, "give one plane"),
        (np.zeros((4, 4, 4, 3), np.uint8), "jpeg", 1, "give one plane"),
        (np.zeros((4, 4, 2), np.uint8), "jpeg", 1, "give one plane"),
        (np.zeros((4, 4), np.int64), "jpeg", 1, "convert it to uint8"),
        (np.full((4, 4), np.nan), "jpeg", 1, "scale the image first"),
        (np.full((4, 4), 2.0), "jpeg", 1, "scale the image first"),
    ],
)
def test_what_cannot_be_used_is_refused(
    image: NDArray[Any], name: str, level: int, said: str
) -> None:
    with pytest.raises(DistortionError, match=said):
        distort(image, name, level)
