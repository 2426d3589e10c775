"""Distorted copies: the kit, arithmetic, and what every one promises."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from kits import load_rule
from PIL import Image as Picture
from torch import Tensor

from napari_cvsuite.neurons.controls import (
    CONTROLS,
    black_and_white,
    blur,
    corruption_error,
    distorted,
    edges,
    gaussian_noise,
    grey,
    scramble,
    silhouette,
)

rule = load_rule("robust_cnn")


@pytest.fixture(scope="module")
def photos() -> Tensor:
    picture = Picture.open(Path(skimage.__file__).parent / "data" / "astronaut.png")
    pixels = torch.from_numpy(np.asarray(picture)[:96, 180:276] / 255)
    image = pixels.permute(2, 0, 1).float()
    return torch.stack([image, image.flip(-1), image[:, :48].repeat(1, 2, 1)])


def test_the_kit() -> None:
    def scrambled(case: dict[str, Any]) -> dict[str, Any]:
        image = torch.from_numpy(case["image"])
        return {f"g{tiles}": scramble(image, tiles, case["seed"]) for tiles in (2, 4)}

    rule.check({"scramble": scrambled})


def test_the_published_order_of_four_tiles() -> None:
    image = torch.tensor([[0.0, 1.0], [2.0, 3.0]]) / 3
    found = scramble(image.repeat(1, 3, 1, 1), 2)
    assert (found[0, 0] * 3).flatten().tolist() == [2, 3, 1, 0]


@settings(deadline=None)
@given(
    count=st.integers(1, 2),
    height=st.integers(1, 19),
    width=st.integers(1, 19),
    tiles=st.integers(1, 8),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    seed=st.integers(0, 300),
)
def test_scrambling_is_a_permutation_of_the_middle(
    count: int, height: int, width: int, tiles: int, dtype: torch.dtype, seed: int
) -> None:
    size = 3 * height * width
    image = (torch.arange(count * size, dtype=dtype) / (count * size)).view(count, 3, height, width)
    if tiles > min(height, width):
        with pytest.raises(ValueError, match="cannot be cut"):
            scramble(image, tiles, seed)
        return
    found = scramble(image, tiles, seed)
    high, wide = height - height % tiles, width - width % tiles
    top, left = (height - high) // 2, (width - wide) // 2
    middle = image[:, :, top : top + high, left : left + wide]
    assert found.shape == middle.shape and found.dtype == dtype
    for one, other in zip(found.flatten(0, 1), middle.flatten(0, 1), strict=True):
        assert torch.equal(one.flatten().sort().values, other.flatten().sort().values)
    # The pixels of a tile stay together: the upper left one of the first slot is a tile's corner.
    corner = (middle[0, 0] == found[0, 0, 0, 0]).nonzero()[0].tolist()
    assert corner[0] % (high // tiles) == 0 and corner[1] % (wide // tiles) == 0


@pytest.mark.parametrize("name", list(CONTROLS))
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_what_every_control_promises(photos: Tensor, name: str, dtype: torch.dtype) -> None:
    images = photos.to(dtype)
    before = images.clone()
    masks = images[:, 0] > 0.5
    for level in CONTROLS[name].levels or (None,):
        whole = distorted(images, name, level, masks)
        assert whole.shape == images.shape and whole.dtype == dtype
        assert float(whole.min()) >= 0 and float(whole.max()) <= 1
        assert bool((whole != images).flatten(1).any(1).all())
        parts = [distorted(images[k : k + 1], name, level, masks[k : k + 1], k) for k in range(3)]
        assert torch.equal(torch.cat(parts), whole)
    assert torch.equal(images, before)
    assert CONTROLS[name].name == name and CONTROLS[name].tag in ("paper", "secondary", "ours")


@pytest.mark.parametrize("name", ["noise", "blur"])
def test_levels_are_ordered(photos: Tensor, name: str) -> None:
    errors = [
        float((distorted(photos, name, level) - photos).abs().mean())
        for level in CONTROLS[name].levels
    ]
    assert errors == sorted(errors) and len(set(errors)) == 3


def test_left_out_levels_are_the_mildest(photos: Tensor) -> None:
    assert torch.equal(distorted(photos, "blur"), blur(photos, 1))
    assert torch.equal(distorted(photos, "scrambled"), scramble(photos, 2))


def test_grey_of_the_primary_colours() -> None:
    primaries = torch.eye(3).view(3, 3, 1, 1)
    assert grey(primaries)[:, 0].flatten().tolist() == pytest.approx([0.299, 0.587, 0.114])
    assert torch.equal(grey(primaries)[:, 0], grey(primaries)[:, 2])
    white = torch.ones(1, 3, 2, 2)
    torch.testing.assert_close(grey(white), white)


def test_edges_lie_where_a_square_ends() -> None:
    image = torch.zeros(1, 3, 24, 24)
    image[:, :, 8:16, 8:16] = 1
    found = edges(image)[0, 0]
    assert set(found.unique().tolist()) == {0.0, 1.0}
    assert not found[10:14, 10:14].any() and not found[:6].any() and not found[:, :6].any()
    # Each side is found within a pixel.
    for line in (found[12], found[:, 12]):
        places = line.nonzero().flatten().tolist()
        assert places and all(min(abs(p - 7.5), abs(p - 15.5)) <= 1 for p in places)
    assert not edges(torch.full((1, 3, 9, 9), 0.4)).any()


def test_two_shades_become_black_and_white() -> None:
    image = torch.full((2, 3, 4, 4), 0.3)
    image[:, :, 1] = 0.6
    image[1] = 0.5
    found = black_and_white(image)
    assert torch.equal(found[0], (image[0] > 0.5).float())
    assert not found[1].any()


def test_silhouettes_are_masks() -> None:
    labels = torch.tensor([[[0, 7], [1, 0]]])
    assert silhouette(labels).tolist() == [[[[0, 1], [1, 0]]] * 3]
    with pytest.raises(ValueError, match="B x H x W"):
        silhouette(labels[0])


def test_noise_has_its_deviation_and_seeds_decide() -> None:
    image = torch.full((2, 3, 100, 100), 0.5)
    found = gaussian_noise(image, 0.1, seed=3)
    assert float((found - image).std()) == pytest.approx(0.1, rel=0.01)
    assert float((found - image).mean()) == pytest.approx(0, abs=0.002)
    assert torch.equal(found, gaussian_noise(image, 0.1, seed=3))
    assert not torch.equal(found[0], found[1])
    assert torch.equal(found[1], gaussian_noise(image[1:], 0.1, seed=4)[0])
    assert torch.equal(gaussian_noise(image, 0), image)


def test_blur_of_a_point_is_a_gaussian() -> None:
    image = torch.zeros(1, 3, 41, 41, dtype=torch.float64)
    image[:, :, 20, 20] = 1
    found = blur(image, 2)[0, 1]
    assert float(found.sum()) == pytest.approx(1)
    assert float(found[20, 22] / found[20, 20]) == pytest.approx(np.exp(-0.5), rel=1e-6)
    flat = torch.full((1, 3, 8, 8), 0.25)
    torch.testing.assert_close(blur(flat, 4), flat)


def test_corruption_errors_by_hand() -> None:
    found = corruption_error(
        {"noise": [0.2, 0.4], "fog": [0.3, 0.3]}, {"noise": [0.4, 0.8], "fog": [0.2, 0.1]}
    )
    assert dict(found.each) == pytest.approx({"noise": 0.5, "fog": 2.0})
    assert found.mean == pytest.approx(1.25)


@pytest.mark.parametrize(
    ("errors", "baseline", "message"),
    [
        ({}, {}, "same corruptions"),
        ({"fog": [0.1]}, {"snow": [0.1]}, "same corruptions"),
        ({"fog": [0.1]}, {"fog": [0.1, 0.2]}, "same severities"),
        ({"fog": [float("nan")]}, {"fog": [0.1]}, "0 or more"),
        ({"fog": [-0.1]}, {"fog": [0.1]}, "0 or more"),
        ({"fog": [0.1]}, {"fog": [0.0]}, "leave that out"),
        ({"fog": []}, {"fog": []}, "leave that out"),
    ],
)
def test_corruption_errors_refuse(
    errors: dict[str, list[float]], baseline: dict[str, list[float]], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        corruption_error(errors, baseline)


IMAGE = torch.full((1, 3, 8, 8), 0.5)


@pytest.mark.parametrize(
    ("images", "name", "level", "message"),
    [
        (IMAGE, "fog", None, "use one of scrambled"),
        (IMAGE, "scrambled", 2.5, "whole numbers"),
        (IMAGE, "scrambled", 9, "take 1 to 8"),
        (IMAGE, "scrambled", 0, "take 1 to 8"),
        (IMAGE, "noise", -0.1, "0 or more"),
        (IMAGE, "blur", float("nan"), "0 or more"),
        (IMAGE, "silhouette", None, "needs a mask"),
        (IMAGE * 255, "grey", None, "scale them first"),
        (IMAGE * float("nan"), "edges", None, "without NaN"),
        (IMAGE.to(torch.uint8), "blur", 1, "floats"),
        (IMAGE[0], "blur", 1, "B x 3 x H x W"),
        (IMAGE[:0], "noise", 0.1, "one image or more"),
    ],
)
def test_bad_inputs(images: Tensor, name: str, level: float | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        distorted(images, name, level)
