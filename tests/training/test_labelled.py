"""Labelled images: what the network sees of them, and what is held out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_cvsuite.training.labelled import Labelled, hold_out, seen, spread


@given(st.integers(1, 80), st.integers(1, 80), st.integers(1, 40))
def test_every_image_becomes_a_square(height: int, width: int, size: int) -> None:
    out = seen(np.full((height, width, 3), 7, np.uint8), size)
    assert out.shape == (size, size, 3) and (out == 7).all()


def test_the_middle_is_seen() -> None:
    image = np.zeros((4, 8, 3), np.uint8)
    image[:, 2:6] = 200
    assert (seen(image, 4) == 200).all()


def test_shrinking_averages() -> None:
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 254
    assert np.abs(seen(stripes, 8).astype(int) - 127).max() <= 6


def test_each_class_is_held_out_alike_and_nothing_is_lost() -> None:
    labels = np.array([0] * 20 + [1] * 10)
    data = Labelled(
        np.zeros((30, 2, 2, 3), np.uint8), labels, ("a", "b"), tuple(f"{i}" for i in range(30))
    )
    kept, held = hold_out(data, 0.2, seed=3)
    assert np.bincount(held.labels).tolist() == [4, 2]
    assert sorted(kept.names + held.names) == sorted(data.names)
    assert hold_out(data, 0.2, seed=3)[1].names == held.names
    assert len(hold_out(data, 0.0, seed=3)[1]) == 0
    with pytest.raises(ValueError, match="'b' has 10 images; that is too few"):
        hold_out(data, 0.03, seed=3)
    shown = replace(data, classes=("a", "b", "never seen"))
    assert hold_out(shown, 0.2, seed=3)[1].names == held.names


def test_few_images_are_as_many_of_each_class_as_there_are() -> None:
    found = [(Path(f"{label}{number}"), label) for label in "aaaab" for number in range(3)]
    chosen = spread(found, 5, seed=0)
    assert abs(sum(1 if label == "a" else -1 for _, label in chosen)) == 1
    assert spread(found, 5, seed=0) == chosen and len(spread(found, 99, seed=0)) == len(found)
