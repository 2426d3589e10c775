"""Tests of the reading of training data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image as Picture

from napari_cvsuite.images import ImageError
from napari_cvsuite.segmentation.data import (
    IGNORE,
    CropDataset,
    find_pairs,
    group_of,
    load_image,
    load_mask,
)


def test_a_stack_is_refused_and_a_single_plane_is_not(tmp_path: Path) -> None:
    path, axes = tmp_path / "a.tif", {"axes": "ZYX"}
    tifffile.imwrite(path, np.zeros((3, 8, 9), "u1"), photometric="minisblack", metadata=axes)
    for load in (load_image, lambda p: load_mask(p, 2)):
        with pytest.raises(ImageError, match=r"a\.tif.*3 planes.*save each plane"):
            load(path)
    tifffile.imwrite(path, np.eye(8, 9, dtype="u1")[None], metadata=axes)
    assert load_image(path).shape == (8, 9, 3)
    assert load_mask(path, 2).sum() == 8


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0, 1], [0, 1]),
        ([0, 255], [0, 1]),
        ([0, 2], [0, 1]),
        ([0, 0], [0, 0]),
        ([7, 7], [1, 1]),
        # Compression leaves values beside 0 and 255.
        ([0, 3, 130, 250, 255, 255], [0, 0, 1, 1, 1, 1]),
    ],
)
def test_two_classes(tmp_path: Path, values: list[int], expected: list[int]) -> None:
    Picture.fromarray(np.array([values], "u1")).save(tmp_path / "m.png")
    assert load_mask(tmp_path / "m.png", 2).tolist() == [expected]


@pytest.mark.parametrize("values", [[0, 1, 2, 2], [0, *range(1, 200)]])
def test_more_than_two_classes_are_not_taken_for_two(tmp_path: Path, values: list[int]) -> None:
    Picture.fromarray(np.array([values], "u1")).save(tmp_path / "m.png")
    with pytest.raises(ValueError, match="raise the number of classes"):
        load_mask(tmp_path / "m.png", 2)


def test_the_void_value_does_not_set_the_scale(tmp_path: Path) -> None:
    Picture.fromarray(np.array([[0, 1, 255]], "u1")).save(tmp_path / "m.png")
    assert load_mask(tmp_path / "m.png", 2, ignore=255).tolist() == [[0, 1, IGNORE]]


def test_coloured_and_broken_masks_are_refused(tmp_path: Path) -> None:
    gray = np.repeat(np.array([[[0], [255]]], "u1"), 3, axis=2)
    Picture.fromarray(gray).save(tmp_path / "gray.png")
    assert load_mask(tmp_path / "gray.png", 2).tolist() == [[0, 1]]
    gray[0, 1, 0] = 0
    Picture.fromarray(gray).save(tmp_path / "colour.png")
    with pytest.raises(ImageError, match="gray values"):
        load_mask(tmp_path / "colour.png", 2)
    for value in (0.5, np.nan):
        np.save(tmp_path / "m.npy", np.array([[0.0, value]]))
        with pytest.raises(ImageError, match="whole numbers"):
            load_mask(tmp_path / "m.npy", 2)
    np.save(tmp_path / "m.npy", np.array([[0, -3]]))
    with pytest.raises(ValueError, match="0 and above"):
        load_mask(tmp_path / "m.npy", 2)


def test_only_images_make_pairs_and_names_are_unique(tmp_path: Path) -> None:
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
        for name in ("a.png", "a.json", ".b.png", "Thumbs.db"):
            (tmp_path / folder / name).touch()
    pairs = find_pairs(tmp_path / "images", tmp_path / "masks")
    assert [pair.image.name for pair in pairs] == ["a.png"]
    (tmp_path / "masks/a.tif").touch()
    with pytest.raises(ValueError, match="keep one"):
        find_pairs(tmp_path / "images", tmp_path / "masks")
    with pytest.raises(ValueError, match="check its name"):
        group_of(pairs, tmp_path / "none.csv", "kind")


def test_upright_crops_are_mirrored_but_never_upside_down() -> None:
    y, x = np.mgrid[:96, :96].astype(np.float32) / 48 - 1
    image, mask = np.stack([y, x, 0 * x], axis=-1), np.zeros((96, 96), int)

    def slopes(orientation: str) -> tuple[np.ndarray, np.ndarray]:
        """How much crops rise downwards in the first channel, to the right in the second."""
        dataset = CropDataset([image], [mask], 64, 1.0, augment=0.0, orientation=orientation)
        crops = np.stack([dataset.crop(0, turn, 0)[0] for turn in range(60)])
        down = crops[:, 0, 48:].mean(axis=(1, 2)) - crops[:, 0, :16].mean(axis=(1, 2))
        right = crops[:, 1, :, 48:].mean(axis=(1, 2)) - crops[:, 1, :, :16].mean(axis=(1, 2))
        return down, right

    down, right = slopes("upright")
    assert down.min() > 0.4
    assert right.min() < -0.4 and right.max() > 0.4
    assert slopes("any")[0].min() < -0.4
