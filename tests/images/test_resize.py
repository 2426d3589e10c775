from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from kits import load_rule

from napari_cvsuite.images.image import ImageError
from napari_cvsuite.images.resize import (
    pad_square,
    resize_longest_side,
    resize_nearest,
    rgb_to_ycrcb,
)

KIT = Path(__file__).parents[1] / "conformance" / "qtseg"


rule = load_rule("qtseg")
ENTRIES: list[dict[str, Any]] = json.loads((KIT / "vectors.json").read_text())["preprocess"]


def _name(entry: dict[str, Any]) -> str:
    return f"{entry['name']}-{entry['img_size']}-{'ycrcb' if entry['ycrcb'] else 'rgb'}"


def _resized(entry: dict[str, Any]) -> npt.NDArray[np.uint8]:
    image = rule.make_image(entry["name"], entry["h"], entry["w"])
    assert zlib.crc32(image.tobytes()) == entry["image_crc32"]
    return resize_longest_side(image, entry["img_size"])


def _scaled(image: npt.NDArray[Any]) -> torch.Tensor:
    values = image.astype(np.float64)
    low, high = values.min(), values.max()
    scaled = 2 * (values - low) / (high - low) - 1
    return torch.from_numpy(scaled.transpose(2, 0, 1).copy())


def _same_stats(tensor: torch.Tensor, want: dict[str, Any]) -> None:
    got = rule.stats(tensor)
    assert got.pop("shape") == want["shape"]
    for key, value in got.items():
        assert value == pytest.approx(want[key], abs=1e-6), key


def test_all_entries_are_there() -> None:
    assert len(ENTRIES) == 6


@pytest.mark.parametrize("entry", ENTRIES, ids=_name)
def test_resized_as_opencv(entry: dict[str, Any]) -> None:
    image = _resized(entry)
    assert list(image.shape) == entry["resized_shape"]
    assert image.dtype == np.uint8
    assert image.mean() == pytest.approx(entry["resized_mean"], abs=1e-5)
    assert zlib.crc32(image.tobytes()) == entry["resized_crc32"]


@pytest.mark.parametrize("entry", ENTRIES, ids=_name)
def test_training_order(entry: dict[str, Any]) -> None:
    image = _resized(entry)
    if entry["ycrcb"]:
        image = rgb_to_ycrcb(image)
    tensor = _scaled(pad_square(image, entry["img_size"]))
    want = entry["train_order"]
    assert rule.sample(tensor[None], want["grid"]) == pytest.approx(want["values"], abs=1e-6)
    _same_stats(tensor, want["stats"])


@pytest.mark.parametrize("entry", ENTRIES, ids=_name)
def test_inference_order(entry: dict[str, Any]) -> None:
    image = pad_square(_resized(entry), entry["img_size"])
    if entry["ycrcb"]:
        image = rgb_to_ycrcb(image)
    _same_stats(_scaled(image), entry["infer_order"]["stats"])


def test_halving_rounds_halves_up() -> None:
    image = np.zeros((2, 4, 3), np.uint8)
    image[0, 0] = 2
    image[0, 2] = 1
    assert resize_longest_side(image, 2).tolist() == [[[1, 1, 1], [0, 0, 0]]]


@pytest.mark.parametrize(("factor", "channels"), [(3, 3), (4, 1), (2, 2)])
def test_whole_factors_are_block_means(factor: int, channels: int) -> None:
    image = np.random.default_rng(0).integers(
        0, 256, (4 * factor, 5 * factor, channels), dtype=np.uint8
    )
    want = image.reshape(4, factor, 5, factor, channels).mean(axis=(1, 3))
    assert np.array_equal(resize_longest_side(image, 5), np.rint(want))


@pytest.mark.parametrize("size", [1, 2, 3, 7, 20, 23, 31, 40, 100])
@pytest.mark.parametrize("shape", [(23, 31, 3), (31, 23, 1), (1, 40, 4), (40, 1, 3), (1, 1, 3)])
def test_flat_images_stay_flat(shape: tuple[int, int, int], size: int) -> None:
    result = resize_longest_side(np.full(shape, 200, np.uint8), size)
    assert max(result.shape[:2]) == size
    assert min(result.shape[:2]) == max(1, min(shape[:2]) * size // max(shape[:2]))
    assert np.array_equal(result, np.full(result.shape, 200))


def test_shrinking_shares_cut_pixels() -> None:
    image = np.tile(np.array([0, 90, 180], np.uint8)[None, :, None], (3, 1, 1))
    # Half of the middle pixel goes to each side: (0 + 45) / 1.5 and (45 + 180) / 1.5.
    want = [[30, 150], [30, 150]]
    assert resize_longest_side(image, 2)[..., 0].tolist() == want
    assert resize_longest_side(image.transpose(1, 0, 2), 2)[..., 0].T.tolist() == want


def test_enlarging_repeats_for_whole_factors() -> None:
    image = np.array([[[10], [20]], [[30], [40]]], np.uint8)
    assert np.array_equal(
        resize_longest_side(image, 6)[..., 0], np.kron(image[..., 0], np.ones((3, 3)))
    )


def test_same_size_is_a_copy() -> None:
    image = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    result = resize_longest_side(image, 4)
    assert np.array_equal(result, image)
    assert not np.shares_memory(result, image)


@pytest.mark.parametrize(
    ("image", "size"),
    [
        (np.zeros((4, 4, 3), np.float32), 2),
        (np.zeros((4, 4), np.uint8), 2),
        (np.zeros((0, 4, 3), np.uint8), 2),
        (np.zeros((4, 4, 3), np.uint8), 0),
    ],
)
def test_resize_refuses(image: Any, size: int) -> None:
    with pytest.raises(ImageError):
        resize_longest_side(image, size)


def test_nearest_takes_floor() -> None:
    mask = np.arange(6, dtype=np.int32).reshape(2, 3)
    result = resize_nearest(mask, (3, 5))
    assert result.dtype == np.int32
    assert result.tolist() == [[0, 0, 1, 1, 2], [0, 0, 1, 1, 2], [3, 3, 4, 4, 5]]
    assert resize_nearest(result, (2, 3)).tolist() == [[0, 0, 1], [0, 0, 1]]


@pytest.mark.parametrize(("shape", "target"), [((4,), (2, 2)), ((0, 4), (2, 2)), ((4, 4), (0, 2))])
def test_nearest_refuses(shape: tuple[int, ...], target: tuple[int, int]) -> None:
    with pytest.raises(ImageError):
        resize_nearest(np.zeros(shape), target)


def test_ycrcb_of_known_colours() -> None:
    rgb = np.array([[[0, 0, 0], [255, 255, 255], [255, 0, 0], [0, 255, 0], [0, 0, 255]]], np.uint8)
    assert rgb_to_ycrcb(rgb).tolist() == [
        [[0, 128, 128], [255, 128, 128], [76, 255, 85], [150, 21, 43], [29, 107, 255]]
    ]


@pytest.mark.parametrize(
    "image", [np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((4, 3), np.uint8)]
)
def test_ycrcb_refuses(image: Any) -> None:
    with pytest.raises(ImageError):
        rgb_to_ycrcb(image)


@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 3), (4, 4, 1)])
def test_padding_is_bottom_and_right(shape: tuple[int, ...]) -> None:
    padded = pad_square(np.ones(shape, np.uint8), 4)
    assert padded.shape == (4, 4, *shape[2:])
    assert padded.dtype == np.uint8
    assert np.all(padded[: shape[0], : shape[1]] == 1)
    assert padded.sum() == np.prod(shape)


@pytest.mark.parametrize("shape", [(5, 3, 3), (3, 5), (3,)])
def test_padding_refuses(shape: tuple[int, ...]) -> None:
    with pytest.raises(ImageError):
        pad_square(np.zeros(shape), 4)
